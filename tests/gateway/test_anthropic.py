"""Anthropic's messages."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams import assembled, assert_same_however_cut, sse
from leyden.gateway.wires import wire_of
from leyden.ingest.usage import Usage

messages = wire_of("messages")


def start(**usage: Any) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    return {"type": "message_start", "message": {**message, "usage": {"input_tokens": 10, "output_tokens": 1, **usage}}}  # fmt: skip


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", *, output: int = 7, **more: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None, **more.pop("delta", {})}
    usage = {"output_tokens": output, **more.pop("usage", {})}
    return [{"type": "message_delta", "delta": delta, "usage": usage, **more}, {"type": "message_stop"}]


def message(content: list[dict[str, Any]], reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 7, **more.pop("usage", {})}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        **more,
        "usage": usage,
    }


def text(said: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": said}


def json_piece(piece: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": piece}


TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search"}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "u", "title": "t"}],
}
CITED = [{"type": "web_search_result_location", "url": "u", "cited_text": t} for t in "ab"]

PAIRS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "text": (
        sse(start(), {"type": "ping"}, *block(0, {"type": "text", "text": ""}, text("Grü"), text("ße 👋")), *end(), named=True),
        message([{"type": "text", "text": "Grüße 👋"}]),
    ),
    "events without their names": (
        sse(start(), *block(0, {"type": "text", "text": ""}, text("Hi")), *end()),
        message([{"type": "text", "text": "Hi"}]),
    ),
    "thinking, signed, then hidden, then a tool": (
        sse(
            start(),
            *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Hm"},
                   {"type": "thinking_delta", "thinking": "m."}, {"type": "signature_delta", "signature": "c2ln"}),
            *block(1, {"type": "redacted_thinking", "data": "ZW5j"}),
            *block(2, {**TOOL, "input": {}}, json_piece(""), json_piece('{"city": "Zü'), json_piece('rich"}')),
            *block(3, {**TOOL, "id": "toolu_2", "input": {}}),
            *end("tool_use"),
            named=True,
        ),
        message(
            [
                {"type": "thinking", "thinking": "Hmm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZW5j"},
                {**TOOL, "input": {"city": "Zürich"}},
                {**TOOL, "id": "toolu_2", "input": {}},
            ],
            "tool_use",
        ),
    ),
    "a search with citations": (
        sse(
            start(),
            *block(0, {**SEARCH, "input": {}}, json_piece('{"query":'), json_piece('"q"}')),
            *block(1, FOUND),
            *block(2, {"type": "text", "text": "", "citations": []}, *({"type": "citations_delta", "citation": c} for c in CITED), text("See.")),
            *end(usage={"input_tokens": 20, "server_tool_use": {"web_search_requests": 1}}),
            named=True,
        ),
        message(
            [{**SEARCH, "input": {"query": "q"}}, FOUND, {"type": "text", "text": "See.", "citations": CITED}],
            usage={"input_tokens": 20, "server_tool_use": {"web_search_requests": 1}},
        ),
    ),
    "cache counts, a container and edits of the context": (
        sse(
            start(cache_read_input_tokens=5, cache_creation_input_tokens=4, cache_creation={"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3}, service_tier="standard"),
            *block(0, {"type": "text", "text": ""}, text("Hi")),
            *end("stop_sequence", delta={"stop_sequence": "END", "container": {"id": "c"}}, usage={"cache_read_input_tokens": 5, "input_tokens": None},
                 context_management={"applied_edits": []}),
            named=True,
        ),
        message(
            [{"type": "text", "text": "Hi"}],
            "stop_sequence",
            usage={"cache_read_input_tokens": 5, "cache_creation_input_tokens": 4,
                   "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3}, "service_tier": "standard"},
        ) | {"stop_sequence": "END", "container": {"id": "c"}, "context_management": {"applied_edits": []}},
    ),
    "a block and a delta that nobody knows": (
        sse(start(), *block(0, {"type": "compaction", "content": ""}, {"type": "compaction_delta", "content": "sum"}, {"type": "new_delta", "note": "a"}, {"type": "new_delta", "note": "b"}),
            {"type": "new_event", "x": 1}, *end(), named=True),
        message([{"type": "compaction", "content": "sum", "note": "ab"}]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_becomes_the_message_of_the_same_call_without_stream(name: str) -> None:
    stream, expected = PAIRS[name]
    assembler = assembled("messages", stream)
    assert assembler.body() == expected
    assert (assembler.is_complete, assembler.broken) == (True, 0)
    assert_same_however_cut("messages", stream, [3, 50, 51])


@settings(deadline=None)
@given(st.sampled_from(sorted(PAIRS)), st.lists(st.integers(0, 5000), max_size=20))
def test_a_stream_reads_the_same_wherever_it_is_cut(name: str, places: list[int]) -> None:
    assert_same_however_cut("messages", PAIRS[name][0], places)


def test_a_tool_call_whose_json_breaks_off_keeps_its_text() -> None:
    events = [start(), *block(0, {**TOOL, "input": {}}, json_piece('{"city": "Zü'))]
    assembler = assembled("messages", sse(*events, named=True))
    assert not assembler.is_complete
    assert assembler.body()["content"] == [{**TOOL, "input": {}, "partial_json": '{"city": "Zü'}]
    said = messages.said(assembler.body())
    assert said.messages[0]["parts"][0]["arguments"] == '{"city": "Zü'
    assert said.usage == Usage(input=10, output=1)


def test_an_error_in_a_stream_is_kept_beside_what_came_before() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    events = [start(), *block(0, {"type": "text", "text": ""}, text("Hel")), error]
    assembler = assembled("messages", sse(*events, named=True))
    assert not assembler.is_complete
    said = messages.said(assembler.body())
    assert said.error == ("overloaded_error", "Overloaded")
    assert said.completion == [{"role": "assistant", "content": "Hel"}]
    assert assembled("messages", sse(error, named=True)).body() == error


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 7}, Usage(input=10, output=7)),
        ({"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 7},
         Usage(input=10, cache_read=100, cache_write=30, output=7)),
        ({"input_tokens": 1, "cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}, "output_tokens": 7},
         Usage(input=1, cache_write=10, cache_write_1h=20, output=7)),
        ({"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}},
         Usage(input=1, cache_write=10, cache_write_1h=20)),
        ({"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}, Usage(input=1, output=5, reasoning=4)),
        ({"service_tier": "standard"}, None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_falls_into_buckets_that_do_not_overlap(usage: Any, expected: Usage | None) -> None:
    assert messages.said({"usage": usage}).usage == expected


def test_an_answer_reads_as_messages_of_the_genai_conventions_and_as_an_openai_message() -> None:
    said = messages.said(PAIRS["thinking, signed, then hidden, then a tool"][1])
    assert said.messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hmm."},
                {"type": "reasoning", "content": "", "redacted": True},
                {"type": "tool_call", "id": "toolu_1", "name": "weather", "arguments": {"city": "Zürich"}},
                {"type": "tool_call", "id": "toolu_2", "name": "weather", "arguments": {}},
            ],
            "finish_reason": "tool_use",
        }
    ]
    calls = [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Zürich"}'},
        },
        {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]
    assert said.completion == [
        {"role": "assistant", "content": None, "reasoning_content": "Hmm.", "tool_calls": calls, "finish_reason": "tool_calls"}
    ]  # fmt: skip
    assert (said.id, said.model, said.finish_reasons) == ("msg_1", "claude-x", ("tool_use",))


def test_a_search_reads_as_a_call_that_the_provider_ran() -> None:
    said = messages.said(PAIRS["a search with citations"][1])
    assert said.messages[0]["parts"][:2] == [
        {"type": "server_tool_call", "id": "srvtoolu_1", "name": "web_search", "server_tool_call": {"type": "web_search", "input": {"query": "q"}}},
        {"type": "server_tool_call_response", "id": "srvtoolu_1",
         "server_tool_call_response": {"type": "web_search_tool_result", "content": FOUND["content"]}},
    ]  # fmt: skip
    assert said.completion == [{"role": "assistant", "content": "See.", "finish_reason": "stop"}]


def test_a_request_reads_as_messages_system_tools_and_an_openai_prompt() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 8000}}
    asked = messages.asked(
        {
            "model": "claude-x", "max_tokens": 100, "temperature": 1, "top_k": 5, "stop_sequences": ["END"],
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {**TOOL, "input": {"city": "Z"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [{"type": "text", "text": "rain"}, picture]},
                    {"type": "text", "text": "And now?"}]},
            ],
            "tools": [{"name": "weather", "description": "d", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
            "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 1024},
            "metadata": {"user_id": "user_1_account__session_0b1c"},
        }
    )  # fmt: skip
    blob = asked.messages[2]["parts"][0]["response"][1]
    assert (blob["type"], blob["bytes"], blob["modality"]) == ("blob", 6000, "image")
    call = {"type": "tool_call", "id": "toolu_1", "name": "weather", "arguments": {"city": "Z"}}
    result = {
        "type": "tool_call_response",
        "id": "toolu_1",
        "response": [{"type": "text", "content": "rain"}, blob],
        "is_error": True,
    }
    assert asked.system == [{"type": "text", "content": "Be brief."}]
    assert asked.messages == [
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}, call]},
        {"role": "user", "parts": [result, {"type": "text", "content": "And now?"}]},
    ]  # fmt: skip
    assert asked.prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.",
         "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Z"}'}}]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": [{"type": "text", "text": "rain"}, blob]},
        {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    assert asked.tools == [
        {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    ]
    assert asked.parameters == {
        "max_tokens": 100, "temperature": 1, "top_k": 5, "stop_sequences": ["END"], "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }  # fmt: skip
    assert asked.session == "0b1c"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"type": "url", "url": "https://x/y"}, {"type": "uri", "modality": "document", "uri": "https://x/y"}),
        ({"type": "file", "file_id": "file_1"}, {"type": "file", "modality": "document", "file_id": "file_1"}),
        ({"type": "text", "media_type": "text/plain", "data": "words"}, {"type": "text", "content": "words"}),
        ({"type": "content", "content": [{"type": "text", "text": "w"}]}, {"type": "document", "content": [{"type": "text", "text": "w"}]}),
    ],
)  # fmt: skip
def test_a_document_is_named_by_where_it_is(source: dict[str, Any], expected: dict[str, Any]) -> None:
    content = [{"type": "document", "source": source}]
    assert messages.asked({"messages": [{"role": "user", "content": content}]}).messages[0]["parts"] == [
        expected
    ]
