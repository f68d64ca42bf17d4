"""One run, and the view of it as tool calls, model calls and errors.

Promises never to crash on what telemetry does in practice: missing times, parents that never arrived, parent cycles,
ids sent twice, ends before starts. Each is counted as a data problem and the rest of the run is read.
Refuses to know: where runs come from, and anything about more than one run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from leyden.types import SpanSummary

ProblemKind = Literal[
    "no_spans", "no_time", "negative_duration", "orphan_parent", "parent_cycle", "duplicate_id", "bad_usage"
]


@dataclass(slots=True)
class Run:
    """One attempt at a rollout with its spans in sequence order. Times are unix seconds.

    Attempts of one rollout follow each other when many runs are read, so that a rollout counts once.
    """

    rollout_id: str
    attempt_id: str
    status: str
    spans: list[SpanSummary]
    reward: float | None = None
    start_time: float | None = None
    end_time: float | None = None

    @property
    def failed(self) -> bool:
        """The run ended as failed, or was scored at or below zero."""
        return self.status in ("failed", "timeout", "unresponsive") or (
            self.reward is not None and self.reward <= 0
        )


@dataclass(slots=True, eq=False)
class ModelCall:
    """One request to a model, counted once: the innermost span that knows its tokens.

    duration_s is None when a time is missing or negative; tokens and cost are None when unknown, never 0 instead.
    `lane` names the agent span the call happened in: parallel agents have separate lanes.
    """

    span: SpanSummary
    agent: str | None
    lane: str | None
    failed: bool
    duration_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None

    @property
    def tokens(self) -> int:
        return (self.input_tokens or 0) + (self.output_tokens or 0)


@dataclass(slots=True, eq=False)
class ToolCall:
    """One use of a tool. `asked_by` is the model call just before it in the same lane, None when there is none.

    `is_outer`: other calls happen inside (an agent used as a tool), so its duration contains theirs.
    """

    span: SpanSummary
    tool: str
    agent: str | None
    lane: str | None
    failed: bool
    duration_s: float | None
    is_outer: bool
    asked_by: ModelCall | None


class AgentCall(NamedTuple):
    """One agent span: an agent at work from start to end."""

    span: SpanSummary
    agent: str
    failed: bool
    duration_s: float | None


class Cause(NamedTuple):
    """A failing span with no failing span inside: where an error came from, not where it passed through."""

    span: SpanSummary
    call: ToolCall | ModelCall | None
    agent: str | None


class Problem(NamedTuple):
    """Something wrong with the telemetry itself. `span_id` None speaks of the whole run."""

    kind: ProblemKind
    span_id: str | None


@dataclass(slots=True)
class Events:
    """A run as analysis reads it; every list is in sequence order."""

    run: Run
    tool_calls: list[ToolCall] = field(default_factory=list[ToolCall])
    model_calls: list[ModelCall] = field(default_factory=list[ModelCall])
    agent_calls: list[AgentCall] = field(default_factory=list[AgentCall])
    causes: list[Cause] = field(default_factory=list[Cause])
    failed_spans: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])


def is_failed(span: SpanSummary) -> bool:
    """The span says so, or what it returned reads as an error."""
    return span.status == "error" or span.fingerprint is not None


def read(run: Run) -> Events:
    """The run as calls and errors. Token counts follow the leaf rule: an LLM span that has an LLM span with usage
    inside, and every agent or chain span, repeats what is counted further in and is not counted again."""
    events = Events(run)
    spans = _distinct(run, events.problems)
    parents, places = _tree(spans, events.problems)
    failing = [span_id for span_id, span in spans.items() if is_failed(span)]
    events.failed_spans = len(failing)
    outer_errors = _ancestors(failing, parents)
    calls = [i for i, s in spans.items() if s.kind in ("tool", "llm", "embedding")]
    outer_calls = _ancestors(calls, parents)
    with_usage = {i for i, s in spans.items() if s.kind in ("llm", "embedding") and _has_usage(s)}
    outer_usage = _ancestors(with_usage, parents)
    last_model_call: dict[str | None, ModelCall] = {}
    for span_id, span in spans.items():
        duration_s = _duration(span)
        if duration_s is None:
            if span.start_ns is not None and span.end_ns is not None:
                events.problems.append(Problem("negative_duration", span_id))
            elif span.kind != "reward":
                events.problems.append(Problem("no_time", span_id))
        lane, agent = places[span_id]
        failed = is_failed(span)
        call: ToolCall | ModelCall | None = None
        if span.kind == "tool":
            tool = span.tool or span.name
            asked_by = last_model_call.get(lane)
            is_outer = span_id in outer_calls
            call = ToolCall(span, tool, agent, lane, failed, duration_s, is_outer, asked_by)
            events.tool_calls.append(call)
        elif span.kind in ("llm", "embedding") and span_id not in outer_usage:
            if span_id in with_usage or not _is_inside(span_id, with_usage, parents):
                call = _model_call(span, agent, lane, failed, duration_s, events.problems)
                events.model_calls.append(call)
                last_model_call[lane] = call
        elif span.kind == "agent":
            events.agent_calls.append(AgentCall(span, agent or span.name, failed, duration_s))
        if failed and span_id not in outer_errors:
            events.causes.append(Cause(span, call, agent))
    return events


def _distinct(run: Run, problems: list[Problem]) -> dict[str, SpanSummary]:
    spans: dict[str, SpanSummary] = {}
    for span in run.spans:
        if span.span_id in spans:
            problems.append(Problem("duplicate_id", span.span_id))
        else:
            spans[span.span_id] = span
    if not spans:
        problems.append(Problem("no_spans", None))
    return spans


class _Place(NamedTuple):
    lane: str | None
    agent: str | None


_NOWHERE, _BEING_PLACED = _Place(None, None), _Place("", "")


def _tree(
    spans: dict[str, SpanSummary], problems: list[Problem]
) -> tuple[dict[str, str | None], dict[str, _Place]]:
    """The parent of each span inside this run, and the lane and agent it belongs to.

    A span without an agent of its own has that of the nearest one above it. Cycles are cut where they close, so that
    every later climb ends.
    """
    parents: dict[str, str | None] = {}
    for span_id, span in spans.items():
        parents[span_id] = known = span.parent_id if span.parent_id in spans else None
        if known is None and span.parent_id:
            problems.append(Problem("orphan_parent", span_id))
    places: dict[str, _Place] = {}
    for span_id in spans:
        path: list[str] = []
        at: str | None = span_id
        while at is not None and at not in places:
            places[at] = _BEING_PLACED
            path.append(at)
            at = parents[at]
        place = _NOWHERE if at is None else places[at]
        if place is _BEING_PLACED and path:
            problems.append(Problem("parent_cycle", at))
            parents[path[-1]] = None
            place = _NOWHERE
        for inner in reversed(path):
            places[inner] = place = _place(spans[inner], place)
    return parents, places


def _place(span: SpanSummary, above: _Place) -> _Place:
    if span.kind == "agent":
        return _Place(span.span_id, span.agent or span.name)
    if span.agent is None:
        return above
    # Recordings without agent spans still keep their agents apart by name.
    return _Place(above.lane or span.agent, span.agent)


def _ancestors(span_ids: Iterable[str], parents: dict[str, str | None]) -> set[str]:
    found: set[str] = set()
    for span_id in span_ids:
        above = parents[span_id]
        while above is not None and above not in found:
            found.add(above)
            above = parents[above]
    return found


def _is_inside(span_id: str, outer: set[str], parents: dict[str, str | None]) -> bool:
    above = parents[span_id]
    while above is not None:
        if above in outer:
            return True
        above = parents[above]
    return False


def _has_usage(span: SpanSummary) -> bool:
    return span.input_tokens is not None or span.output_tokens is not None


def _duration(span: SpanSummary) -> float | None:
    if span.start_ns is None or span.end_ns is None or span.end_ns < span.start_ns:
        return None
    return (span.end_ns - span.start_ns) / 1e9


def _model_call(
    span: SpanSummary,
    agent: str | None,
    lane: str | None,
    failed: bool,
    duration_s: float | None,
    problems: list[Problem],
) -> ModelCall:
    tokens_in, tokens_out, cost = span.input_tokens, span.output_tokens, span.cost_usd
    if (tokens_in or 0) < 0 or (tokens_out or 0) < 0 or not 0 <= (cost or 0) < float("inf"):
        problems.append(Problem("bad_usage", span.span_id))
        tokens_in = tokens_out = cost = None
    return ModelCall(span, agent, lane, failed, duration_s, tokens_in, tokens_out, cost)
