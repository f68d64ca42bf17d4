"""Where the time goes.

Detects: the tools and models that take the largest share of all time spent in calls. Calls that contain other calls are
left out, so no second is counted twice.
Cannot tell: time between calls, or whether calls ran side by side (two at once count twice).
"""

from typing import NamedTuple

from leyden.analysis.stats import Tallies, Tally

TOOL_SHARE, MODEL_SHARE, FEWEST_CALLS = 0.25, 0.5, 5


class Bottleneck(NamedTuple):
    """A tool or model with its share of all call time, 0 to 1."""

    share: float
    is_tool: bool
    tally: Tally


def bottlenecks(tallies: Tallies) -> list[Bottleneck]:
    """Tools with a quarter of all call time and models with half of it, over at least five calls.

    [] when a single model takes all time there is: that says nothing.
    """
    groups = [(True, t) for t in tallies.tools.values()] + [(False, t) for t in tallies.models.values()]
    total_s = sum(tally.own_time_s for _, tally in groups)
    timed = [is_tool for is_tool, tally in groups if tally.own_time_s > 0]
    if not timed or timed == [False]:
        return []
    shares = [Bottleneck(tally.own_time_s / total_s, is_tool, tally) for is_tool, tally in groups]
    return [
        b
        for b in shares
        if b.tally.calls >= FEWEST_CALLS and b.share >= (TOOL_SHARE if b.is_tool else MODEL_SHARE)
    ]
