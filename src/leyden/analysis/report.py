"""`analyze`: runs in, one report out, in one pass.

Memory grows with distinct agents, tools, models and errors, not with runs or spans.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from leyden.analysis.failures import FailureGroup, Failures
from leyden.analysis.findings import (
    from_bottlenecks,
    from_failures,
    from_repeats,
    from_retries,
    from_silent_failures,
    rank,
)
from leyden.analysis.occurrences import Occurrences
from leyden.analysis.repeats import Repeats, RepeatStats
from leyden.analysis.retries import Retries, RetryStats
from leyden.analysis.run import Events, ProblemKind, Run, read
from leyden.analysis.stats import CallStats, Tallies, Tally
from leyden.types import EvidenceSpan, Finding, Severity

_EXAMPLES = 5

_PROBLEM_TEXT: dict[ProblemKind, str] = {
    "no_spans": "runs without a single span: only their outcome counts",
    "no_time": "spans without a start or an end: their latency is unknown",
    "negative_duration": "spans that end before they start: left out of latency",
    "orphan_parent": "spans whose parent is not in the run: read as if they had none",
    "parent_cycle": "spans that are their own ancestor: the circle is cut",
    "duplicate_id": "spans with an id seen before in the run: only the first counts",
    "bad_usage": "model calls with negative or impossible tokens or cost: taken as unknown",
}


class DataProblem(BaseModel):
    """Something wrong with the telemetry. `examples` are up to five places; a span id "" means the whole run."""

    kind: ProblemKind
    message: str
    count: int
    runs: int
    examples: list[EvidenceSpan]


class Totals(BaseModel):
    """Everything together. `failed_without_error` counts failed runs with no failing span; tokens and cost are of leaf model
    calls; `priced_calls` of `model_calls` have a known cost; first and last are unix seconds."""

    runs: int
    rollouts: int
    failed: int
    failed_without_error: int
    scored: int
    mean_reward: float | None
    spans: int
    failed_spans: int
    errors: int
    tool_calls: int
    tool_failures: int
    model_calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    priced_calls: int
    first_seen: float | None
    last_seen: float | None


class Report(BaseModel):
    """What many runs say. Lists are sorted by what matters first; findings are ranked.

    `severity` is that of the worst finding, None without one. `errors` counts causes: the deepest failing spans.
    `generated_at` is unix seconds.
    """

    generated_at: float
    severity: Severity | None
    totals: Totals
    findings: list[Finding]
    tools: list[CallStats]
    agents: list[CallStats]
    models: list[CallStats]
    failures: list[FailureGroup]
    retries: list[RetryStats]
    repeats: list[RepeatStats]
    data_problems: list[DataProblem]


def analyze(runs: Iterable[Run], *, now: float) -> Report:
    """Everything the runs tell without asking a model. now: unix seconds, only stamped on the report."""
    counts = _Counts()
    for run in runs:
        counts.add(read(run))
    return _report(counts, now=now)


@dataclass(slots=True)
class _Counts:
    runs: int = 0
    rollouts: int = 0
    failed: int = 0
    scored: int = 0
    reward_sum: float = 0.0
    spans: int = 0
    failed_spans: int = 0
    first_seen: float | None = None
    last_seen: float | None = None
    tallies: Tallies = field(default_factory=Tallies)
    failures: Failures = field(default_factory=Failures)
    retries: Retries = field(default_factory=Retries)
    repeats: Repeats = field(default_factory=Repeats)
    silent: Occurrences = field(default_factory=Occurrences)
    silent_runs: int = 0
    problems: dict[ProblemKind, DataProblem] = field(default_factory=dict[ProblemKind, DataProblem])
    _last_rollout: str | None = None

    def add(self, events: Events) -> None:
        run = events.run
        self.runs += 1
        self.rollouts += run.rollout_id != self._last_rollout
        self._last_rollout = run.rollout_id
        self.failed += run.failed
        if run.reward is not None and run.reward == run.reward:
            self.scored += 1
            self.reward_sum += run.reward
        self.spans += len(run.spans)
        self.failed_spans += events.failed_spans
        self._see(run)
        self.tallies.add(events)
        self.failures.add(events)
        self.retries.add(events)
        self.repeats.add(events)
        if run.failed and not events.failed_spans:
            self.silent_runs += 1
            if run.spans:
                self.silent.add(run, run.spans[-1], time_s=_run_time(run))
        self._problems(events)

    def _see(self, run: Run) -> None:
        starts = [s.start_ns for s in run.spans if s.start_ns is not None]
        ends = [s.end_ns for s in run.spans if s.end_ns is not None]
        start = min(starts) / 1e9 if starts else run.start_time
        end = max(ends) / 1e9 if ends else run.end_time
        if start is not None and (self.first_seen is None or start < self.first_seen):
            self.first_seen = start
        if end is not None and (self.last_seen is None or end > self.last_seen):
            self.last_seen = end

    def _problems(self, events: Events) -> None:
        seen: set[ProblemKind] = set()
        for kind, span_id in events.problems:
            problem = self.problems.get(kind) or self.problems.setdefault(
                kind, DataProblem(kind=kind, message=_PROBLEM_TEXT[kind], count=0, runs=0, examples=[])
            )
            problem.count += 1
            problem.runs += kind not in seen
            seen.add(kind)
            if len(problem.examples) < _EXAMPLES:
                problem.examples.append(
                    EvidenceSpan(events.run.rollout_id, events.run.attempt_id, span_id or "")
                )


def _run_time(run: Run) -> float | None:
    if run.start_time is None or run.end_time is None:
        return None
    return max(run.end_time - run.start_time, 0.0)


def _report(counts: _Counts, *, now: float) -> Report:
    tallies = counts.tallies
    findings = rank(
        [
            *from_failures(counts.failures, tallies.tools, runs=counts.runs),
            *from_retries(counts.retries),
            *from_repeats(counts.repeats),
            *from_silent_failures(counts.silent, failed=counts.failed, runs=counts.runs),
            *from_bottlenecks(tallies),
        ],
        failure_rate=counts.failed / counts.runs if counts.runs else 0.0,
    )
    return Report(
        generated_at=now,
        severity=findings[0].severity if findings else None,
        totals=_totals(counts),
        findings=findings,
        tools=_stats(tallies.tools.values()),
        agents=_stats(tallies.agents.values()),
        models=_stats(tallies.models.values()),
        failures=_failure_groups(counts),
        retries=sorted(
            (tool.stats(name) for name, tool in counts.retries.tools.items() if tool.retried),
            key=lambda r: (-r.retried, r.tool),
        ),
        repeats=sorted(
            (tool.stats(name) for name, tool in counts.repeats.tools.items()),
            key=lambda r: (-r.immediate, -r.wasted, r.tool),
        ),
        data_problems=sorted(counts.problems.values(), key=lambda p: (-p.count, p.kind)),
    )


def _totals(counts: _Counts) -> Totals:
    tools, models = counts.tallies.tools.values(), counts.tallies.models.values()
    return Totals(
        runs=counts.runs,
        rollouts=counts.rollouts,
        failed=counts.failed,
        failed_without_error=counts.silent_runs,
        scored=counts.scored,
        mean_reward=counts.reward_sum / counts.scored if counts.scored else None,
        spans=counts.spans,
        failed_spans=counts.failed_spans,
        errors=sum(group.count for group in counts.failures.groups.values()),
        tool_calls=sum(tool.calls for tool in tools),
        tool_failures=sum(tool.failures for tool in tools),
        model_calls=sum(model.calls for model in models),
        input_tokens=_sum_known(model.input_tokens for model in models),
        output_tokens=_sum_known(model.output_tokens for model in models),
        cost_usd=_sum_known(model.cost_usd for model in models),
        priced_calls=sum(model.priced_calls for model in models),
        first_seen=counts.first_seen,
        last_seen=counts.last_seen,
    )


Number = TypeVar("Number", int, float)


def _sum_known(values: Iterable[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], start=known[0]) if known else None


def _stats(tallies: Iterable[Tally]) -> list[CallStats]:
    return sorted((t.stats() for t in tallies), key=lambda s: (-s.failures, -s.calls, s.name))


def _failure_groups(counts: _Counts) -> list[FailureGroup]:
    groups = [
        FailureGroup(
            fingerprint=error_fingerprint,
            name=name,
            is_tool=is_tool,
            error_type=group.wording[0],
            error_message=group.wording[1],
            agent=group.agent,
            count=group.count,
            calls=(calls := counts.tallies.tools[name].calls if is_tool else None),
            share=group.count / calls if calls else None,
            runs=group.runs,
            failed_runs=group.failed_runs,
        )
        for (is_tool, name, error_fingerprint), group in counts.failures.groups.items()
    ]
    return sorted(groups, key=lambda g: (not g.is_tool, -g.count, g.name, g.fingerprint))
