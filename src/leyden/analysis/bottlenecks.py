"""Where the time goes.

Detects: the tools and models that take the largest share of all time spent in calls. Calls that contain other calls are
left out, so no second is counted twice.
Cannot tell: time between calls, or whether calls ran side by side (two at once count twice).
"""

import heapq
from dataclasses import dataclass, field

from leyden.analysis.occurrences import EVIDENCE_SPANS
from leyden.analysis.run import Events, ModelCall, ToolCall
from leyden.analysis.sketch import Sketch
from leyden.types import EvidenceSpan

GroupKey = tuple[bool, str]


@dataclass(slots=True)
class Spent:
    """Time one tool or model took, in seconds, with its slowest calls."""

    calls: int = 0
    runs: int = 0
    failed_runs: int = 0
    time_s: float = 0.0
    tokens: int = 0
    cost_usd: float | None = None
    first_seen: float | None = None
    last_seen: float | None = None
    latency: Sketch = field(default_factory=Sketch)
    slowest: list[tuple[float, EvidenceSpan]] = field(default_factory=list[tuple[float, EvidenceSpan]])
    _last_rollout: str | None = None

    def add(self, events: Events, call: ToolCall | ModelCall, duration_s: float) -> None:
        """Count one call of known duration."""
        span = call.span
        self.calls += 1
        self.time_s += duration_s
        self.latency.add(duration_s)
        if isinstance(call, ModelCall):
            self.tokens += call.tokens
            if call.cost_usd is not None:
                self.cost_usd = (self.cost_usd or 0.0) + call.cost_usd
        if self._last_rollout != events.run.rollout_id:
            self._last_rollout = events.run.rollout_id
            self.runs += 1
            self.failed_runs += events.run.failed
        if span.start_ns is not None:
            at = span.start_ns / 1e9
            self.first_seen = at if self.first_seen is None else min(at, self.first_seen)
            self.last_seen = at if self.last_seen is None else max(at, self.last_seen)
        if len(self.slowest) == EVIDENCE_SPANS and duration_s <= self.slowest[0][0]:
            return
        entry = (duration_s, EvidenceSpan(span.rollout_id, span.attempt_id, span.span_id))
        if len(self.slowest) < EVIDENCE_SPANS:
            heapq.heappush(self.slowest, entry)
        else:
            heapq.heapreplace(self.slowest, entry)


@dataclass(slots=True)
class Bottlenecks:
    """Running time per (is a tool, name)."""

    total_s: float = 0.0
    groups: dict[GroupKey, Spent] = field(default_factory=dict[GroupKey, Spent])

    def add(self, events: Events) -> None:
        """Count the calls of one run that took a known time."""
        for call in events.tool_calls:
            if call.duration_s is not None and not call.is_outer:
                self._spend(events, call, (True, call.tool), call.duration_s)
        for call in events.model_calls:
            if call.duration_s is not None:
                self._spend(events, call, (False, call.span.model or "unknown model"), call.duration_s)

    def _spend(self, events: Events, call: ToolCall | ModelCall, key: GroupKey, duration_s: float) -> None:
        self.total_s += duration_s
        group = self.groups.get(key) or self.groups.setdefault(key, Spent())
        group.add(events, call, duration_s)
