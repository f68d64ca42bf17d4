"""Chat chunks as a Messages client gets them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.translate.wire import call, chat_bytes, chunk, to_messages, told, whole

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 60},
}
THINKING = {"type": "adaptive"}


def events(*chunks: Any, **asked: Any) -> list[dict[str, Any]]:
    return told(whole(to_messages(**asked), chat_bytes(chunks)))


def outline(said: list[dict[str, Any]]) -> list[str]:
    """`start:0:text`, `delta:0`, `stop:0` for the events of blocks."""
    made: list[str] = []
    for event in said:
        match event["type"]:
            case "content_block_start":
                made.append(f"start:{event['index']}:{event['content_block']['type']}")
            case "content_block_delta":
                delta = event["delta"]
                piece = delta.get("text", delta.get("thinking", delta.get("partial_json")))
                made.append(f"delta:{event['index']}:{piece}")
            case "content_block_stop":
                made.append(f"stop:{event['index']}")
            case _:
                pass
    return made


def test_a_plain_answer_is_told_event_by_event() -> None:
    assert events(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hé"}),
        chunk({"content": "llo"}),
        chunk({}, finish="stop"),
        {"id": "chatcmpl-7", "choices": [], "usage": USAGE},
    ) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_7",
                "type": "message",
                "role": "assistant",
                "model": "served",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 0},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hé"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "llo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 40,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 60,
                "output_tokens": 20,
            },
        },
        {"type": "message_stop"},
    ]


def test_each_piece_is_told_with_the_bytes_that_complete_it() -> None:
    stream = to_messages()
    first = chat_bytes([chunk({"content": "Hel"})], done=False)
    assert stream.feed(first[:-1]) == b""
    assert [event["type"] for event in told(stream.feed(first[-1:]))] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
    ]
    arguments = chat_bytes([call(0, '{"a', id="c", name="f")], done=False)
    assert outline(told(stream.feed(arguments))) == ["stop:0", "start:1:tool_use", 'delta:1:{"a']


def test_reasoning_text_and_calls_are_blocks_that_follow_one_another() -> None:
    said = events(
        chunk({"reasoning_content": "Hm"}),
        chunk({"reasoning": "m."}),
        chunk({"content": "I look."}),
        call(0, "", id="call_a", name="read", type="function"),
        call(0, '{"path":'),
        call(0, '"x"}'),
        call(1, '{"q": "}"}', id="call_b", name="find"),
        chunk({}, finish="tool_calls"),
        thinking=THINKING,
    )
    assert outline(said) == [
        "start:0:thinking",
        "delta:0:Hm",
        "delta:0:m.",
        "stop:0",
        "start:1:text",
        "delta:1:I look.",
        "stop:1",
        "start:2:tool_use",
        'delta:2:{"path":',
        'delta:2:"x"}',
        "stop:2",
        "start:3:tool_use",
        'delta:3:{"q": "}"}',
        "stop:3",
    ]
    begun = [event["content_block"] for event in said if event["type"] == "content_block_start"]
    assert begun[2] == {"type": "tool_use", "id": "call_a", "name": "read", "input": {}}
    assert begun[3]["id"] == "call_b"
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


def test_reasoning_is_left_out_for_a_client_that_asks_for_no_thinking() -> None:
    said = events(chunk({"reasoning": "Hm."}), chunk({"content": "Yes."}), chunk({}, finish="stop"))
    assert outline(said) == ["start:0:text", "delta:0:Yes.", "stop:0"]


def test_calls_that_an_upstream_mixes_wait_for_the_open_one() -> None:
    stream = to_messages()
    steps = [
        (call(0, '{"a"', id="a", name="f"), ["start:0:tool_use", 'delta:0:{"a"']),
        (call(1, '{"b"', id="b", name="g"), []),
        (chunk({"content": "Text."}), []),
        (call(0, ": 1"), ["delta:0:: 1"]),
        (call(1, ": 2"), []),
        (call(0, "}"), ["delta:0:}", "stop:0", "start:1:tool_use", 'delta:1:{"b"', "delta:1:: 2"]),
        (call(1, "}"), ["delta:1:}", "stop:1", "start:2:text", "delta:2:Text."]),
    ]
    for sent, expected in steps:
        assert outline(told(stream.feed(chat_bytes([sent], done=False)))) == expected
    last = told(stream.feed(chat_bytes([chunk({}, finish="tool_calls")])))
    assert outline(last) == ["stop:2"]


def test_calls_that_never_get_complete_arguments_are_told_at_the_end() -> None:
    said = events(
        call(0, "", id="a", name="f"), call(1, "", id="b", name="g"), chunk({}, finish="tool_calls")
    )
    assert outline(said) == ["start:0:tool_use", "stop:0", "start:1:tool_use", "stop:1"]


def test_calls_under_one_number_are_told_apart_by_their_ids() -> None:
    said = events(
        call(0, "{}", id="a", name="f"),
        call(0, '{"b":1}', id="b", name="f"),
        call(0, "{}", name="f"),
        chunk({}, finish="stop"),
    )
    ids = [event["content_block"]["id"] for event in said if event["type"] == "content_block_start"]
    assert ids == ["a", "b"]
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_without_an_id_gets_one_made_of_the_answers() -> None:
    said = events(call(0, "{}", name="f"), chunk({}, finish="tool_calls"))
    assert said[1]["content_block"]["id"] == "call_7_0"


def test_only_the_first_choice_is_told_and_odd_events_say_nothing() -> None:
    second = {"id": "x", "choices": [{"index": 1, "delta": {"content": "B"}}]}
    odd: list[Any] = [[], "x", {"choices": 7}, {"choices": [{"delta": {"content": 7, "tool_calls": [3]}}]}]
    said = events(*odd, chunk({"content": "A"}), second, chunk({}, finish="stop"))
    assert outline(said) == ["start:0:text", "delta:0:A", "stop:0"]


def test_without_usage_of_the_upstream_the_estimate_of_the_input_holds() -> None:
    said = events(
        chunk({"content": "A"}),
        chunk({}, finish="length"),
        messages=[{"role": "user", "content": "x" * 400}],
    )
    assert said[0]["message"]["usage"]["input_tokens"] == 104
    assert said[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
        "usage": {"output_tokens": 0},
    }


@pytest.mark.parametrize("finished", [True, False])
def test_a_stream_without_its_done_ends_well_only_when_the_answer_was_finished(finished: bool) -> None:
    stream = to_messages()
    chunks = [chunk({"content": "A"}), *([chunk({}, finish="stop")] if finished else [])]
    stream.feed(chat_bytes(chunks, done=False))
    last = told(stream.end())[-1]
    assert last["type"] == ("message_stop" if finished else "error")
    assert stream.end() == b""


def test_an_error_in_the_stream_and_one_of_the_connection_are_error_events() -> None:
    error = {"error": {"message": "Busy", "type": "rate_limit_error"}}
    said = events(chunk({"content": "A"}), error, chunk({"content": "B"}))
    assert said[-1] == {"type": "error", "error": {"type": "rate_limit_error", "message": "Busy"}}
    stream = to_messages()
    stream.feed(chat_bytes([chunk({"content": "A"}), chunk({}, finish="stop")], done=False))
    assert told(stream.end(error="Reset."))[-1]["error"] == {"type": "api_error", "message": "Reset."}


def test_half_a_character_does_not_break_the_clients_stream() -> None:
    sent = b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n'
    said = told(to_messages().feed(sent))[-1]["delta"]["text"]
    assert said.startswith("a")
    json.dumps(said).encode().decode()


PIECES = st.lists(
    st.one_of(
        st.builds(lambda text: chunk({"content": text}), st.text(max_size=5)),
        st.builds(lambda text: chunk({"reasoning": text}), st.text(max_size=5)),
        st.builds(
            lambda n, text: call(n, text, id=f"c{n}", name="f"),
            st.integers(0, 2),
            st.text('{}"\\a', max_size=4),
        ),
        st.just({"error": {"message": "x"}}),
        st.just(chunk({}, finish="stop", usage=USAGE)),
    ),
    max_size=12,
)


@given(PIECES, st.data())
def test_any_cut_of_the_bytes_gives_the_same_stream(chunks: list[Any], data: st.DataObject) -> None:
    sent = chat_bytes(chunks)
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    assert whole(to_messages(thinking=THINKING), sent, cuts=cuts) == whole(
        to_messages(thinking=THINKING), sent
    )


@given(PIECES)
def test_blocks_never_overlap_and_all_that_was_said_arrives(chunks: list[Any]) -> None:
    chunks = [item for item in chunks if "error" not in item]
    said = events(*chunks, chunk({}, finish="stop"), thinking=THINKING)
    open_at, texts, arguments = None, "", dict[str, str]()
    for event in said:
        match event["type"]:
            case "content_block_start":
                assert open_at is None
                open_at, block = event["index"], event["content_block"]
            case "content_block_delta":
                assert event["index"] == open_at
                texts += event["delta"].get("text", "")
                if "partial_json" in event["delta"]:
                    arguments[block["id"]] = arguments.get(block["id"], "") + event["delta"]["partial_json"]
            case "content_block_stop":
                assert event["index"] == open_at
                open_at = None
            case _:
                pass
    assert open_at is None
    assert sorted(texts) == sorted("".join(item["choices"][0]["delta"].get("content", "") for item in chunks))
    for n in range(3):
        given_all = "".join(
            piece["function"]["arguments"]
            for item in chunks
            for piece in item["choices"][0]["delta"].get("tool_calls", [])
            if piece["index"] == n
        )
        # What follows complete arguments of a call that is closed cannot be said.
        assert given_all.startswith(arguments.get(f"c{n}", ""))
        assert json.dumps(given_all) == json.dumps(arguments.get(f"c{n}", "")) or "}" in given_all
