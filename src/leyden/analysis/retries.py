"""What happens right after a tool call fails.

Detects: the next tool call, by the same agent or in the run as a whole, is the same tool again. (Both, because parallel
agents interleave, and because a sub-agent's failed work is often handed to another agent that tries it first.)
Cannot tell: retries inside the tool itself, or later than the next call.
"""

from dataclasses import dataclass, field

from pydantic import BaseModel

from leyden.analysis.occurrences import Occurrences
from leyden.analysis.run import Events, ToolCall


class RetryStats(BaseModel):
    """Immediate retries of one tool. Of `failures` failed calls, `retried` were followed by the same tool: `identical` of
    them with equal arguments, `by_other_agent` by another agent; `succeeded` retries did not fail."""

    tool: str
    failures: int
    retried: int
    identical: int
    identical_succeeded: int
    by_other_agent: int
    succeeded: int
    success_rate: float | None


@dataclass(slots=True)
class ToolRetries:
    """Running count for one tool. `useless` are the retries that failed again."""

    failures: int = 0
    retried: int = 0
    identical: int = 0
    identical_succeeded: int = 0
    by_other_agent: int = 0
    succeeded: int = 0
    useless: Occurrences = field(default_factory=Occurrences)

    def stats(self, tool: str) -> RetryStats:
        """The totals so far."""
        return RetryStats(
            tool=tool,
            failures=self.failures,
            retried=self.retried,
            identical=self.identical,
            identical_succeeded=self.identical_succeeded,
            by_other_agent=self.by_other_agent,
            succeeded=self.succeeded,
            success_rate=self.succeeded / self.retried if self.retried else None,
        )


@dataclass(slots=True)
class Retries:
    """Running counts per tool."""

    tools: dict[str, ToolRetries] = field(default_factory=dict[str, ToolRetries])

    def add(self, events: Events) -> None:
        """Count the retries of one run."""
        calls = events.tool_calls
        in_lane: dict[str | None, ToolCall] = {}
        in_run: ToolCall | None = None
        next_in_run: dict[int, ToolCall] = {}
        next_in_lane: dict[int, ToolCall] = {}
        for call in calls:
            if in_run is not None and in_run.failed:
                next_in_run[id(in_run)] = call
            before = in_lane.get(call.lane)
            if before is not None and before.failed:
                next_in_lane[id(before)] = call
            in_run = in_lane[call.lane] = call
        for call in calls:
            if call.failed:
                self._after(events, call, next_in_lane.get(id(call)), next_in_run.get(id(call)))

    def _after(
        self, events: Events, call: ToolCall, in_lane: ToolCall | None, in_run: ToolCall | None
    ) -> None:
        stats = self.tools.get(call.tool) or self.tools.setdefault(call.tool, ToolRetries())
        stats.failures += 1
        retry = next((c for c in (in_lane, in_run) if c is not None and c.tool == call.tool), None)
        if retry is None:
            return
        identical = call.span.call_hash is not None and retry.span.call_hash == call.span.call_hash
        stats.retried += 1
        stats.identical += identical
        stats.by_other_agent += retry.lane != call.lane
        stats.succeeded += not retry.failed
        stats.identical_succeeded += identical and not retry.failed
        if retry.failed:
            stats.useless.add(
                events.run,
                retry.span,
                agent=retry.agent,
                time_s=retry.duration_s,
                asked_by=retry.asked_by,
            )
