"""A Responses client on an Anthropic upstream, through a real gateway and with OpenAI's own client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.model_server import CLOSE, ModelServer, answer, failing, stream
from gateway.serving import Gateway, at, gateway
from gateway.translate.test_chat_stream import EVENTS, START, STOP, TEXT, begin, close, delta, finish
from gateway.translate.wire import messages_bytes, to_responses, told, whole
from leyden.errors import BadInput
from leyden.gateway.translate import translator
from leyden.gateway.wires import wire_of

TOOL = {
    "type": "function",
    "name": "read",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
ASKED: dict[str, Any] = {"model": "claude-x", "input": "Hi", "tools": [TOOL]}
KEEPS_THINKING: dict[str, Any] = {"include": ["reasoning.encrypted_content"], "store": False}
THOUGHT = [
    begin(0, type="thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="Hm"),
    delta(0, type="thinking_delta", thinking="m."),
    delta(0, type="signature_delta", signature="abc"),
    close(0),
]
CALLS = [
    begin(2, type="tool_use", id="toolu_a", name="read", input={}),
    delta(2, type="input_json_delta", partial_json='{"pa'),
    delta(2, type="input_json_delta", partial_json='th":"é"}'),
    close(2),
    begin(3, type="tool_use", id="toolu_b", name="read", input={}),
    close(3),
]
SAID = [
    begin(1, type="text", text=""),
    delta(1, type="text_delta", text="I lö"),
    delta(1, type="text_delta", text="ok."),
    close(1),
]
STREAM = [START, *THOUGHT, *SAID, *CALLS, finish("tool_use"), STOP]
WHOLE: dict[str, Any] = {
    "id": "msg_7",
    "type": "message",
    "role": "assistant",
    "model": "served",
    "content": [
        {"type": "thinking", "thinking": "Hmm.", "signature": "abc"},
        {"type": "text", "text": "I löok."},
        {"type": "tool_use", "id": "toolu_a", "name": "read", "input": {"path": "é"}},
        {"type": "tool_use", "id": "toolu_b", "name": "read", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 20},
}


@pytest.fixture(scope="module")
def claude() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def gate(tmp_path: Path, claude: ModelServer) -> Iterator[Gateway]:
    """A gateway whose only upstream speaks Messages."""
    config = {
        "upstreams": {"anthropic": at(claude, kind="anthropic")},
        "models": {"*": "anthropic/claude-opus"},
        "gateway": {"retry": {"tries": 1}},
    }
    with gateway(tmp_path, config) as served:
        yield served


@pytest.fixture
def client(gate: Gateway) -> Iterator[openai.OpenAI]:
    url = f"{gate.url}{gate.base}/v1"
    with openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        yield client


def chunks_of(events: list[dict[str, Any]]) -> list[bytes]:
    return [messages_bytes([event]) for event in events]


def check(response: Any) -> None:
    reasoning, message, first, second = response.output
    assert reasoning.content[0].text == "Hmm."
    assert response.output_text == message.content[0].text == "I löok."
    assert (first.call_id, first.name, first.arguments) == ("toolu_a", "read", '{"path":"é"}')
    assert (second.call_id, second.arguments) == ("toolu_b", "{}")
    assert (response.id, response.model, response.status) == ("resp_7", "served", "completed")
    assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (100, 60)
    assert (response.usage.output_tokens, response.usage.total_tokens) == (20, 120)
    openai.types.responses.Response.model_validate(response.model_dump(warnings=False))


# ── Through a gateway ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_openai_client_streams_a_response_from_anthropic(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    claude.script(stream(*chunks_of(STREAM)))
    with client.responses.stream(**ASKED) as streamed:
        events = list(streamed)
        check(streamed.get_final_response())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = {event.type for event in events}
    assert {"response.reasoning_text.delta", "response.output_text.delta", "response.completed"} <= kinds
    arguments = [
        (event.output_index, event.delta)
        for event in events
        if event.type == "response.function_call_arguments.delta"
    ]
    assert arguments == [(2, '{"pa'), (2, 'th":"é"}'), (3, "{}")]
    assert claude.requests[-1].path == "/v1/messages"
    said = gate.span()
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (100, 20)
    assert said["gen_ai.completion.0.tool_calls.0.function.arguments"] == '{"path":"é"}'


def test_the_openai_client_reads_a_whole_response_from_anthropic(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    claude.script(answer(WHOLE))
    check(client.responses.create(**ASKED))
    assert claude.requests[-1].json == {
        "model": "claude-opus",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [{"name": "read", "input_schema": TOOL["parameters"], "strict": False}],
    }
    assert gate.span()["gen_ai.completion.0.content"] == "I löok."


def test_the_next_turn_carries_the_calls_and_their_outputs(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    claude.script(answer(WHOLE), answer(WHOLE | {"content": [{"type": "text", "text": "Done."}]}))
    first = client.responses.create(**ASKED)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "found"}
        for item in first.output
        if item.type == "function_call"
    ]
    asked = [{"role": "user", "content": "Hi"}, *first.model_dump()["output"], *outputs]
    assert client.responses.create(**ASKED | {"input": asked}).output_text == "Done."
    question, turn, results = claude.requests[-1].json["messages"]
    assert question["content"] == [{"type": "text", "text": "Hi"}]
    assert turn == {"role": "assistant", "content": WHOLE["content"][1:]}
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": call_id, "content": "found"}
        for call_id in ("toolu_a", "toolu_b")
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_openai_client_reads_an_anthropic_error(
    gate: Gateway,
    client: openai.OpenAI,
    claude: ModelServer,
    status: int,
    kind: type[openai.APIStatusError],
    is_stream: bool,
) -> None:
    claude.script(failing(status, message="prompt is too long: 9"))
    with pytest.raises(kind, match="too long") as raised:
        client.responses.create(**ASKED, stream=is_stream)
    assert raised.value.code == "context_length_exceeded"
    assert gate.span()["description"] == "prompt is too long: 9"


def test_an_upstream_that_dies_in_the_middle_ends_as_a_failed_response(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    claude.script(stream(*chunks_of(STREAM[:8]), CLOSE))
    *_, last = client.responses.create(**ASKED, stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert "broke off" in last.response.error.message
    assert gate.span()["leyden.gateway.outcome"] == "broken"


def test_what_cannot_be_carried_never_reaches_the_upstream(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    asked = len(claude.requests)
    with pytest.raises(openai.BadRequestError, match=r"previous_response_id: .* whole conversation"):
        client.responses.create(**ASKED, previous_response_id="resp_1")
    assert len(claude.requests) == asked


# ── The translation itself ───────────────────────────────────────────────────────────────────────────────────────


def sent(**body: Any) -> dict[str, Any]:
    bridge = translator("responses", "messages")
    assert bridge is not None
    path, made = bridge.request({"model": "m", "input": "Hi", **body})
    assert path == "/messages"
    return made


def test_parameters_get_their_other_names() -> None:
    assert sent(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
                    {"type": "input_image", "image_url": "https://x.test/a.png"},
                    {
                        "type": "input_file",
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,QQ",
                    },
                ],
            },
        ],
        max_output_tokens=5,
        temperature=0.5,
        reasoning={"effort": "minimal", "summary": "auto"},
        tools=[TOOL],
        tool_choice={"type": "function", "name": "read"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        safety_identifier="u",
        store=False,
        include=["reasoning.encrypted_content"],
        stream=True,
    ) == {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                    {
                        "type": "document",
                        "title": "a.pdf",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ"},
                    },
                ],
            }
        ],
        "temperature": 0.5,
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [{"name": "read", "input_schema": TOOL["parameters"], "strict": False}],
        "tool_choice": {"type": "tool", "name": "read", "disable_parallel_tool_use": True},
        "stream": True,
    }


CALL = {"type": "function_call", "call_id": "a", "name": "read", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a"}
SPOKEN = {"role": "assistant", "content": "And then:"}
TEXT_FILE = {"type": "input_file", "file_data": "data:text/plain;base64,QUJD"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"temperature": 1.5}, "temperature"),
        ({"reasoning": {"effort": "boundless"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [CALL, CALL | {"arguments": "[]"}]}, "input[1].arguments"),
        (
            {"instructions": "x", "input": [CALL, OUTPUT | {"output": [TEXT_FILE]}]},
            "input[1].output[0].file",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": "Look"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "x"},
                            {"type": "input_image", "image_url": "data:,x"},
                        ],
                    },
                ]
            },
            "input[1].content[1]",
        ),
    ],
)
def test_a_refusal_names_the_field_as_the_client_knows_it(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        sent(**body)
    assert refused.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_use", "completed", None),
        ("max_tokens", "incomplete", {"reason": "max_output_tokens"}),
        ("model_context_window_exceeded", "incomplete", {"reason": "max_output_tokens"}),
        ("refusal", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ended_is_said_in_both_forms(reason: str, status: str, details: Any) -> None:
    bridge = translator("responses", "messages")
    assert bridge is not None
    body = bridge.answer(200, WHOLE | {"stop_reason": reason})
    assert (body["status"], body["incomplete_details"]) == (status, details)
    last = told(whole(to_responses("messages"), messages_bytes([START, *TEXT, finish(reason), STOP])))[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (f"response.{status}", details)


def test_each_piece_is_told_with_the_bytes_that_complete_it() -> None:
    made = to_responses("messages")
    made.feed(messages_bytes([START, TEXT[0]]))
    piece = messages_bytes([TEXT[1]])
    assert made.feed(piece[:-1]) == b""
    assert [event.get("delta") for event in told(made.feed(piece[-1:]))][-1] == "Hé"


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}


@pytest.mark.parametrize("events", [[], [START], [START, *TEXT], [START, *TEXT, STOP], [START, ERROR, STOP]])
def test_a_stream_that_stops_early_ends_as_failed_and_once(events: list[dict[str, Any]]) -> None:
    made = to_responses("messages")
    said = told(made.feed(messages_bytes(events)) + made.end())
    assert [event["type"] for event in said][-1] == "response.failed"
    assert said[-1]["response"]["error"]["message"]
    assert made.end(error="late") == b""
    assert made.feed(messages_bytes([STOP])) == b""


def test_an_error_of_the_connection_is_told_even_after_the_finish_reason() -> None:
    made = to_responses("messages")
    made.feed(messages_bytes([START, *TEXT, finish("end_turn")]))
    last = told(made.end(error="Reset."))[-1]
    assert (last["type"], last["response"]["error"]["message"]) == ("response.failed", "Reset.")


@given(EVENTS, st.data())
def test_any_cut_of_the_bytes_gives_the_same_stream(events: list[Any], data: st.DataObject) -> None:
    made = messages_bytes(events)
    cuts = data.draw(st.lists(st.integers(0, len(made)), max_size=8))
    assert whole(to_responses("messages"), made, cuts=cuts) == whole(to_responses("messages"), made)


def spoken(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of one whole block."""
    match block["type"]:
        case "text":
            begun, deltas = {"text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            begun = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in block["thinking"]]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "redacted_thinking":
            begun, deltas = block, []
        case _:
            begun = {**block, "input": {}}
            arguments = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in arguments]
    return [
        begin(index, **{"type": block["type"], **begun}),
        *(delta(index, **one) for one in deltas),
        close(index),
    ]


BLOCKS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=4)),
        st.builds(
            lambda text, mark: {"type": "thinking", "thinking": text, "signature": mark},
            st.text(max_size=4),
            st.text(max_size=2),
        ),
        st.just({"type": "redacted_thinking", "data": "abc"}),
        st.builds(
            lambda id, given: {"type": "tool_use", "id": id, "name": "f", "input": given},
            st.sampled_from(["a", "b", "c"]),
            st.dictionaries(
                st.text(max_size=2), st.integers(-(2**63), 2**63) | st.text(max_size=3), max_size=2
            ),
        ),
    ),
    max_size=6,
)


@given(BLOCKS, st.sampled_from(["end_turn", "max_tokens", "tool_use"]), st.booleans())
def test_a_stream_ends_with_what_the_whole_answer_would_have_been(
    blocks: list[dict[str, Any]], reason: str, keeps_thinking: bool
) -> None:
    events = [START, *(event for n, block in enumerate(blocks) for event in spoken(n, block))]
    made = messages_bytes([*events, finish(reason), STOP])
    assembler = wire_of("messages").assembler()
    assembler.feed(made)
    bridge = translator("responses", "messages", now=1_700_000_000)
    assert bridge is not None
    asked = {"model": "m", "input": "Hi", "stream": True}
    bridge.request(asked | (KEEPS_THINKING if keeps_thinking else {}))
    assert told(whole(bridge.stream(), made))[-1]["response"] == bridge.answer(200, assembler.body())


def test_text_stays_where_it_stood_among_calls() -> None:
    [turn] = sent(input=[CALL, SPOKEN, CALL | {"call_id": "b"}])["messages"]
    assert [block["type"] for block in turn["content"]] == ["tool_use", "text", "tool_use"]


def test_results_come_before_what_the_user_said_while_the_tool_ran() -> None:
    user = {"role": "user", "content": "Hurry."}
    turn = sent(input=[CALL, user, OUTPUT | {"output": "found"}])["messages"][1]
    assert [block["type"] for block in turn["content"]] == ["tool_result", "text"]


# ── Thinking, there and back ─────────────────────────────────────────────────────────────────────────────────────

REDACTED = {"type": "redacted_thinking", "data": "xyz"}
HIDDEN = {"type": "thinking", "thinking": "", "signature": "hidden"}


def answered(content: list[dict[str, Any]], *, is_stream: bool, **asked: Any) -> list[dict[str, Any]]:
    """The output items of an answer with these blocks."""
    bridge = translator("responses", "messages")
    assert bridge is not None
    bridge.request({"model": "m", "input": "Hi", "stream": is_stream, **asked})
    if not is_stream:
        return bridge.answer(200, WHOLE | {"content": content})["output"]
    events = [START, *(event for n, block in enumerate(content) for event in spoken(n, block))]
    last = told(whole(bridge.stream(), messages_bytes([*events, finish("tool_use"), STOP])))[-1]
    return last["response"]["output"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_thinking_comes_back_to_anthropic_with_its_signature_and_in_its_place(is_stream: bool) -> None:
    content = [REDACTED, *WHOLE["content"][:2], HIDDEN, *WHOLE["content"][2:]]
    items = answered(content, is_stream=is_stream, **KEEPS_THINKING)
    assert [item["type"] for item in items] == [
        "reasoning",
        "message",
        "reasoning",
        "function_call",
        "function_call",
    ]
    assert [part["text"] for part in items[0]["content"]] == ["Hmm."]
    assert items[2]["content"] == []
    turns = sent(input=[{"role": "user", "content": "Hi"}, *items])["messages"]
    assert turns[1] == {"role": "assistant", "content": content}
    without_text = [{key: value for key, value in item.items() if key != "content"} for item in items[:1]]
    assert sent(input=[*without_text, *items[1:]])["messages"][0]["content"] == content


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_does_not_ask_for_it_gets_no_sealed_thinking(is_stream: bool) -> None:
    items = answered([REDACTED, HIDDEN, *WHOLE["content"][:2]], is_stream=is_stream)
    assert [item["type"] for item in items] == ["reasoning", "message"]
    assert "encrypted_content" not in items[0]


@pytest.mark.parametrize("foreign", [None, 7, "gAAAAABo", "leyden.thinking.%%%", "leyden.thinking.W10="])
def test_reasoning_of_others_is_left_behind(foreign: Any) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": foreign}
    assert [turn["role"] for turn in sent(input=[item, {"role": "user", "content": "Hi"}])["messages"]] == [
        "user"
    ]


def test_a_turn_that_was_cut_while_thinking_is_sent_without_it() -> None:
    *kept, cut = answered([WHOLE["content"][1], HIDDEN], is_stream=False, **KEEPS_THINKING)
    turns = sent(input=[*kept, cut, {"role": "user", "content": "Go on."}])["messages"]
    assert turns[0]["content"] == [WHOLE["content"][1]]
    assert [turn["role"] for turn in sent(input=[cut, {"role": "user", "content": "x"}])["messages"]] == [
        "user"
    ]


def test_the_openai_client_hands_thinking_back_by_itself(
    gate: Gateway, client: openai.OpenAI, claude: ModelServer
) -> None:
    claude.script(stream(*chunks_of(STREAM)), answer(WHOLE))
    with client.responses.stream(**ASKED, **KEEPS_THINKING) as streamed:
        first = streamed.get_final_response()
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "found"}
        for item in first.output
        if item.type == "function_call"
    ]
    asked = [{"role": "user", "content": "Hi"}, *first.model_dump()["output"], *outputs]
    client.responses.create(**ASKED | {"input": asked}, **KEEPS_THINKING)
    assert claude.requests[-1].json["messages"][1]["content"] == WHOLE["content"]
