"""OpenAI's Responses API."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams import assembled, assert_same_however_cut, sse
from leyden.gateway.wires import wire_of
from leyden.ingest.usage import Usage

responses = wire_of("responses")

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 150,
}
LOGPROBS = [{"token": t, "logprob": -0.5, "bytes": [1], "top_logprobs": []} for t in ("Grü", "ße")]
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "content": [{"type": "reasoning_text", "text": "Well."}],
}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
    "content": [
        {"type": "output_text", "text": "Grüße", "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": LOGPROBS},
        {"type": "refusal", "refusal": "No."},
    ],
}  # fmt: skip
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Z"}',
    "status": "completed",
}
CUSTOM = {
    "id": "ct_1",
    "type": "custom_tool_call",
    "call_id": "call_2",
    "name": "shell",
    "input": "ls -l",
    "status": "completed",
}
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
CODE = {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "code": "1+1", "outputs": None}
OUTPUT = [REASONING, MESSAGE, CALL, CUSTOM, SEARCH, CODE]


def response(
    status: str = "completed", output: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 7,
        "model": "m-1",
        "status": status,
        "error": None,
        "incomplete_details": None,
        "output": OUTPUT if output is None else output,
        "usage": USAGE if status == "completed" else None,
        **more,
    }


def at(kind: str, output: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": output, **fields}


BEFORE = [
    {"type": "response.created", "response": response("in_progress", [])},
    {"type": "response.in_progress", "response": response("in_progress", [])},
    at("output_item.added", 0, item={**REASONING, "summary": [], "content": []}),
    at("reasoning_summary_part.added", 0, summary_index=0, part={"type": "summary_text", "text": ""}),
    at("reasoning_summary_text.delta", 0, summary_index=0, delta="H"),
    at("reasoning_summary_text.delta", 0, summary_index=0, delta="m."),
    at("reasoning_text.delta", 0, content_index=0, delta="We"),
    at("reasoning_text.delta", 0, content_index=0, delta="ll."),
    at("output_item.added", 1, item={**MESSAGE, "content": []}),
    at("content_part.added", 1, content_index=0, part={"type": "output_text", "text": "", "annotations": [], "logprobs": []}),
    at("output_text.delta", 1, content_index=0, delta="Grü", logprobs=LOGPROBS[:1]),
    at("output_text.annotation.added", 1, content_index=0, annotation={"type": "url_citation", "url": "u"}),
    at("output_text.delta", 1, content_index=0, delta="ße", logprobs=LOGPROBS[1:]),
    at("refusal.delta", 1, content_index=1, delta="N"),
    at("refusal.delta", 1, content_index=1, delta="o."),
    at("output_item.added", 2, item={**CALL, "arguments": ""}),
    at("function_call_arguments.delta", 2, delta='{"city"'),
    at("function_call_arguments.delta", 2, delta=':"Z"}'),
    at("output_item.added", 3, item={**CUSTOM, "input": ""}),
    at("custom_tool_call_input.delta", 3, delta="ls "),
    at("custom_tool_call_input.delta", 3, delta="-l"),
    at("output_item.added", 4, item={**SEARCH, "status": "in_progress"}),
    at("web_search_call.searching", 4),
    at("output_item.done", 4, item=SEARCH),
    at("output_item.added", 5, item={**CODE, "code": ""}),
    at("code_interpreter_call_code.delta", 5, delta="1"),
    at("code_interpreter_call_code.done", 5, code="1+1"),
]  # fmt: skip
COMPLETED = {"type": "response.completed", "response": response()}


def test_a_stream_that_ends_gives_the_response_of_its_last_event() -> None:
    assembler = assembled("responses", sse(*BEFORE, COMPLETED, named=True))
    assert assembler.body() == response()
    assert (assembler.is_complete, assembler.broken) == (True, 0)


def test_a_stream_that_breaks_off_is_put_together_from_its_items() -> None:
    assembler = assembled("responses", sse(*BEFORE, named=True))
    assert not assembler.is_complete
    assert assembler.body() == response("in_progress", OUTPUT)


def test_a_last_event_with_an_empty_output_takes_the_items_that_were_streamed() -> None:
    empty = {"type": "response.completed", "response": response(output=[])}
    assert assembled("responses", sse(*BEFORE, empty, named=True)).body() == response()


def test_a_finished_item_replaces_what_was_put_together() -> None:
    done = [
        at("output_text.done", 1, content_index=0, text="Hello"),
        at("output_item.done", 2, item={**CALL, "name": "x"}),
    ]
    output = assembled("responses", sse(*BEFORE, *done, named=True)).body()["output"]
    assert output[1]["content"][0]["text"] == "Hello"
    assert output[2] == {**CALL, "name": "x"}


def test_deltas_whose_item_was_never_announced_are_kept() -> None:
    events = [at("output_text.delta", 3, content_index=i, delta=t) for i, t in ((9, "a"), (2, "c"), (9, "b"))]
    content = [{"type": "output_text", "text": "c"}, {"type": "output_text", "text": "ab"}]
    assert assembled("responses", sse(*events, named=True)).body() == {"output": [{"content": content}]}


@settings(deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=20), st.integers(0, len(BEFORE)), st.booleans())
def test_a_stream_reads_the_same_wherever_it_is_cut(places: list[int], events: int, is_whole: bool) -> None:
    stream = sse(*BEFORE[:events], *([COMPLETED] if is_whole else []), named=True)
    assert_same_however_cut("responses", stream, places)


@pytest.mark.parametrize(
    ("last", "reason", "error"),
    [
        ({"type": "response.incomplete", "response": response("incomplete", incomplete_details={"reason": "max_output_tokens"})}, "max_output_tokens", None),
        ({"type": "response.failed", "response": response("failed", error={"code": "server_error", "message": "Sorry."})}, "failed", ("server_error", "Sorry.")),
    ],
)  # fmt: skip
def test_a_stream_may_end_incomplete_or_failed(last: dict[str, Any], reason: str, error: Any) -> None:
    assembler = assembled("responses", sse(*BEFORE, last, named=True))
    assert assembler.is_complete
    said = responses.said(assembler.body())
    assert (said.finish_reasons, said.error) == ((reason,), error)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "rate_limit", "message": "Slow.", "param": None, "sequence_number": 3},
        {"type": "error", "error": {"code": "rate_limit", "message": "Slow."}},
    ],
)
def test_an_error_event_is_kept_beside_what_came_before(event: dict[str, Any]) -> None:
    assembler = assembled("responses", sse(*BEFORE, event, named=True))
    assert not assembler.is_complete
    said = responses.said(assembler.body())
    assert (said.error, said.id) == (("rate_limit", "Slow."), "resp_1")
    assert responses.said(assembled("responses", sse(event, named=True)).body()).error == (
        "rate_limit",
        "Slow.",
    )


def test_an_answer_reads_as_messages_of_the_genai_conventions_and_as_an_openai_message() -> None:
    said = responses.said(response())
    assert said.messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "reasoning", "content": "Well."},
                {"type": "text", "content": "Grüße"},
                {"type": "refusal", "content": "No."},
                {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Z"}},
                {"type": "tool_call", "id": "call_2", "name": "shell", "arguments": "ls -l"},
                {"type": "server_tool_call", "id": "ws_1", "name": "web_search", "server_tool_call": SEARCH},
                {
                    "type": "server_tool_call",
                    "id": "ci_1",
                    "name": "code_interpreter",
                    "server_tool_call": CODE,
                },
            ],
            "finish_reason": "completed",
        }
    ]
    completion = said.completion[0]
    assert (completion["content"], completion["finish_reason"]) == ("GrüßeNo.", "tool_calls")
    assert [call["function"]["name"] for call in completion["tool_calls"]] == ["weather", "shell"]
    assert said.usage == Usage(input=40, cache_read=60, output=30, reasoning=20)
    assert said.logprobs == LOGPROBS
    assert (said.id, said.model, said.finish_reasons) == ("resp_1", "m-1", ("completed",))


def test_a_picture_that_was_made_becomes_its_size_and_hash() -> None:
    item = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "A" * 8000}
    call = responses.said(response(output=[item])).messages[0]["parts"][0]["server_tool_call"]
    assert (call["result"]["bytes"], call["result"]["mime_type"]) == (6000, "image/png")


def test_a_request_with_items_reads_as_turns() -> None:
    asked = responses.asked(
        {
            "model": "m-1", "instructions": "Be brief.", "max_output_tokens": 9, "previous_response_id": "resp_0",
            "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_object"}}, "tool_choice": "required",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}, {"type": "input_image", "image_url": "https://x/y.png"}]},
                REASONING, CALL, {**CALL, "call_id": "call_3"},
                {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
                {"type": "function_call_output", "call_id": "call_3", "output": [{"type": "input_text", "text": "sun"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
                {"type": "message", "role": "user", "content": "Thanks"},
            ],
            "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}, {"type": "web_search"}],
        }
    )  # fmt: skip
    call = {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Z"}}
    assert asked.system == [{"type": "text", "content": "Be brief."}]
    assert asked.messages == [
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}, {"type": "uri", "modality": "image", "uri": "https://x/y.png"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}, {"type": "reasoning", "content": "Well."}, call, {**call, "id": "call_3"}]},
        {"role": "tool", "parts": [
            {"type": "tool_call_response", "id": "call_1", "response": "rain"}, {"type": "tool_call_response", "id": "call_3", "response": "sun"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "Rain."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Thanks"}]},
    ]  # fmt: skip
    assert [message["role"] for message in asked.prompt] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]
    assert [call["id"] for call in asked.prompt[2]["tool_calls"]] == ["call_1", "call_3"]
    assert asked.prompt[4] == {"role": "tool", "tool_call_id": "call_3", "content": "sun"}
    assert asked.tools == [
        {"type": "function", "name": "weather", "parameters": {"type": "object"}},
        {"type": "web_search"},
    ]
    assert asked.parameters == {
        "max_tokens": 9, "previous_response.id": "resp_0", "reasoning.level": "low", "response_format": {"type": "json_object"}, "tool_choice": "required",
    }  # fmt: skip
    assert asked.session == "resp_0"


def test_a_request_with_a_text_is_one_user_message() -> None:
    asked = responses.asked({"input": "Hi"})
    assert asked.messages == [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    assert asked.prompt == [{"role": "user", "content": "Hi"}]
