"""What of a span may be looked for, and where one text ends."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leyden.ingest.texts import PIECE_CHARS, SPAN_CHARS, collect, of_span


def texts(**attributes: Any) -> list[str]:
    return of_span(
        {"attributes": attributes, "events": [], "status": {"status_code": "OK", "description": None}}
    )


def message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_each_message_of_a_conversation_is_one_text() -> None:
    said = json.dumps([message("user", "where is my order"), message("assistant", "on its way")])
    assert texts(**{"gen_ai.input.messages": said}) == ["where is my order", "on its way"]


def test_the_arguments_of_a_tool_are_one_text_with_the_ids_and_amounts_in_it() -> None:
    said = json.dumps(
        {
            "order": {"id": "W1042"},
            "amount": 1999,
            "price": 19.5,
            "seats": 2,
            "express": True,
            "tags": ["gift"],
        }
    )
    assert texts(**{"gen_ai.tool.call.arguments": said}) == ["W1042\n1999\n19.5\ngift"]


def test_a_long_string_is_the_same_text_wherever_it_stands() -> None:
    long = "the policy says " * 20
    inside = texts(a=json.dumps({"role": "tool", "content": json.dumps({"ok": "yes", "policy": long})}))
    assert set(inside) == {"yes", long.strip()}
    assert texts(a=long) == [long.strip()]


def test_what_a_column_holds_or_instrumentation_adds_is_no_text() -> None:
    left_out = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.id": "chatcmpl-123456789012",
        "gen_ai.tool.name": "search",
        "gen_ai.conversation.id": "session-1",
        "server.address": "api.openai.com",
        "telemetry.sdk.name": "opentelemetry",
        "llm.input_messages.0.message.role": "user",
        "llm.model_name": "gpt-4o",
        "service.name": "desk",
        "code.function.name": "main",
        "gen_ai.usage.input_tokens": 12345,
    }
    assert texts(**left_out, **{"user.id": "user-42"}) == ["user-42"]


def test_a_call_keeps_its_arguments_and_loses_the_id_somebody_made_up() -> None:
    call = {"type": "tool_call", "id": "call_abcdef123456", "name": "refund", "arguments": '{"order": "W1"}'}
    assert texts(m=[{"role": "assistant", "tool_calls": [call]}]) == ["refund\nW1"]


def test_errors_and_events_are_texts() -> None:
    span = {
        "attributes": {},
        "status": {"status_code": "ERROR", "description": "no answer in 30 s"},
        "events": [
            {
                "name": "exception",
                "attributes": {"exception.message": "connection refused", "exception.type": "OSError"},
            }
        ],
    }
    assert of_span(span) == ["no answer in 30 s", "connection refused"]


def test_vectors_encoded_bytes_and_single_letters_are_no_texts() -> None:
    bytes_ = "iVBORw0KGgo" * 200
    assert (
        texts(
            v=[0.25] * 500,
            i=bytes_,
            u=f"data:image/png;base64,{bytes_}",
            x="x",
            j=json.dumps({"embedding": [1.5, 2.5]}),
        )
        == []
    )


def test_a_very_long_text_is_cut_between_words() -> None:
    long = " ".join(f"word{n}" for n in range(30_000))
    found = texts(a=long)
    assert max(map(len, found)) <= PIECE_CHARS
    assert " ".join(found) == long


def test_a_span_is_bounded_and_says_what_was_left_out() -> None:
    found = collect({"attributes": {f"k{n}": f"{n} " + "word " * 12_000 for n in range(80)}})
    assert sum(map(len, found.texts)) <= SPAN_CHARS
    assert found.cut > 0


def test_odd_shapes_cost_nothing() -> None:
    for span in (
        {},
        {"attributes": None, "events": None, "status": None},
        {"attributes": [], "events": [1, {}], "status": "x"},
    ):
        assert of_span(span) == []
    assert texts(a="{not json", b="[1, 2", c="  [ ") == ["{not json", "[1, 2"]


def test_nesting_has_a_bottom() -> None:
    value: Any = "found"
    for _ in range(200):
        value = {"a": [value]}
    assert texts(a=value) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.dictionaries(st.text(max_size=20), _JSON, max_size=6))
def test_any_span_has_texts_and_always_the_same(attributes: dict[str, Any]) -> None:
    found = texts(**{"x" + key: value for key, value in attributes.items()})
    assert found == texts(**{"x" + key: value for key, value in attributes.items()})
    assert len(found) == len(set(found))
    assert all(text == text.strip() and len(text) >= 2 for text in found)
