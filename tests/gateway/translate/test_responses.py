"""A Responses client on an upstream that has only chat completions."""

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.translate.test_clients import CHAT_STREAM, openai_client, upstream
from gateway.translate.test_messages_stream import PIECES, USAGE
from gateway.translate.wire import call, chat_bytes, chunk, to_responses, told, whole
from leyden.errors import BadInput
from leyden.gateway.translate import translator

RESPONSES_ON_CHAT = ("responses", "chat")
TOOL = {"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": True}
IMAGE = {"type": "input_image", "image_url": "https://x.test/a.png"}
ASKED: dict[str, Any] = {"model": "m", "input": "Hi", "tools": [TOOL]}


def sent(**body: Any) -> dict[str, Any]:
    bridge = translator("responses", "chat")
    assert bridge is not None
    path, made = bridge.request({"model": "m", "input": "Hi", **body})
    assert path == "/chat/completions"
    return made


def test_parameters_get_their_other_names() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert sent(
        instructions="Be brief.",
        max_output_tokens=5,
        temperature=0.5,
        reasoning={"effort": "low"},
        tools=[TOOL],
        tool_choice={"type": "function", "name": "read"},
        parallel_tool_calls=False,
        text={"format": schema},
        user="u",
        store=False,
        include=["reasoning.encrypted_content"],
        stream=True,
    ) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "user": "u",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "read", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "read"}},
        "parallel_tool_calls": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_items_become_messages_with_ids_and_order_kept() -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "a", "name": "read", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "read", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "a", "output": "one"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "two"}],
        },
        {"role": "user", "content": "Go on."},
    ]
    calls = [
        {"id": call_id, "type": "function", "function": {"name": "read", "arguments": arguments}}
        for call_id, arguments in (("a", "{}"), ("b", '{"x":1}'))
    ]
    assert sent(input=items, instructions="You help.")["messages"] == [
        {"role": "system", "content": "You help.\n\nBe brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b", "content": "two"},
        {"role": "user", "content": "Go on."},
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"role": "developer", "content": [IMAGE]}]}, "input[0].content[0]"),
        ({"input": [{"role": "assistant", "content": [IMAGE]}]}, "input[0].content[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        sent(**body)
    assert refused.value.message.startswith(f"{field}: ")


def check(response: Any) -> None:
    reasoning, message, first, second = response.output
    assert reasoning.content[0].text == "Hm."
    assert response.output_text == message.content[0].text == "I löok."
    assert (first.call_id, first.name, first.arguments) == ("call_a", "read", '{"path": "x"}')
    assert (second.call_id, second.arguments) == ("call_b", '{"path": "é"}')
    assert response.status == "completed"
    assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (100, 60)
    assert response.usage.total_tokens == 120
    openai.types.responses.Response.model_validate(response.model_dump(warnings=False))


def test_the_openai_client_streams_a_response_from_a_chat_upstream() -> None:
    with upstream(RESPONSES_ON_CHAT, CHAT_STREAM) as (url, _):
        client = openai_client(url)
        events = list(client.responses.create(**ASKED, stream=True))
        with client.responses.stream(**ASKED) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_response()
    check(final)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    check(events[-1].response)
    assert {"response.output_text.delta", "response.function_call_arguments.delta"} <= kinds


def test_the_openai_client_reads_a_whole_response() -> None:
    calls = [
        {"id": f"call_{k}", "type": "function", "function": {"name": "read", "arguments": arguments}}
        for k, arguments in (("a", '{"path": "x"}'), ("b", '{"path": "é"}'))
    ]
    said = {"role": "assistant", "content": "I löok.", "reasoning": "Hm.", "tool_calls": calls}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls"}
    answer = {"id": "chatcmpl-7", "model": "served", "choices": [choice], "usage": USAGE}
    with upstream(RESPONSES_ON_CHAT, answer) as (url, _):
        check(openai_client(url).responses.create(**ASKED))


def test_an_answer_that_was_cut_is_incomplete_with_its_reason() -> None:
    events = told(whole(to_responses(), chat_bytes([chunk({"content": "A"}), chunk({}, finish="length")])))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize("chunks", [[], [chunk({"content": "A"})], [{"error": {"message": "Busy"}}]])
def test_a_stream_that_stops_early_ends_as_failed(chunks: list[Any]) -> None:
    events = told(whole(to_responses(), chat_bytes(chunks, done=False)))
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"


def test_calls_that_an_upstream_mixes_are_told_side_by_side() -> None:
    chunks = [call(0, "{", id="a", name="f"), call(1, "{", id="b", name="g"), call(0, "}"), call(1, "}")]
    events = told(whole(to_responses(), chat_bytes([*chunks, chunk({}, finish="tool_calls")])))
    deltas = [(event["output_index"], event["delta"]) for event in events if "delta" in event]
    assert deltas == [(0, "{"), (1, "{"), (0, "}"), (1, "}")]
    assert [item["arguments"] for item in events[-1]["response"]["output"]] == ["{}", "{}"]


def test_an_error_keeps_what_the_upstream_says() -> None:
    bridge = translator("responses", "chat")
    assert bridge is not None
    body = {"error": {"message": "Why.", "type": "t", "code": "c", "param": "p"}}
    assert bridge.answer(400, body) == body
    assert bridge.answer(500, {"detail": "Odd"})["error"]["message"] == "Odd"


@given(PIECES, st.data())
def test_any_cut_of_the_bytes_gives_the_same_stream(chunks: list[Any], data: st.DataObject) -> None:
    made = chat_bytes(chunks)
    cuts = data.draw(st.lists(st.integers(0, len(made)), max_size=8))
    assert whole(to_responses(), made, cuts=cuts) == whole(to_responses(), made)
    assert json.dumps(told(whole(to_responses(), made)))
