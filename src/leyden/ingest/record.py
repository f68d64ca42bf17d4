"""What ingest hands to the store: one flat record per span, in the order of the columns that hold it.

A NamedTuple because a hundred thousand of them are built per load test: the store passes slices of it to the driver.
"""

from typing import NamedTuple

from leyden.types import SpanKind

PREVIEW_CHARS = 200
GATEWAY = "gateway"
"""`source` of spans that the gateway records, and of the rollouts that it begins for them."""


class SpanRecord(NamedTuple):
    """One span, derived columns first, the bytes as they came last.

    rollout_id and attempt_id are always set: a span that names none gets `ro-` + its trace id and `at-` + the first eight
    digits of it, and `source` says so ("otlp", a reader's format, …); `source` None means the span named its rollout.
    sequence_id None asks the store for the next one of the rollout. Times are unix nanoseconds. `kind` is a `SpanKind`;
    `status` is "unset", "ok" or "error". Previews hold at most 200 characters. `derived_by` is the version of the rules that filled the columns.
    `encoding` names how `payload` reads: see `ingest/payload.py`. `scores` are (name, value) pairs, the primary one first.
    """

    rollout_id: str
    attempt_id: str
    sequence_id: int | None
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: SpanKind
    status: str
    start_ns: int | None
    end_ns: int | None
    agent: str | None
    tool: str | None
    provider: str | None
    model: str | None
    session: str | None
    error_type: str | None
    error_message: str | None
    fingerprint: str | None
    call_hash: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    ttft_ms: float | None
    input_preview: str | None
    output_preview: str | None
    dialect: str | None
    derived_by: int
    encoding: str
    payload: bytes
    source: str | None = None
    scores: tuple[tuple[str, float], ...] = ()


class Rejected(NamedTuple):
    """A span that was refused alone: where it stood in the body and why."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    reason: str


class Decoded(NamedTuple):
    """One body, decoded: what to store and what was refused."""

    records: list[SpanRecord]
    rejected: list[Rejected]


class RecordedRun(NamedTuple):
    """One run from a file, as a reader yields it: a finished rollout with one attempt and its spans.

    rollout_id is derived from the content, so importing the same run again finds it. `status` is "succeeded", "failed" or
    "cancelled"; `spans` are spans in the store protocol's JSON form (`leyden.types.Span`), with `rollout_id` and
    `attempt_id` set. Times are unix seconds; None when the file has none. `reward` becomes the rollout's primary score.
    """

    rollout_id: str
    attempt_id: str
    input: object
    status: str
    start_time: float | None
    end_time: float | None
    metadata: dict[str, object]
    spans: list[dict[str, object]]
    reward: float | None = None
    failure_reason: str | None = None
    mode: str | None = None
