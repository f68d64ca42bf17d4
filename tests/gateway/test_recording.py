"""An exchange as a span: what every outcome looks like, and that nothing which anybody sends breaks it."""

import gzip
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.model_answers import anthropic_events, chat_events, event, responses_events
from gateway.exchanges import BEGAN_NS, IDENTITY, call, exchange
from gateway.streams import odd_json, sse
from leyden.gateway.call import Door, Exchange
from leyden.gateway.recording import Recorded, recorded
from leyden.ingest.prices import Priced, Rates, price
from leyden.ingest.usage import Usage


def listed(usage: Usage, provider: str | None, model: str, at_s: float, tier: str | None) -> Priced | None:
    return price(usage, provider=provider, model=model, at_s=at_s, service_tier=tier)


record = partial(
    recorded,
    kind="openai",
    price_provider=None,
    price=listed,
    with_content=True,
    max_bytes=2**20,
    shared=None,
)


def span_of(found: Recorded) -> dict[str, Any]:
    return json.loads(found.record.payload)


def said_in(one: Exchange, **more: Any) -> dict[str, Any]:
    return span_of(record(one, **more))["attributes"]


def test_a_span_has_the_ids_and_times_of_its_call() -> None:
    identity = IDENTITY._replace(trace_id="a" * 32, parent_id="b" * 16, session="s", mode="train")
    span = span_of(
        record(exchange(call(identity=identity), policy_version="v7", resources={"deployment": "d@p"}))
    )
    assert (span["rollout_id"], span["attempt_id"]) == ("ro-1", "at-1")
    assert (span["trace_id"], span["parent_id"]) == ("a" * 32, "b" * 16)
    assert (span["start_time"], span["end_time"]) == (BEGAN_NS / 1e9, BEGAN_NS / 1e9 + 1.5)
    said = span["attributes"]
    assert (said["gen_ai.conversation.id"], said["leyden.mode"]) == ("s", "train")
    assert (said["leyden.policy_version"], said["leyden.deployment"]) == ("v7", "d@p")


def test_columns_are_filled_in_beside_the_span() -> None:
    row = record(exchange()).record
    assert (row.kind, row.status, row.model, row.provider) == ("llm", "ok", "gpt-4o", "openai")
    assert (row.input_tokens, row.output_tokens) == (7, 2)
    assert row.cost_usd == pytest.approx((7 * 2.5 + 2 * 10) / 1e6)
    assert (row.input_preview, row.output_preview) == ("Hello?", "Hi there")


def test_the_price_list_that_was_used_is_kept() -> None:
    snapshot = json.loads(said_in(exchange())["leyden.price"])
    assert snapshot["source"].startswith("genai-prices ")
    assert snapshot["usd_per_million_tokens"]["output"] == 10


@pytest.mark.parametrize("kind", ["vllm", "sglang", "ollama"])
def test_what_runs_on_ones_own_machine_has_no_price_whatever_it_is_called(kind: str) -> None:
    assert "gen_ai.usage.cost" not in said_in(exchange(), kind=kind)
    own = Priced(0.5, "override", Rates())
    assert said_in(exchange(), kind=kind, price=lambda *_: own)["gen_ai.usage.cost"] == 0.5


def test_an_unknown_price_is_no_zero() -> None:
    asked = {"model": "somebodys-own", "messages": []}
    body = json.dumps(
        {"id": "x", "model": "somebodys-own", "choices": [], "usage": {"prompt_tokens": 7}}
    ).encode()
    found = record(exchange(call(asked=asked), body=body))
    assert (found.usd, found.record.cost_usd, found.record.input_tokens) == (None, None, 7)


@pytest.mark.parametrize(
    ("outcome", "status", "error", "expected"),
    [
        ("cancelled", 200, None, (None, "UNSET")),
        ("broken", 200, "Upstream broke off", ("broken", "ERROR")),
        ("timeout", 504, "silent", ("timeout", "ERROR")),
        ("unreachable", 502, "no connection", ("unreachable", "ERROR")),
        ("refused", 429, "too many", ("refused", "ERROR")),
    ],
)
def test_every_outcome_has_its_status(
    outcome: str, status: int, error: str | None, expected: tuple[Any, str]
) -> None:
    span = span_of(record(exchange(body=b"", outcome=outcome, status=status, error=error)))
    assert (span["attributes"].get("error.type"), span["status"]["status_code"]) == expected
    assert span["status"]["description"] == (error if expected[0] else None)
    assert span["attributes"]["leyden.gateway.outcome"] == outcome


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"error": {"type": "rate_limit_error", "message": "slow"}}', "rate_limit_error", "slow"),
        (
            b'[{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}}]',
            "INVALID_ARGUMENT",
            "no",
        ),
        (b"<html>Bad gateway</html>", "502", "the upstream answered 502"),
        (b"", "502", "the upstream answered 502"),
    ],
)
def test_an_error_of_an_upstream_is_told_in_its_words(body: bytes, kind: str, message: str) -> None:
    span = span_of(record(exchange(body=body, outcome="error", status=502)))
    assert (span["attributes"]["error.type"], span["status"]["description"]) == (kind, message)


def test_an_error_in_a_stream_that_began_well_is_one() -> None:
    body = b"".join(chat_events("one two")[:3]) + sse({"error": {"type": "server_error", "message": "gone"}})
    span = span_of(record(exchange(call(is_stream=True), body=body)))
    assert (span["attributes"]["error.type"], span["status"]["status_code"]) == ("server_error", "ERROR")
    assert span["attributes"]["gen_ai.completion.0.content"] == "one two"
    assert span["attributes"]["leyden.gateway.outcome"] == "error"


STREAMS: dict[Door, list[bytes]] = {
    "chat": chat_events("one two three four"),
    "messages": anthropic_events("one two three four"),
    "responses": responses_events("one two three four"),
}


def streamed(door: Door, events: list[bytes], **more: Any) -> dict[str, Any]:
    span = span_of(record(exchange(call(door, is_stream=True), body=b"".join(events), **more)))
    return {**span["attributes"], **span["status"]}


@pytest.mark.parametrize("door", STREAMS)
def test_a_stream_that_ends_before_its_answer_does_is_broken_and_kept_as_far_as_it_came(door: Door) -> None:
    said = streamed(door, STREAMS[door][: {"chat": 5, "messages": 7, "responses": 7}[door]])
    assert (said["leyden.gateway.outcome"], said["status_code"], said["error.type"]) == (
        "broken",
        "ERROR",
        "broken",
    )
    assert said["description"] == "the stream ended before its answer was complete"
    assert said["gen_ai.completion.0.content"].startswith("one two three")


@pytest.mark.parametrize("door", STREAMS)
def test_a_stream_that_came_to_its_end_is_a_success(door: Door) -> None:
    said = streamed(door, STREAMS[door])
    assert (said["leyden.gateway.outcome"], said["status_code"]) == ("ok", "OK")
    assert "leyden.usage.estimated" not in said


@pytest.mark.parametrize("without", [1, 2])
def test_a_chat_stream_without_its_done_mark_or_its_counts_is_complete_with_its_finish_reason(
    without: int,
) -> None:
    said = streamed("chat", STREAMS["chat"][:-without])
    assert (said["leyden.gateway.outcome"], said["status_code"]) == ("ok", "OK")
    assert "leyden.usage.estimated" not in said


def test_the_last_event_of_a_stream_may_lack_its_blank_line() -> None:
    for lacks in (b"\n", b"\n\n"):
        said = streamed("chat", [b"".join(STREAMS["chat"][:-1]).removesuffix(lacks)])
        assert said["gen_ai.usage.output_tokens"] == 4


# ── Streams of which a part is missing ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", STREAMS)
@pytest.mark.parametrize("outcome", ["cancelled", "broken", "timeout", "ok"])
def test_a_stream_that_ended_before_its_tokens_were_counted_is_estimated(door: Door, outcome: str) -> None:
    said = streamed(door, STREAMS[door][: {"chat": 5, "messages": 7, "responses": 7}[door]], outcome=outcome)
    assert said["leyden.usage.estimated"] is True
    assert said["gen_ai.usage.output_tokens"] in (3, 4)
    assert said["gen_ai.usage.input_tokens"] > 3
    if door == "messages":
        assert said["gen_ai.usage.input_tokens"] == 7


def test_what_is_estimated_costs_what_it_would_cost() -> None:
    found = record(exchange(call("responses", is_stream=True), body=b"".join(STREAMS["responses"][:7])))
    usage, usd = found.usage, found.usd
    assert usage is not None
    assert usd == pytest.approx((usage.input * 2.5 + usage.output * 10) / 1e6)


def test_calls_with_their_arguments_are_estimated_too() -> None:
    part = {"index": 0, "id": "c", "function": {"name": "look", "arguments": '{"word": "' + "x" * 400}}
    chunk = {"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}
    assert streamed("chat", [event(chunk)])["gen_ai.usage.output_tokens"] > 100


def test_a_picture_is_estimated_as_one_and_not_as_its_text() -> None:
    url = "data:image/png;base64," + "A" * 400_000
    content = [{"type": "image_url", "image_url": {"url": url}}]
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
    one = exchange(call(asked=asked, is_stream=True), body=STREAMS["chat"][0])
    assert said_in(one)["gen_ai.usage.input_tokens"] < 5_000


@pytest.mark.parametrize(
    "body", [b"", b": ping\n\n", sse({"error": {"type": "server_error", "message": "gone"}})]
)
def test_where_nothing_came_nothing_is_estimated(body: bytes) -> None:
    said = streamed("chat", [body], outcome="broken")
    assert not [name for name in said if name.startswith(("gen_ai.usage", "leyden.usage"))]


def test_counts_that_came_before_the_client_left_stand() -> None:
    said = streamed("messages", STREAMS["messages"][:-1], outcome="cancelled")
    assert (said["gen_ai.usage.output_tokens"], "leyden.usage.estimated" in said) == (4, False)


def test_a_response_that_was_left_has_no_finish_reason() -> None:
    said = streamed("responses", STREAMS["responses"][:7], outcome="cancelled")
    assert "gen_ai.response.finish_reasons" not in said
    assert "gen_ai.completion.0.finish_reason" not in said


@pytest.mark.parametrize("door", STREAMS)
@pytest.mark.parametrize("lost", [0, 1, 5])
def test_what_stands_at_the_end_of_a_long_stream_counts_when_its_middle_was_not_kept(
    door: Door, lost: int
) -> None:
    whole = b"".join(STREAMS[door])
    middle = whole.index(b"three") + 3
    end = max(whole.index(b"four") + 3, middle + lost) if door != "responses" else middle + lost
    said = streamed(door, [whole[:middle]], tail=whole[end:], is_cut=True)
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (7, 4)
    assert (said["leyden.gateway.outcome"], said["leyden.gateway.cut"]) == ("ok", True)


@pytest.mark.parametrize("door", STREAMS)
def test_a_small_limit_cuts_what_is_kept_and_nothing_that_is_counted(door: Door) -> None:
    events = STREAMS[door]
    if door == "chat":
        events = chat_events("word " * 1000)
    found = record(exchange(call(door, is_stream=True), body=b"".join(events)), max_bytes=100)
    said = span_of(found)["attributes"]
    assert said["gen_ai.usage.output_tokens"] == (1001 if door == "chat" else 4)
    assert len(said["gen_ai.completion.0.content"]) < 150
    assert len(said["leyden.response.body"]) <= 100
    assert said["leyden.gateway.cut"] is True


def test_the_tokens_of_an_answer_whose_middle_is_missing_are_no_row() -> None:
    chunk = {"id": "1", "choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": [1, 2]}]}
    said = streamed("chat", [event(chunk)], tail=b"".join(STREAMS["chat"][-3:]), is_cut=True)
    assert "response_token_ids" not in said


@pytest.mark.parametrize(
    ("door", "stream"),
    [("chat", b"".join(chat_events("Hi there"))), ("messages", b"".join(anthropic_events("Hi there")))],
)
def test_a_stream_is_kept_as_the_body_that_the_same_call_without_one_has(door: Door, stream: bytes) -> None:
    said = said_in(exchange(call(door, is_stream=True), body=stream))
    body = json.loads(said["leyden.response.body"])
    text = body["choices"][0]["message"]["content"] if door == "chat" else body["content"][0]["text"]
    assert text == said["gen_ai.completion.0.content"] == "Hi there"
    assert said["gen_ai.response.time_to_first_chunk"] == 0.5


def test_a_compressed_answer_is_read_and_a_broken_one_up_to_its_fault() -> None:
    body = gzip.compress(exchange().body[0])
    assert said_in(exchange(body=body, encoding="gzip"))["gen_ai.usage.output_tokens"] == 2
    stream = gzip.compress(b"".join(chat_events("Hi there")))[:-20]
    assert (
        said_in(exchange(call(is_stream=True), body=stream, encoding="gzip"))["leyden.gateway.outcome"]
        == "ok"
    )


def test_content_that_is_not_to_be_kept_is_nowhere_in_the_record() -> None:
    found = record(exchange(), with_content=False)
    assert b"Hello?" not in found.record.payload
    assert b"Hi there" not in found.record.payload
    assert (found.record.input_preview, found.record.output_preview) == (None, None)
    assert span_of(found)["attributes"]["gen_ai.usage.input_tokens"] == 7


def test_bodies_are_cut_at_the_limit() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "x" * 50_000}]}
    said = said_in(exchange(call(asked=asked)), max_bytes=1_000)
    assert len(said["leyden.request.body"]) == 1_000


WORDS = [
    "id", "model", "choices", "message", "delta", "content", "text", "tool_calls", "function", "arguments", "usage", "prompt_tokens",
    "completion_tokens", "input_tokens", "output", "type", "error", "role", "finish_reason", "messages", "tools", "system", "input",
    "stop_reason", "index", "logprobs", "token_ids", "response", "message_start", "content_block_delta", "response.completed",
]  # fmt: skip


@given(
    st.sampled_from(["chat", "completions", "responses", "embeddings", "messages"]),
    st.dictionaries(st.sampled_from(WORDS), odd_json(WORDS), max_size=6),
    st.lists(odd_json(WORDS) | st.binary(max_size=20), max_size=4),
    st.booleans(),
)
def test_whatever_is_asked_and_answered_is_recorded(
    door: Door, asked: dict[str, Any], answers: list[Any], is_stream: bool
) -> None:
    asked = json.loads(json.dumps(asked).replace("Infinity", "0").replace("NaN", "0"))
    events = [
        one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() + b"\n\n" for one in answers
    ]
    body = b"".join(events) if is_stream else json.dumps([str(one) for one in answers]).encode()
    found = record(exchange(call(door, asked=asked, is_stream=is_stream), body=body))
    outcomes = ("ok", "error", "broken") if is_stream else ("ok",)
    assert span_of(found)["attributes"]["leyden.gateway.outcome"] in outcomes
    assert len(found.record.span_id) == 16


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "gzip", "br", "zstd", "deflate", "x", "gzip, br"]),
    st.booleans(),
)
def test_bytes_of_any_kind_are_recorded(body: bytes, encoding: str, is_stream: bool) -> None:
    found = record(exchange(call(is_stream=is_stream), body=body, encoding=encoding))
    assert span_of(found)["attributes"]["http.response.status_code"] == 200
