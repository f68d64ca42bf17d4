"""Whatever a client or an upstream sends: a request is carried or refused, an answer is translated; nothing breaks."""

import contextlib
import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.translate.test_chat_stream import START, STOP, TEXT, begin, close, delta, finish
from gateway.translate.test_messages_stream import USAGE
from gateway.translate.wire import call, chat_bytes, chunk, to_chat, to_messages, to_responses, whole
from leyden.errors import BadInput
from leyden.gateway.translate import estimate_tokens, translator

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "a"]), inner, max_size=2)
    ),
    max_leaves=3,
)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
DOCUMENT = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}
MESSAGES_REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 1,
    "system": [{"type": "text", "text": "x"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE, DOCUMENT]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            ],
        },
        {"role": "system", "content": "x"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}]},
    ],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "metadata": {"user_id": "u"},
    "thinking": {"type": "adaptive"},
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
    "stop_sequences": ["x"],
}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT_REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "x"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "x"}},
            ],
        },
        {"role": "assistant", "content": None, "refusal": "x", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
    "reasoning_effort": "low",
    "stop": ["x"],
    "user": "u",
    "stream_options": {"include_usage": True},
    "temperature": 1,
}
RESPONSES_REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "x",
    "input": [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "x"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    "reasoning": {"effort": "low"},
}
CHAT_ANSWER: dict[str, Any] = {
    "id": "x",
    "model": "m",
    "choices": [
        {"message": {"content": "x", "reasoning": "x", "tool_calls": [CALL]}, "finish_reason": "stop"}
    ],
    "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 1}},
}
MESSAGES_ANSWER: dict[str, Any] = {
    "id": "x",
    "model": "m",
    "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "id": "a", "name": "f", "input": {}}],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}},
}
CHUNKS: list[Any] = [
    chunk({"content": "x", "reasoning": "x", "refusal": "x"}),
    call(0, "{", id="a", name="f"),
    call(1, "{}", id="b", name="f"),
    call(0, "}"),
    chunk({}, finish="stop", usage=USAGE),
    {"error": {"message": "x", "type": "x", "code": 400}},
]
EVENTS: list[Any] = [
    START,
    *TEXT,
    begin(1, type="tool_use", id="a", name="f", input={}),
    delta(1, type="input_json_delta", partial_json="{}"),
    close(1),
    finish("tool_use"),
    {"type": "error", "error": {"type": "x", "message": "x"}},
    STOP,
]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*at, key), *places(item, (*at, key))]]


@st.composite
def spoiled(draw: st.DrawFn, plain: Any) -> Any:
    """A value with up to three of its parts replaced by something odd."""
    value = copy.deepcopy(plain)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(value)))
        inside = value
        for key in way:
            inside = inside[key]
        inside[last] = draw(ODD)
        if not places(value):
            break
    return value


@settings(max_examples=300)
@given(spoiled(MESSAGES_REQUEST), spoiled(CHAT_REQUEST), spoiled(RESPONSES_REQUEST))
def test_a_request_is_carried_or_refused(
    messages: dict[str, Any], chat: dict[str, Any], responses: dict[str, Any]
) -> None:
    for client, upstream, body in (
        ("messages", "chat", messages),
        ("chat", "messages", chat),
        ("responses", "chat", responses),
        ("responses", "messages", responses),
    ):
        bridge = translator(client, upstream)  # type: ignore[arg-type]
        assert bridge is not None
        assert estimate_tokens(body) >= 1
        with contextlib.suppress(BadInput):
            json.dumps(bridge.request(body))


@settings(max_examples=300)
@given(spoiled(CHAT_ANSWER), spoiled(MESSAGES_ANSWER), st.sampled_from([200, 400, 500]))
def test_an_answer_is_translated(chat: dict[str, Any], messages: dict[str, Any], status: int) -> None:
    for client, upstream, body in (
        ("messages", "chat", chat),
        ("responses", "chat", chat),
        ("chat", "messages", messages),
        ("responses", "messages", messages),
    ):
        bridge = translator(client, upstream)  # type: ignore[arg-type]
        assert bridge is not None
        json.dumps(bridge.answer(status, body))


@settings(max_examples=300)
@given(spoiled(CHUNKS), spoiled(EVENTS))
def test_a_stream_is_translated(chunks: list[Any], events: list[Any]) -> None:
    assert whole(to_messages(thinking={"type": "adaptive"}), chat_bytes(chunks))
    assert whole(to_responses(), chat_bytes(chunks))
    sent = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)
    assert whole(to_chat(), sent)
    assert whole(to_responses("messages"), sent)
