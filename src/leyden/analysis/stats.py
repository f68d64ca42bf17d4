"""Counts, latency, tokens and cost of one group of calls: an agent, a tool or a model."""

import heapq
from dataclasses import dataclass, field

from pydantic import BaseModel

from leyden.analysis.run import AgentCall, Events, ModelCall, Run, ToolCall
from leyden.analysis.sketch import Sketch
from leyden.types import EvidenceSpan, SpanSummary

SLOWEST = 20
UNKNOWN_MODEL = "unknown model"


class CallStats(BaseModel):
    """What one agent, tool or model did. Latencies and time are seconds; None means unknown, which is not 0.

    `runs` counts rollouts that made such a call. `timed_calls` of its calls have a known duration: latencies are theirs and
    `time_s` is their sum. Tokens and cost are those of the
    model calls of the group (an agent's are those made inside it, without its sub-agents'); `priced_calls` of its
    `model_calls` have a known cost, so a total over fewer than all of them is a lower bound.
    """

    name: str
    provider: str | None = None
    calls: int
    failures: int
    failure_rate: float
    runs: int
    timed_calls: int = 0
    latency_p50_s: float | None
    latency_p95_s: float | None
    time_s: float
    model_calls: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    priced_calls: int = 0


@dataclass(slots=True)
class Tally:
    """Running totals of one group. `own_time_s` leaves out calls that contain other calls; `slowest` are of the rest."""

    name: str
    provider: str | None = None
    calls: int = 0
    failures: int = 0
    runs: int = 0
    failed_runs: int = 0
    latency: Sketch = field(default_factory=Sketch)
    time_s: float = 0.0
    own_time_s: float = 0.0
    slowest: list[tuple[float, EvidenceSpan]] = field(default_factory=list[tuple[float, EvidenceSpan]])
    first_ns: int | None = None
    last_ns: int | None = None
    model_calls: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    priced_calls: int = 0
    _last_rollout: str | None = None

    def call(self, run: Run, span: SpanSummary, *, failed: bool, duration_s: float | None) -> None:
        """Count one call."""
        self.calls += 1
        self.failures += failed
        self.seen_in(run)
        if duration_s is not None:
            self.latency.add(duration_s)
            self.time_s += duration_s
        if (at := span.start_ns) is not None:
            if self.first_ns is None or at < self.first_ns:
                self.first_ns = at
            if self.last_ns is None or at > self.last_ns:
                self.last_ns = at

    def seen_in(self, run: Run) -> None:
        """Count the rollout, once however often it is named in a row."""
        if run.rollout_id != self._last_rollout:
            self.runs += 1
            self.failed_runs += run.failed
            self._last_rollout = run.rollout_id

    def waited(self, span: SpanSummary, duration_s: float) -> None:
        """Count the time of a call that contains no other call, and remember it when it is among the slowest."""
        self.own_time_s += duration_s
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, (duration_s, _evidence(span)))
        elif duration_s > self.slowest[0][0]:
            heapq.heapreplace(self.slowest, (duration_s, _evidence(span)))

    def usage(self, call: ModelCall) -> None:
        """Count what a model call used."""
        self.model_calls += 1
        if call.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + call.input_tokens
        if call.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + call.output_tokens
        if call.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + call.cost_usd
            self.priced_calls += 1

    def stats(self) -> CallStats:
        """The totals so far."""
        return CallStats(
            name=self.name,
            provider=self.provider,
            calls=self.calls,
            failures=self.failures,
            failure_rate=self.failures / self.calls if self.calls else 0.0,
            runs=self.runs,
            timed_calls=self.latency.count,
            latency_p50_s=self.latency.quantile(0.5),
            latency_p95_s=self.latency.quantile(0.95),
            time_s=self.time_s,
            model_calls=self.model_calls,
            tool_calls=self.tool_calls,
            tool_failures=self.tool_failures,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            priced_calls=self.priced_calls,
        )


def _evidence(span: SpanSummary) -> EvidenceSpan:
    return EvidenceSpan(span.rollout_id, span.attempt_id, span.span_id)


@dataclass(slots=True)
class Tallies:
    """Totals per agent, per tool, and per (provider, model)."""

    agents: dict[str, Tally] = field(default_factory=dict[str, Tally])
    tools: dict[str, Tally] = field(default_factory=dict[str, Tally])
    models: dict[tuple[str | None, str], Tally] = field(default_factory=dict[tuple[str | None, str], Tally])

    def add(self, events: Events) -> None:
        """Count one run."""
        for call in events.agent_calls:
            self._agent_call(events.run, call)
        for call in events.tool_calls:
            self._tool_call(events.run, call)
        for call in events.model_calls:
            self._model_call(events.run, call)

    def _agent_call(self, run: Run, call: AgentCall) -> None:
        self._agent(call.agent).call(run, call.span, failed=call.failed, duration_s=call.duration_s)

    def _tool_call(self, run: Run, call: ToolCall) -> None:
        tally = self.tools.get(call.tool) or self.tools.setdefault(call.tool, Tally(call.tool))
        tally.call(run, call.span, failed=call.failed, duration_s=call.duration_s)
        if call.duration_s is not None and not call.is_outer:
            tally.waited(call.span, call.duration_s)
        if call.agent is not None:
            agent = self._agent(call.agent)
            agent.seen_in(run)
            agent.tool_calls += 1
            agent.tool_failures += call.failed

    def _model_call(self, run: Run, call: ModelCall) -> None:
        key = (call.span.provider, call.span.model or UNKNOWN_MODEL)
        tally = self.models.get(key) or self.models.setdefault(key, Tally(key[1], provider=key[0]))
        tally.call(run, call.span, failed=call.failed, duration_s=call.duration_s)
        tally.usage(call)
        if call.duration_s is not None:
            tally.waited(call.span, call.duration_s)
        if call.agent is not None:
            agent = self._agent(call.agent)
            agent.seen_in(run)
            agent.usage(call)

    def _agent(self, name: str) -> Tally:
        return self.agents.get(name) or self.agents.setdefault(name, Tally(name))
