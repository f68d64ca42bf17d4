"""An exchange as a span: what every outcome looks like, and that nothing which anybody sends breaks it."""

import gzip
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.model_answers import anthropic_events, chat_events
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
    assert span_of(found)["attributes"]["leyden.gateway.outcome"] == "ok"
    assert len(found.record.span_id) == 16


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "gzip", "br", "zstd", "deflate", "x", "gzip, br"]),
    st.booleans(),
)
def test_bytes_of_any_kind_are_recorded(body: bytes, encoding: str, is_stream: bool) -> None:
    found = record(exchange(call(is_stream=is_stream), body=body, encoding=encoding))
    assert span_of(found)["attributes"]["http.response.status_code"] == 200
