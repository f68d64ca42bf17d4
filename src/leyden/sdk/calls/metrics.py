"""Calls about figures over time."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from leyden.sdk.calls.base import API, Calls, read

Dimension = Literal["agent", "provider", "model", "tool", "kind", "status"]


class Measured(BaseModel):
    """What spans add up to. None: not asked for, or unknown, which is not 0.

    Tokens, cost, `calls` and `priced_share` (calls whose cost is known ÷ calls) are of model calls and embeddings; while
    `priced_share` is below 1, `cost_usd` is a lower bound. Latencies are seconds; quantiles are within 1 %.
    """

    spans: int | None = None
    errors: int | None = None
    error_rate: float | None = None
    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    priced_share: float | None = None
    mean_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


class ChartPoint(Measured):
    """One step of a group; it begins at `time`, unix seconds."""

    time: int


class ChartGroup(BaseModel):
    """One combination of what a chart is grouped by ("" is none, None all that are not shown). Steps without spans are left out."""

    by: dict[str, str | None]
    total: Measured
    points: list[ChartPoint]


class Chart(BaseModel):
    """Groups, the one with most spans first. `since` and `until` are what was read, in unix seconds."""

    step_s: int
    since: int
    until: int
    by: list[str]
    total: Measured
    groups: list[ChartGroup]


class Facet(BaseModel):
    """One value of a dimension ("" is none) and how many spans have it."""

    value: str
    spans: int


class MetricCalls(Calls):
    """Ask how much, how often, how long."""

    def chart(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        step: Literal["hour", "day", "auto"] = "auto",
        by: Sequence[Dimension] = (),
        where: dict[str, Sequence[str]] | None = None,
        measures: Sequence[str] = (),
        limit: int = 50,
    ) -> Chart:
        """Figures per hour or day (UTC) of the spans in a range of time, unix seconds; by default the last 30 days.

        where: for a dimension the values it may have. measures: names of the fields of `Measured`, none for all; without
        quantiles the answer is faster. Up to three days "auto" is hours. Groups beyond `limit` are put together.
        """
        params = {
            **(where or {}),
            "since": since,
            "until": until,
            "step": step,
            "by": list(by),
            "measure": list(measures),
            "limit": limit,
        }
        return read(Chart, self.request("GET", f"{API}/metrics/chart", params=params))

    def facets(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        where: dict[str, Sequence[str]] | None = None,
        limit: int = 50,
    ) -> dict[str, list[Facet]]:
        """For each dimension its values, the most frequent first; a dimension's own filter does not narrow its own values."""
        params = {**(where or {}), "since": since, "until": until, "limit": limit}
        return read(dict[str, list[Facet]], self.request("GET", f"{API}/metrics/facets", params=params))

    def rebuild_rollups(self, *, dry_run: bool = False) -> dict[str, int]:
        """Count the sums behind charts anew, of all projects: {"wrong", "corrected"}. Needs the scope admin."""
        return read(dict[str, int], self.request("POST", f"{API}/db/rebuild", body={"dry_run": dry_run}))
