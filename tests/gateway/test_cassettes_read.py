"""Every recorded exchange with a model provider, read through the protocols and counted again from the raw bytes."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from gateway.cassettes import Recorded, exchanges
from gateway.streams import assembled, assert_same_however_cut
from leyden.gateway.decoding import decoded, read_json
from leyden.gateway.reading import Said
from leyden.gateway.wires import wire_of
from leyden.ingest.usage import Usage

# What the recordings hold, so that no test passes on nothing.
USED = {"chat": 292, "completions": 43, "responses": 82, "embeddings": 45, "messages": 105}
REASONS = {
    "stop": 302,
    "end_turn": 94,
    "completed": 82,
    "length": 64,
    "tool_calls": 56,
    "function_call": 12,
    "tool_use": 11,
    "content_filter": 3,
}
CALLS = {"chat": 84, "completions": 0, "responses": 23, "embeddings": 0, "messages": 19}
ERRORS = {"invalid_request_error": 8, "401": 6, "content_filter": 3}
MESSAGES = {"chat": 547, "completions": 62, "responses": 144, "embeddings": 54, "messages": 117}
TOOLS = {"chat": 76, "completions": 0, "responses": 54, "embeddings": 0, "messages": 24}


def body_of(recorded: Recorded) -> dict[str, Any]:
    data, problem = decoded([recorded.body], recorded.encoding)
    assert problem is None
    if not recorded.is_stream:
        return read_json(data)
    assembler = assembled(recorded.door, *(data[i : i + 1000] for i in range(0, len(data), 1000)))
    assert (assembler.is_complete, assembler.broken) == (True, 0), recorded.name
    return assembler.body()


def said_in(recorded: Recorded) -> Said:
    return wire_of(recorded.door).said(body_of(recorded))


def test_the_recorded_exchanges_are_all_there() -> None:
    found = exchanges()
    assert Counter(one.door for one in found) == {
        "chat": 384,
        "completions": 62,
        "responses": 82,
        "embeddings": 51,
        "messages": 105,
    }
    assert Counter(one.door for one in found if one.is_stream) == {
        "chat": 85,
        "completions": 19,
        "responses": 23,
        "messages": 44,
    }
    assert sum(one.encoding == "gzip" for one in found) == 335


def raw_usage(recorded: Recorded) -> dict[str, Any] | None:
    """The usage in the raw answer; of Anthropic's stream the first counts, then what the later ones change."""
    merged: dict[str, Any] = {}
    for value in recorded.objects():
        for holder in (value, value.get("message"), value.get("response")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            merged |= {k: v for k, v in (usage or {}).items() if v is not None}
    return merged or None


def recounted(door: str, usage: dict[str, Any] | None) -> Usage | None:
    if not usage:
        return None
    if door == "messages":
        thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0)
        return Usage(
            input=usage["input_tokens"],
            cache_read=usage.get("cache_read_input_tokens", 0),
            cache_write=usage.get("cache_creation_input_tokens", 0) - hour,
            cache_write_1h=hour,
            output=usage["output_tokens"] - thought,
            reasoning=thought,
        )
    side = ("input", "output") if door == "responses" else ("prompt", "completion")
    taken, made = (usage.get(f"{name}_tokens", 0) for name in side)
    details_in, details_out = (usage.get(f"{name}_tokens_details") or {} for name in side)
    read = details_in.get("cached_tokens") or 0
    sound_in, sound_out = (details.get("audio_tokens") or 0 for details in (details_in, details_out))
    thought = details_out.get("reasoning_tokens") or 0
    sound_out = min(
        sound_out, made - thought
    )  # one recording, made up by hand, has more parts than it has tokens
    return Usage(
        input=taken - read - sound_in,
        cache_read=read,
        output=made - thought - sound_out,
        reasoning=thought,
        audio_input=sound_in,
        audio_output=sound_out,
    )


def test_usage_is_what_the_raw_answer_counts() -> None:
    counted = Counter[str]()
    total = Usage()
    for recorded in exchanges():
        usage = said_in(recorded).usage
        assert usage == recounted(recorded.door, raw_usage(recorded)), recorded.name
        counted[recorded.door] += usage is not None
        total = Usage(*(a + b for a, b in zip(total, usage or Usage(), strict=True)))
    assert counted == USED
    assert min(total.input, total.cache_read, total.cache_write, total.output, total.reasoning) > 0


def test_usage_adds_up_to_the_totals_that_openai_gives() -> None:
    checked = 0
    for recorded in exchanges():
        usage, raw = said_in(recorded).usage, raw_usage(recorded)
        if usage is not None and raw is not None and "total_tokens" in raw:
            assert usage.all_input + usage.all_output == raw["total_tokens"], recorded.name
            checked += 1
    assert checked == sum(USED.values()) - USED["messages"]


def raw_finish(recorded: Recorded) -> Counter[str]:
    reasons: list[str | None] = []
    for value in recorded.objects():
        reasons += [choice.get("finish_reason") for choice in value.get("choices") or ()]
        reasons += (
            [(value.get("delta") or {}).get("stop_reason")] if value.get("type") == "message_delta" else []
        )
        reasons += [value.get("stop_reason")] if value.get("type") == "message" else []
        last = value if value.get("object") == "response" else {}
        last = (
            value["response"]
            if str(value.get("type")) in ("response.completed", "response.incomplete")
            else last
        )
        reasons += [((last.get("incomplete_details") or {}).get("reason")) or last.get("status")]
    return Counter(reason for reason in reasons if reason)


def test_finish_reasons_are_those_of_the_raw_answer() -> None:
    seen = Counter[str]()
    for recorded in exchanges():
        reasons = said_in(recorded).finish_reasons
        assert Counter(reasons) == raw_finish(recorded), recorded.name
        seen.update(reasons)
    assert seen == REASONS


def raw_calls(recorded: Recorded) -> list[tuple[str, Any]]:
    """Names and arguments of the tool calls that the raw answer asks a client to make."""
    names: dict[Any, str] = {}
    arguments: dict[Any, str] = defaultdict(str)
    for value in recorded.objects():
        for choice in value.get("choices") or ():
            message = choice.get("message") or choice.get("delta") or {}
            calls = list(message.get("tool_calls") or ())
            calls += [{"function": message["function_call"]}] if message.get("function_call") else []
            for at, call in enumerate(calls):
                key = choice.get("index", 0), call.get("index", at)
                names[key] = names.get(key) or call["function"].get("name")
                arguments[key] += call["function"].get("arguments") or ""
        if recorded.door == "responses" and value.get("type") in (None, "response.completed"):
            for at, item in enumerate((value.get("response") or value).get("output") or ()):
                if item["type"] == "function_call":
                    names[at], arguments[at] = item["name"], item["arguments"]
        block = value.get("content_block") or {}
        if block.get("type") == "tool_use":
            names[value["index"]] = block["name"]
        if value.get("type") == "content_block_delta" and value["delta"]["type"] == "input_json_delta":
            arguments[value["index"]] += value["delta"]["partial_json"]
        if value.get("type") == "message":
            for at, block in enumerate(value["content"]):
                if block["type"] == "tool_use":
                    names[at], arguments[at] = block["name"], json.dumps(block["input"])
    return [(names[key], json.loads(arguments[key] or "{}")) for key in sorted(names)]


def test_tool_calls_are_those_of_the_raw_answer() -> None:
    made = Counter[str]()
    for recorded in exchanges():
        said = said_in(recorded)
        parts = [
            part for message in said.messages for part in message["parts"] if part["type"] == "tool_call"
        ]
        assert [(part["name"], part["arguments"]) for part in parts] == raw_calls(recorded), recorded.name
        chat = [call["function"] for message in said.completion for call in message.get("tool_calls") or ()]
        legacy = [message["function_call"] for message in said.completion if message.get("function_call")]
        read = [(call["name"], json.loads(call["arguments"] or "{}")) for call in chat + legacy]
        assert read == raw_calls(recorded), recorded.name
        made[recorded.door] += len(parts)
    assert made == CALLS


def raw_text(recorded: Recorded) -> str:
    said: list[str] = []
    for value in recorded.objects():
        for choice in sorted(value.get("choices") or (), key=lambda choice: choice.get("index", 0)):
            message = choice.get("message") or choice.get("delta") or {}
            said += [message.get("content") or "", choice.get("text") or ""]
        if value.get("type") == "message":
            said += [block.get("text", "") for block in value["content"]]
        if recorded.is_stream and value.get("type") == "response.output_text.delta":
            said.append(value["delta"])
        elif recorded.is_stream and value.get("type") == "content_block_delta":
            said.append(value["delta"].get("text", ""))
        elif value.get("object") == "response":
            blocks = [block for item in value["output"] for block in item.get("content") or ()]
            said += [block.get("text", "") for block in blocks]
    return "".join(said)


def test_the_text_is_that_of_the_raw_answer() -> None:
    chars = 0
    for recorded in exchanges():
        said = said_in(recorded)
        text = "".join(message["content"] or "" for message in said.completion)
        if len(said.completion) == 1:
            assert text == raw_text(recorded), recorded.name
        assert Counter(text) == Counter(raw_text(recorded)), recorded.name
        chars += len(text)
    assert chars > 100_000


def test_errors_have_the_type_and_message_of_the_raw_answer() -> None:
    kinds = Counter[str]()
    for recorded in exchanges():
        error = said_in(recorded).error
        is_error = any(value.get("error") for value in recorded.objects())
        assert (error is not None) == (is_error or recorded.status >= 400), recorded.name
        if error is not None:
            kinds[error[0]] += 1
            assert error[1].encode() in recorded.plain
    assert kinds == ERRORS


@pytest.mark.parametrize("door", ["chat", "completions", "responses", "messages"])
def test_recorded_streams_read_the_same_wherever_they_are_cut(door: str) -> None:
    streams = [one for one in exchanges() if one.is_stream and one.door == door and len(one.body) < 20_000]
    assert len(streams) > 10
    for one in streams[:40]:
        assert_same_however_cut(one.door, one.body, list(range(0, len(one.body), 7)))


def test_requests_read_with_all_their_messages_and_tools() -> None:
    messages, tools = Counter[str](), Counter[str]()
    for recorded in exchanges():
        asked = wire_of(recorded.door).asked(recorded.asked)
        if recorded.door in ("chat", "messages"):
            raw = recorded.asked["messages"]
            assert [m["role"] for m in asked.messages] == [m["role"] for m in raw], recorded.name
        assert len(asked.tools) == len(recorded.asked.get("tools") or recorded.asked.get("functions") or ())
        assert all(part["type"] != "generic" for m in asked.messages for part in m["parts"]), recorded.name
        assert asked.parameters.get("temperature") == recorded.asked.get("temperature")
        assert bool(asked.system) == bool(recorded.asked.get("system") or recorded.asked.get("instructions"))
        assert asked.prompt
        messages[recorded.door] += len(asked.messages)
        tools[recorded.door] += len(asked.tools)
    assert messages == MESSAGES
    assert tools == TOOLS
