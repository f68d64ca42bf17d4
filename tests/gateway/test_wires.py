"""All protocols against what nobody sends on purpose."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams import JSON, assembled, odd_json, sse
from leyden.gateway.call import Door
from leyden.gateway.wires import WIRES, wire_of

WORDS = [
    "messages", "role", "content", "parts", "type", "text", "image_url", "url", "tool_calls", "function", "name", "arguments", "tools",
    "input", "prompt", "choices", "delta", "index", "finish_reason", "logprobs", "tokens", "token_logprobs", "top_logprobs", "token_ids",
    "usage", "prompt_tokens", "prompt_tokens_details", "error", "message", "metadata", "user_id", "input_audio", "file", "tool", "source",
    "system", "tool_use", "tool_result", "thinking", "output", "summary", "function_call", "call_id", "status", "incomplete_details",
    "data:image/png;base64,AAAA", "response", "item", "part", "output_index", "content_index", "reasoning", "custom", "audio", "id",
    "blob", "uri", "tool_call", "refusal", "reasoning_text", "document", "image", "mime_type", "modality", "tool_call_response", "generic",
    "content_block", "partial_json", "x_groq", "image_generation_call", "result", "web_search_tool_result", "server_tool_use",
]  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), odd_json(WORDS), max_size=8) | JSON)
def test_no_json_makes_any_reader_raise(value: Any) -> None:
    for wire in WIRES.values():
        if isinstance(value, dict):
            wire.asked(value)
        wire.said(value)


@settings(deadline=None)
@given(st.sampled_from(WORDS), st.dictionaries(st.sampled_from(WORDS), odd_json(WORDS), max_size=6))
def test_no_content_block_makes_any_reader_raise(kind: str, fields: dict[str, Any]) -> None:
    block = {**fields, "type": kind}
    for content in ([block], [{"type": "tool_result", "content": [block]}]):
        for wire in WIRES.values():
            wire.asked(
                {
                    "messages": [{"role": "user", "content": content}],
                    "input": content,
                    "system": content,
                    "instructions": content,
                }
            )
            wire.said(
                {
                    "choices": [{"message": {"content": content, **fields}}],
                    "content": content,
                    "output": content,
                }
            )


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(WORDS), odd_json(WORDS), max_size=8), max_size=5))
def test_no_stream_makes_any_assembler_raise(events: list[Any]) -> None:
    stream = sse(*[{"type": "message_start"} | event for event in events])
    for door, wire in WIRES.items():
        wire.said(assembled(door, stream).body())


def test_json_nested_a_thousand_deep_makes_no_reader_raise() -> None:
    deep: Any = "x"
    for i in range(900):
        deep = (
            {"content": deep, "type": "tool_result", "delta": deep}
            if i < 3
            else {"content": [deep], "type": "tool_result"}
        )
    for wire in WIRES.values():
        wire.asked({"messages": [{"role": "user", "content": [deep]}], "input": [deep], "system": deep})
        wire.said({"choices": [{"message": {"content": deep}}], "content": [deep], "output": [deep]})
    nested = b'{"a":[' * 450 + b"1" + b"]}" * 450
    for door in WIRES:
        assembled(door, b'data: {"type":"message_start","choices":[{"delta":' + nested + b"}]}\n\n").body()


def test_every_door_has_its_protocol() -> None:
    assert set(WIRES) == set(get_args(Door))
    assert wire_of("models").said({"data": [{"id": "m"}]}).error is None
    assert wire_of("count_tokens").said({"input_tokens": 9}).usage is None


FORMAT = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}


@pytest.mark.parametrize(
    ("door", "tool", "kind"),
    [
        ("responses", {"type": "custom", "name": "t", "format": FORMAT}, "custom"),
        ("chat", {"type": "custom", "custom": {"name": "t", "format": FORMAT}}, "custom"),
        ("messages", {"type": "custom", "name": "t", "input_schema": {}}, "function"),
        ("messages", {"name": "t", "input_schema": {}}, "function"),
        ("chat", {"type": "function", "function": {"name": "t", "parameters": {}}}, "function"),
    ],
)
def test_a_custom_tool_stays_one_and_a_function_is_one_whatever_it_is_called(
    door: Door, tool: dict[str, Any], kind: str
) -> None:
    [found] = wire_of(door).asked({"tools": [tool]}).tools
    assert (found["type"], found["name"]) == (kind, "t")
    assert found.get("format") == (FORMAT if kind == "custom" else None)
    assert found.get("parameters") == ({} if kind == "function" else None)
