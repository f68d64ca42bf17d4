"""Calls made again with the same arguments although the answer was known.

Detects: calls whose `call_hash` was seen before in the run. Three or more equal calls in one run are a loop; the wasted
ones are all after the first. Not wasted: a call after an equal one that failed (a retry, counted in `retries`), and a call
whose result differs from the one before (polling).
Cannot tell: results that differ only after the first 200 characters, or a repeat that was wise because something else
changed in between.
"""

from dataclasses import dataclass, field

from pydantic import BaseModel

from leyden.analysis.occurrences import Occurrences
from leyden.analysis.run import Events, ToolCall

LOOP_CALLS = 3


class RepeatStats(BaseModel):
    """Repeated identical calls of one tool. `immediate` equal the call right before them, `after_error` of those follow a
    failed one and `polling` of those got another result. `loops` counts runs' call sequences of three or more equal
    calls, `wasted` the calls in them after the first."""

    tool: str
    immediate: int
    after_error: int
    polling: int
    loops: int
    wasted: int


@dataclass(slots=True)
class ToolRepeats:
    """Running count for one tool. `loops` holds one occurrence per wasted call."""

    immediate: int = 0
    after_error: int = 0
    polling: int = 0
    loop_count: int = 0
    wasted: Occurrences = field(default_factory=Occurrences)

    def stats(self, tool: str) -> RepeatStats:
        """The totals so far."""
        return RepeatStats(
            tool=tool,
            immediate=self.immediate,
            after_error=self.after_error,
            polling=self.polling,
            loops=self.loop_count,
            wasted=self.wasted.count,
        )


@dataclass(slots=True)
class Repeats:
    """Running counts per tool."""

    tools: dict[str, ToolRepeats] = field(default_factory=dict[str, ToolRepeats])

    def add(self, events: Events) -> None:
        """Count the repeats of one run."""
        chains: dict[str, list[ToolCall]] = {}
        in_lane: dict[str | None, ToolCall] = {}
        in_run: ToolCall | None = None
        for call in events.tool_calls:
            call_hash = call.span.call_hash
            if call_hash is not None:
                before = next((c for c in (in_lane.get(call.lane), in_run) if c and _equal(c, call)), None)
                if before is not None:
                    self._immediate(before, call)
                chain = chains.setdefault(call_hash, [])
                if chain and (chain[-1].failed or _results_differ(chain[-1], call)):
                    self._close(events, chain)
                    chain.clear()
                chain.append(call)
            in_run = in_lane[call.lane] = call
        for chain in chains.values():
            self._close(events, chain)

    def _tool(self, name: str) -> ToolRepeats:
        return self.tools.get(name) or self.tools.setdefault(name, ToolRepeats())

    def _immediate(self, before: ToolCall, call: ToolCall) -> None:
        tool = self._tool(call.tool)
        tool.immediate += 1
        if before.failed:
            tool.after_error += 1
        elif _results_differ(before, call):
            tool.polling += 1

    def _close(self, events: Events, chain: list[ToolCall]) -> None:
        if len(chain) < LOOP_CALLS:
            return
        tool = self._tool(chain[0].tool)
        tool.loop_count += 1
        for call in chain[1:]:
            tool.wasted.add(
                events.run, call.span, agent=call.agent, time_s=call.duration_s, asked_by=call.asked_by
            )


def _equal(a: ToolCall, b: ToolCall) -> bool:
    return a.tool == b.tool and a.span.call_hash == b.span.call_hash


def _results_differ(a: ToolCall, b: ToolCall) -> bool:
    if a.failed != b.failed:
        return True
    return a.span.output_preview != b.span.output_preview
