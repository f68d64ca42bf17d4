"""The nouns of Leyden and the rules by which a rollout moves through its life.

Owns: one class per noun, its wire form (JSON in snake_case, times as float unix seconds), and the transition table as data.
Refuses to know: databases, HTTP, threads. Wire shapes are those of Agent Lightning 0.3's store protocol; fields that
Leyden adds are marked "ours" and are optional for every client.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

# ── States ───────────────────────────────────────────────────────────────────────────────────────────────────────


class RolloutStatus(StrEnum):
    """Where a rollout stands. `queuing` and `requeuing` wait for a worker; the last three are terminal."""

    QUEUING = "queuing"
    PREPARING = "preparing"
    RUNNING = "running"
    REQUEUING = "requeuing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """Where one execution stands. `timeout` and `unresponsive` are set by the watchdog.

    A cancelled rollout leaves its attempt `failed` with the reason "cancelled": published clients know no seventh status.
    """

    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNRESPONSIVE = "unresponsive"


class WorkerStatus(StrEnum):
    """What a runner process is doing; `unknown` until it says, and after its attempt went silent."""

    IDLE = "idle"
    BUSY = "busy"
    UNKNOWN = "unknown"


Mode = Literal["train", "val", "test"]

QUEUED_ROLLOUT = frozenset({RolloutStatus.QUEUING, RolloutStatus.REQUEUING})
ACTIVE_ROLLOUT = frozenset({RolloutStatus.PREPARING, RolloutStatus.RUNNING})
FINAL_ROLLOUT = frozenset({RolloutStatus.SUCCEEDED, RolloutStatus.FAILED, RolloutStatus.CANCELLED})
ACTIVE_ATTEMPT = frozenset({AttemptStatus.PREPARING, AttemptStatus.RUNNING})
FINAL_ATTEMPT = frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.TIMEOUT})

# Which status each status may move to when something happens *to an attempt* (a span, an update, the watchdog).
# A person or program may set any rollout status directly with `update_rollout`; only that and a new attempt leave a final one.
ROLLOUT_TRANSITIONS: dict[RolloutStatus, frozenset[RolloutStatus]] = {
    RolloutStatus.QUEUING: frozenset(set(RolloutStatus) - {RolloutStatus.QUEUING, RolloutStatus.REQUEUING}),
    RolloutStatus.PREPARING: frozenset(set(RolloutStatus) - {RolloutStatus.QUEUING, RolloutStatus.PREPARING}),
    RolloutStatus.RUNNING: frozenset(set(RolloutStatus) - {RolloutStatus.QUEUING, RolloutStatus.RUNNING}),
    RolloutStatus.REQUEUING: frozenset(
        {
            RolloutStatus.PREPARING,
            RolloutStatus.RUNNING,
            RolloutStatus.SUCCEEDED,
            RolloutStatus.FAILED,
            RolloutStatus.CANCELLED,
        }
    ),
    RolloutStatus.SUCCEEDED: frozenset(),
    RolloutStatus.FAILED: frozenset(),
    RolloutStatus.CANCELLED: frozenset(),
}

# An attempt that ended may be relabelled (succeeded → failed after a check), never revived.
ATTEMPT_TRANSITIONS: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    status: frozenset(AttemptStatus)
    if status not in FINAL_ATTEMPT
    else FINAL_ATTEMPT | {AttemptStatus.UNRESPONSIVE}
    for status in AttemptStatus
}


def rollout_status_after(
    attempt: AttemptStatus, *, sequence_id: int, max_attempts: int, retry_condition: list[AttemptStatus]
) -> RolloutStatus:
    """The status a rollout takes when its latest attempt enters `attempt`.

    A failed, timed-out or unresponsive attempt goes back to the queue when its status is in `retry_condition` and
    `sequence_id` (1-based number of the attempt) is below `max_attempts`; otherwise the rollout failed.
    """
    if attempt in (AttemptStatus.PREPARING, AttemptStatus.RUNNING, AttemptStatus.SUCCEEDED):
        return RolloutStatus(attempt.value)
    retry = attempt in retry_condition and sequence_id < max_attempts
    return RolloutStatus.REQUEUING if retry else RolloutStatus.FAILED


# ── Rollouts, attempts, workers ──────────────────────────────────────────────────────────────────────────────────


class RolloutConfig(BaseModel):
    """How long an attempt may take and when it is tried again."""

    timeout_seconds: float | None = Field(
        default=None, description="an attempt older than this, in seconds, times out"
    )
    unresponsive_seconds: float | None = Field(
        default=None, description="silence longer than this, in seconds, ends an attempt"
    )
    max_attempts: int = Field(default=1, ge=1)
    retry_condition: list[AttemptStatus] = Field(default_factory=list[AttemptStatus])


class EnqueueRollout(BaseModel):
    """One unit of work to put on the queue. `idempotency_key` (ours): the same key returns the first rollout again."""

    input: Any
    mode: Mode | None = None
    resources_id: str | None = None
    config: RolloutConfig | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: str | None = None


class Attempt(BaseModel):
    """One execution of a rollout. `failure_reason` (ours) says why it did not succeed."""

    rollout_id: str
    attempt_id: str
    sequence_id: int = Field(description="1-based inside the rollout")
    start_time: float
    end_time: float | None = None
    status: AttemptStatus = AttemptStatus.PREPARING
    worker_id: str | None = None
    last_heartbeat_time: float | None = None
    metadata: dict[str, Any] | None = None
    failure_reason: str | None = None


class Rollout(BaseModel):
    """One unit of work given to an agent. `start_time` is when it was created, not when it began to run."""

    rollout_id: str
    input: Any
    start_time: float
    end_time: float | None = None
    mode: Mode | None = None
    resources_id: str | None = None
    status: RolloutStatus = RolloutStatus.QUEUING
    config: RolloutConfig = Field(default_factory=RolloutConfig)
    metadata: dict[str, Any] | None = None
    failure_reason: str | None = None


class AttemptedRollout(Rollout):
    """A rollout together with its latest attempt. On the wire the presence of the key `attempt` tells the two apart."""

    attempt: Attempt


class Worker(BaseModel):
    """A runner process as the store knows it."""

    worker_id: str
    status: WorkerStatus = WorkerStatus.UNKNOWN
    heartbeat_stats: dict[str, Any] | None = None
    last_heartbeat_time: float | None = None
    last_dequeue_time: float | None = None
    last_busy_time: float | None = None
    last_idle_time: float | None = None
    current_rollout_id: str | None = None
    current_attempt_id: str | None = None


# ── Resources ────────────────────────────────────────────────────────────────────────────────────────────────────


class LLM(BaseModel):
    """A model endpoint an agent calls. `endpoint` is the base URL."""

    resource_type: Literal["llm"] = "llm"
    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)


class ProxyLLM(BaseModel):
    """A model endpoint behind a gateway that records per rollout; see `sdk` for its routed URL."""

    resource_type: Literal["proxy_llm"] = "proxy_llm"
    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)


class PromptTemplate(BaseModel):
    """A prompt with placeholders."""

    resource_type: Literal["prompt_template"] = "prompt_template"
    template: str
    engine: Literal["jinja", "f-string", "poml"]


Resource = Annotated[LLM | ProxyLLM | PromptTemplate, Field(discriminator="resource_type")]


class ResourcesUpdate(BaseModel):
    """One version of a named bundle of resources; `version` counts from 1 under one id."""

    resources_id: str
    create_time: float
    update_time: float
    version: int
    resources: dict[str, Resource]


# ── Spans ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class SpanContext(_Open):
    """The ids of a span. 32 and 16 hex digits by convention; any string is accepted."""

    trace_id: str
    span_id: str
    is_remote: bool
    trace_state: dict[str, str]


class TraceStatus(_Open):
    """How a span ended, in OpenTelemetry's three codes."""

    status_code: Literal["UNSET", "OK", "ERROR"]
    description: str | None = None


class Event(_Open):
    """Something that happened during a span; `timestamp` in unix seconds."""

    name: str
    attributes: dict[str, Any]
    timestamp: float | None = None


class Link(_Open):
    """A pointer from one span to another."""

    context: SpanContext
    attributes: dict[str, Any] | None = None


class OtelResource(BaseModel):
    """What produced the span: a service, a process, a host."""

    attributes: dict[str, Any]
    schema_url: str


class Span(_Open):
    """One OpenTelemetry span of an attempt in the store protocol's JSON form; unknown fields are kept."""

    rollout_id: str
    attempt_id: str
    sequence_id: int
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    status: TraceStatus
    attributes: dict[str, Any]
    events: list[Event]
    links: list[Link]
    start_time: float | None
    end_time: float | None
    context: SpanContext | None
    parent: SpanContext | None
    resource: OtelResource


SpanKind = Literal[
    "agent", "llm", "tool", "chain", "retriever", "embedding", "guardrail", "evaluator", "reward", "span"
]


@dataclass(slots=True)
class SpanSummary:
    """The narrow row of a span: what lists, trees and analysis read. Never holds payloads.

    A plain dataclass, not a pydantic model: the store builds one per row of a scan over everything.

    Times are unix nanoseconds; `status` is "unset", "ok" or "error"; previews are at most 200 characters.
    `fingerprint` groups equal errors: hash of tool (or span name) and the normalised error message.
    `call_hash` groups identical calls: hash of tool and canonical arguments (tools only).
    """

    rollout_id: str
    attempt_id: str
    sequence_id: int
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: SpanKind
    status: Literal["unset", "ok", "error"]
    start_ns: int | None
    end_ns: int | None
    agent: str | None = None
    tool: str | None = None
    provider: str | None = None
    model: str | None = None
    session: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    fingerprint: str | None = None
    call_hash: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    ttft_ms: float | None = None
    input_preview: str | None = None
    output_preview: str | None = None
    dialect: str | None = None


class Score(BaseModel):
    """A named number about a rollout, attempt or span. `source` says who gave it (reward, human, judge)."""

    rollout_id: str
    attempt_id: str | None = None
    span_id: str | None = None
    name: str
    value: float
    source: str = "reward"
    time: float


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class KeyLimits(BaseModel):
    """What a key may use of the gateway; None, or no models, is no limit.

    models: names or globs of those it may call, upper and lower case alike. expire_time: unix seconds from which on it is refused.
    rollout_id and attempt_id: the only ones whose calls it may make.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = Field(default=(), max_length=100)
    requests_per_minute: int | None = Field(default=None, ge=1, le=2**31)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=2**53)
    usd_per_day: float | None = Field(default=None, gt=0, le=1e9, allow_inf_nan=False)
    usd_per_rollout: float | None = Field(default=None, gt=0, le=1e9, allow_inf_nan=False)
    concurrency: int | None = Field(default=None, ge=1, le=2**31)
    expire_time: float | None = Field(default=None, ge=0, le=1e11, allow_inf_nan=False)
    rollout_id: str | None = Field(default=None, min_length=1)
    attempt_id: str | None = Field(default=None, min_length=1)


# ── Findings ─────────────────────────────────────────────────────────────────────────────────────────────────────

FindingKind = Literal["tool_failure", "error", "retry", "repeated_call", "failed_rollouts", "slow"]
Severity = Literal["high", "medium", "low"]
FindingStatus = Literal["open", "accepted", "fixed", "dismissed"]


class EvidenceSpan(NamedTuple):
    """Where to look: the ids of one span that shows the finding."""

    rollout_id: str
    attempt_id: str
    span_id: str


class Impact(BaseModel):
    """What a finding costs. `runs` counts rollouts with at least one occurrence, `failed_runs` those that also failed."""

    occurrences: int
    runs: int
    failed_runs: int = 0
    time_s: float = 0.0
    tokens: int = 0
    cost_usd: float | None = None


class Finding(BaseModel):
    """Something worth fixing. `fingerprint` makes it one finding across runs and weeks; evidence is capped, impact is not."""

    fingerprint: str
    kind: FindingKind
    severity: Severity
    title: str
    recommendation: str
    impact: Impact
    agent: str | None = None
    tool: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    evidence: list[EvidenceSpan] = Field(default_factory=list[EvidenceSpan])
    status: FindingStatus = "open"
    first_seen: float | None = None
    last_seen: float | None = None


# ── Live events ──────────────────────────────────────────────────────────────────────────────────────────────────

Topic = Literal["rollouts", "spans", "findings"]


class StoreEvent(NamedTuple):
    """Something that has just changed: a rollout took a status, spans of a rollout arrived, a finding changed.

    id: of the rollout, or the fingerprint of the finding. status: its new one; None for spans. topic "gap" tells a watcher
    that events were missed and that it has to read again.
    """

    topic: Topic | Literal["gap"]
    id: str
    status: str | None
    project: str


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A slice of a list. `total` counts matches before slicing; `limit` −1 means unlimited.

    When `total_is_exact` is false there are at least `total`, always more than were shown so far. `next_cursor`, where a
    list has cursors, asks for the page behind this one; None on the last.
    """

    items: list[T]
    limit: int
    offset: int
    total: int
    total_is_exact: bool = True
    next_cursor: str | None = None
