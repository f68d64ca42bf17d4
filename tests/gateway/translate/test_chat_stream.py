"""Messages events as a chat client gets them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.translate.wire import messages_bytes, to_chat, told, whole

START = {
    "type": "message_start",
    "message": {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [],
        "usage": {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 1},
    },
}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def close(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def finish(reason: str, **usage: int) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason},
        "usage": {"output_tokens": 20, **usage},
    }


TEXT = [
    begin(0, type="text", text=""),
    delta(0, type="text_delta", text="Hé"),
    delta(0, type="text_delta", text="llo"),
    close(0),
]


def chunks(*events: dict[str, Any], **asked: Any) -> list[dict[str, Any]]:
    return told(whole(to_chat(**asked), messages_bytes(events)))


def deltas(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in said if chunk.get("choices")]


def test_a_plain_answer_is_told_chunk_by_chunk() -> None:
    said = chunks(START, PING, *TEXT, finish("end_turn"), STOP)
    assert said[0] == {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    assert deltas(said)[1:] == [{"content": "Hé"}, {"content": "llo"}, {}]
    assert said[-2]["choices"][0]["finish_reason"] == "stop"
    assert said[-1] == {}


def test_usage_is_told_at_the_end_to_a_client_that_asks_for_it() -> None:
    said = chunks(START, *TEXT, finish("end_turn"), STOP, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in said[:-2])
    assert said[-2]["choices"] == []
    assert said[-2]["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
    }
    corrected = chunks(
        START, finish("end_turn", input_tokens=50), STOP, stream_options={"include_usage": True}
    )
    assert corrected[-2]["usage"]["prompt_tokens"] == 110


def test_reasoning_and_parallel_calls_keep_their_order_and_ids() -> None:
    said = chunks(
        START,
        begin(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="abc"),
        close(0),
        begin(1, type="tool_use", id="toolu_a", name="read", input={}),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"path":'),
        delta(1, type="input_json_delta", partial_json='"x"}'),
        close(1),
        begin(2, type="tool_use", id="toolu_b", name="now", input={}),
        close(2),
        begin(3, type="tool_use", id="toolu_c", name="find", input={"q": 1}),
        close(3),
        finish("tool_use"),
        STOP,
    )
    assert deltas(said)[1:] == [
        {"reasoning_content": "Hm."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "toolu_a",
                    "type": "function",
                    "function": {"name": "read", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"path":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"x"}'}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "toolu_b",
                    "type": "function",
                    "function": {"name": "now", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {
            "tool_calls": [
                {
                    "index": 2,
                    "id": "toolu_c",
                    "type": "function",
                    "function": {"name": "find", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 2, "function": {"arguments": '{"q":1}'}}]},
        {},
    ]
    assert said[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_each_piece_is_told_with_the_bytes_that_complete_it() -> None:
    stream = to_chat()
    stream.feed(messages_bytes([START, TEXT[0]]))
    piece = messages_bytes([TEXT[1]])
    assert stream.feed(piece[:-1]) == b""
    assert deltas(told(stream.feed(piece[-1:]))) == [{"content": "Hé"}]


def test_an_error_in_the_stream_ends_it_with_an_error() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
    said = chunks(START, *TEXT[:2], error, TEXT[2])
    assert said[-2]["error"] == {"message": "Busy", "type": "server_error", "param": None, "code": None}
    assert said[-1] == {}


@pytest.mark.parametrize("events", [[], [START], [START, *TEXT], [START, *TEXT, STOP]])
def test_a_stream_that_stops_early_ends_with_an_error(events: list[dict[str, Any]]) -> None:
    said = chunks(*events)
    assert "error" in said[-2]
    assert said[-1] == {}


def test_the_end_is_told_once_whatever_follows() -> None:
    stream = to_chat()
    stream.feed(messages_bytes([START, *TEXT, finish("end_turn")]))
    assert told(stream.end()) == [{}]
    assert stream.feed(messages_bytes([STOP])) == b""
    assert stream.end(error="late") == b""


EVENTS = st.lists(
    st.one_of(
        st.just(START),
        st.just(PING),
        st.builds(lambda n: begin(n, type="text", text=""), st.integers(0, 2)),
        st.builds(lambda n: begin(n, type="tool_use", id=f"t{n}", name="f", input={}), st.integers(0, 2)),
        st.builds(
            lambda n, text: delta(n, type="text_delta", text=text), st.integers(0, 2), st.text(max_size=4)
        ),
        st.builds(
            lambda n, text: delta(n, type="input_json_delta", partial_json=text),
            st.integers(0, 2),
            st.text(max_size=4),
        ),
        st.builds(close, st.integers(0, 2)),
        st.just(finish("end_turn")),
    ),
    max_size=12,
)


@given(EVENTS, st.data())
def test_any_cut_of_the_bytes_gives_the_same_stream(events: list[Any], data: st.DataObject) -> None:
    sent = messages_bytes(events)
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    assert whole(to_chat(), sent, cuts=cuts) == whole(to_chat(), sent)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_stream_end_with_an_error_and_never_a_traceback(sent: bytes) -> None:
    assert "error" in told(whole(to_chat(), sent))[-2]
