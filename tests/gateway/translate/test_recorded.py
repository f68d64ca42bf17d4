"""Recorded calls of real providers lose no text, no tool argument and no token in translation.

What the recordings say is read here without the product's readers.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gateway.translate.wire import to_chat, to_messages, to_responses, told, whole
from leyden.errors import BadInput
from leyden.gateway.translate import translator

PATHS = {"/chat/completions": "chat", "/v1/messages": "messages", "/v1/responses": "responses"}
UPSTREAMS = {"chat": ["messages"], "messages": ["chat"], "responses": ["chat", "messages"]}


class Recorded(NamedTuple):
    """One exchange: the door it went through, its request, status, and its answer as bytes."""

    door: str
    asked: dict[str, Any]
    status: int
    is_stream: bool
    answer: bytes


class Content(NamedTuple):
    """What an answer holds: text, calls as (id, name, arguments), and all tokens in and out."""

    text: str
    calls: list[tuple[str, str, Any]]
    tokens: tuple[int, int]


@pytest.fixture
def recorded(data_dir: Path) -> list[Recorded]:
    return _recorded(data_dir / "llm-cassettes")


@cache
def _recorded(root: Path) -> list[Recorded]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = (yaml.load(path.read_bytes(), Loader=loader) for path in sorted(root.rglob("*.yaml")))
    return [found for document in documents for found in _exchanges(document)]


def _exchanges(document: Any) -> Iterator[Recorded]:
    for exchange in document.get("interactions", []):
        request, response = exchange["request"], exchange["response"]
        uri = request["uri"].split("?")[0]
        door = next((door for end, door in PATHS.items() if uri.endswith(end)), None)
        body = response["body"].get("string")
        if door is None or not request["body"] or body is None:
            continue
        answer = body.encode() if isinstance(body, str) else body
        if answer.startswith(b"\x1f\x8b"):
            answer = gzip.decompress(answer)
        is_stream = answer.startswith((b"data:", b"event:"))
        asked = request["body"] if isinstance(request["body"], str) else request["body"].decode()
        yield Recorded(door, json.loads(asked), response["status"]["code"], is_stream, answer)


def chat_content(body: dict[str, Any]) -> Content:
    message = body["choices"][0].get("message", {})  # none where Azure filtered the answer
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or []
    ]
    return Content(
        message.get("content") or message.get("refusal") or "", calls, chat_tokens(body.get("usage"))
    )


def chat_stream_content(chunks: list[dict[str, Any]]) -> Content:
    text, calls, usage = "", dict[int, list[str]](), None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            if choice["index"] != 0:
                continue
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or []:
                parts = calls.setdefault(call["index"], ["", "", ""])
                parts[0] += call.get("id") or ""
                parts[1] += call["function"].get("name") or ""
                parts[2] += call["function"].get("arguments") or ""
    read = [(parts[0], parts[1], json.loads(parts[2])) for parts in calls.values()]
    return Content(text, read, chat_tokens(usage))


def chat_tokens(usage: Any) -> tuple[int, int]:
    return (usage["prompt_tokens"], usage["completion_tokens"]) if usage else (0, 0)


def messages_content(body: dict[str, Any]) -> Content:
    text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
    calls = [
        (block["id"], block["name"], block["input"])
        for block in body["content"]
        if block["type"] == "tool_use"
    ]
    return Content(text, calls, messages_tokens(body["usage"]))


def messages_stream_content(events: list[dict[str, Any]]) -> Content:
    text, calls, usage = "", dict[int, list[str]](), dict[str, Any]()
    for event in events:
        match event["type"]:
            case "message_start":
                usage |= event["message"]["usage"]
            case "message_delta":
                usage |= event["usage"]
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                block = event["content_block"]
                calls[event["index"]] = [block["id"], block["name"], ""]
            case "content_block_delta":
                text += event["delta"].get("text", "")
                if "partial_json" in event["delta"]:
                    calls[event["index"]][2] += event["delta"]["partial_json"]
            case _:
                pass
    read = [(parts[0], parts[1], json.loads(parts[2] or "{}")) for parts in calls.values()]
    return Content(text, read, messages_tokens(usage))


def messages_tokens(usage: dict[str, Any]) -> tuple[int, int]:
    cached = (usage.get(f"cache_{part}_input_tokens") or 0 for part in ("read", "creation"))
    return usage["input_tokens"] + sum(cached), usage["output_tokens"]


def response_content(body: dict[str, Any]) -> Content:
    items = body["output"]
    text = "".join(item["content"][0]["text"] for item in items if item["type"] == "message")
    calls = [
        (item["call_id"], item["name"], json.loads(item["arguments"]))
        for item in items
        if item["type"] == "function_call"
    ]
    return Content(text, calls, (body["usage"]["input_tokens"], body["usage"]["output_tokens"]))


def test_every_recorded_chat_stream_arrives_as_messages(recorded: list[Recorded]) -> None:
    counts = Counter[str]()
    for call in recorded:
        if call.door != "chat" or not call.is_stream:
            continue
        sent = chat_stream_content(told(call.answer.replace(b"\r", b"")))
        events = told(whole(to_messages(), call.answer, cuts=range(0, len(call.answer), 100)))
        assert events[-1]["type"] == "message_stop"
        got = messages_stream_content(events)
        assert got[:2] == sent[:2]
        if sent.tokens != (0, 0):
            assert got.tokens == sent.tokens
            counts["usage"] += 1
        counts.update(streams=1, calls=len(sent.calls), texts=bool(sent.text))
    assert counts == {"streams": 85, "texts": 62, "calls": 29, "usage": 4}


def test_every_recorded_messages_stream_arrives_as_chat(recorded: list[Recorded]) -> None:
    counts = Counter[str]()
    for call in recorded:
        if call.door != "messages" or not call.is_stream:
            continue
        sent = messages_stream_content(told(call.answer.replace(b"\r", b"")))
        options = {"stream_options": {"include_usage": True}}
        chunks = told(whole(to_chat(**options), call.answer, cuts=range(0, len(call.answer), 100)))
        assert chunks[-1] == {}
        assert chat_stream_content(chunks) == sent
        counts.update(streams=1, calls=len(sent.calls), texts=bool(sent.text))
    assert counts == {"streams": 44, "texts": 44, "calls": 8}


def test_every_recorded_answer_of_messages_arrives_as_a_response(recorded: list[Recorded]) -> None:
    counts = Counter[str]()
    for call in recorded:
        if call.door != "messages" or call.status >= 400:
            continue
        if call.is_stream:
            sent = messages_stream_content(told(call.answer.replace(b"\r", b"")))
            stream = to_responses("messages")
            last = told(whole(stream, call.answer, cuts=range(0, len(call.answer), 100)))[-1]
            assert last["type"] in ("response.completed", "response.incomplete")
            assert response_content(last["response"]) == sent
        else:
            bridge = translator("responses", "messages")
            assert bridge is not None
            body = json.loads(call.answer)
            assert response_content(bridge.answer(call.status, body)) == messages_content(body)
        counts.update(streams=call.is_stream, calls=len(sent.calls) if call.is_stream else 0, all=1)
    assert counts == {"streams": 44, "calls": 8, "all": 105}


def test_every_recorded_answer_arrives_in_the_other_protocol(recorded: list[Recorded]) -> None:
    counts = Counter[str]()
    for call in recorded:
        if call.is_stream or call.door == "responses":
            continue
        body = json.loads(call.answer)
        other = "messages" if call.door == "chat" else "chat"
        bridge = translator(other, call.door)  # type: ignore[arg-type]
        assert bridge is not None
        made = bridge.answer(call.status, body)
        if "error" in body:
            assert made["error"]["message"] == body["error"]["message"]
            counts[f"{call.door} errors"] += 1
            continue
        if call.door == "chat":
            assert messages_content(made) == chat_content(body)
        else:
            assert chat_content(made) == messages_content(body)
        counts[call.door] += 1
    assert counts == {"chat": 288, "chat errors": 11, "messages": 61}


def test_recorded_requests_are_carried_or_refused_by_name(recorded: list[Recorded]) -> None:
    carried, refused = Counter[str](), Counter[str]()
    for call, upstream in ((one, upstream) for one in recorded for upstream in UPSTREAMS[one.door]):
        bridge = translator(call.door, upstream)  # type: ignore[arg-type]
        assert bridge is not None
        pair = f"{call.door} on {upstream}"
        try:
            bridge.request(call.asked)
            carried[pair] += 1
        except BadInput as error:
            refused[f"{pair}, {error.message}"] += 1
    assert carried == {
        "chat on messages": 370,
        "messages on chat": 105,
        "responses on chat": 76,
        "responses on messages": 76,
    }
    no_memory = "previous_response_id: the upstream keeps no earlier responses; send the whole conversation as `input`"
    no_search = "tools[0].type: the tool 'web_search_preview' exists at OpenAI only"
    assert refused == {
        "chat on messages, n: Anthropic gives one answer for each call": 2,
        "chat on messages, functions: this form is no longer in use; define `tools`": 12,
        f"responses on chat, {no_memory}": 3,
        f"responses on chat, {no_search}": 3,
        f"responses on messages, {no_memory}": 3,
        f"responses on messages, {no_search}": 3,
    }
