"""Figures over time from the rollups: charts, what there is to filter by, and counting the rollups anew.

Prometheus reads `/metrics`, about this process; these routes are about what agents did.
"""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import charts, orphans, recount
from leyden.store.charts import MEASURES, Among, Group, Measure, Step
from leyden.store.rollups import DIMENSIONS

router = APIRouter(prefix="/api", tags=["metrics"])

RANGE_S = 30 * 86_400
# A span's times are 64-bit nanoseconds: years 1677 to 2262.
_Time = Annotated[float, Query(ge=-9.2e9, le=9.2e9, allow_inf_nan=False)]
_Texts = Annotated[list[str], Query()]

Dimension = Literal["agent", "provider", "model", "tool", "kind", "status"]


class Narrowed(BaseModel):
    """Which spans: a range of time in unix seconds, the last 30 days by default, and for a dimension the values it may have ("" is none)."""

    since: _Time | None = None
    until: _Time | None = None
    agent: _Texts = []
    provider: _Texts = []
    model: _Texts = []
    tool: _Texts = []
    kind: _Texts = []
    status: _Texts = []
    limit: Annotated[int, Query(ge=1, le=1000)] = 50

    def range(self) -> tuple[float, float]:
        """`since` and `until`, both said."""
        until = time.time() if self.until is None else self.until
        return until - RANGE_S if self.since is None else self.since, until

    def filters(self) -> dict[str, Among]:
        """The dimensions that are narrowed."""
        return {name: Among(values) for name in DIMENSIONS if (values := getattr(self, name))}


class ChartQuery(Narrowed):
    """A chart: its steps, what to group by, which measures (all by default). `limit` is how many groups stand for themselves."""

    step: Step = "auto"
    by: Annotated[list[Dimension], Query()] = []
    measure: Annotated[list[Measure], Query()] = []


@router.get("/metrics/chart")
def get_chart(request: Request, asked: Annotated[ChartQuery, Query()]) -> Response:
    """Spans, errors, tokens, cost and latency per hour or day and group."""
    since, until = asked.range()
    by = list(dict.fromkeys(asked.by))
    with context_of(request).store.database.read() as tx:
        found = charts.chart(
            tx, project_of(request), since=since, until=until, step=asked.step, by=by, where=asked.filters(),
            measures=asked.measure or MEASURES, limit=asked.limit,
        )  # fmt: skip
    groups = [_group(group, by) for group in found.groups]
    return Json({**found._asdict(), "by": by, "groups": groups})


def _group(group: Group, by: list[Dimension]) -> dict[str, object]:
    points = [{"time": point.time, **point.measured} for point in group.points]
    return {"by": dict(zip(by, group.by, strict=True)), "total": group.total, "points": points}


@router.get("/metrics/facets")
def get_facets(request: Request, asked: Annotated[Narrowed, Query()]) -> Response:
    """For each dimension its values with how many spans have them, the most frequent first."""
    since, until = asked.range()
    with context_of(request).store.database.read() as tx:
        found = charts.facets(
            tx, project_of(request), since=since, until=until, where=asked.filters(), limit=asked.limit
        )
    return Json(
        {name: [{"value": value, "spans": n} for value, n in values] for name, values in found.items()}
    )


class Rebuild(BaseModel):
    """Whether to look only."""

    dry_run: bool = False


@router.post("/db/rebuild")
def rebuild(request: Request, asked: Annotated[Rebuild, body_of(Rebuild)]) -> Response:
    """Count the rollups of all projects anew from the spans, while others write; how many rows were wrong.

    Spend and calls of rollouts that are not there are rows that are wrong too.
    """
    store = context_of(request).store
    if not asked.dry_run:
        corrected = recount.rebuild(store.database, store.writer) + orphans.drop(store.database, store.writer)
        return Json({"wrong": corrected, "corrected": corrected})
    with store.database.read() as tx:
        return Json({"wrong": sum(1 for _ in recount.verify(tx)) + orphans.count(tx), "corrected": 0})
