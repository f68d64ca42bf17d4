"""What spans did over time, read from the rollups: sums and latency quantiles per hour or day, and what there is to filter by.

Promises: an answer costs what the rollups of its range cost, whatever the number of spans behind them. Sums are exact,
quantiles within 1 %, and both are those of the spans that are stored now.

A range is widened to whole hours or days (UTC). Spans without a start time are in no chart.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import add as plus
from typing import Literal, NamedTuple

import sqlalchemy as sa

from leyden.analysis.sketch import Sketch, merged
from leyden.errors import BadInput
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.rollups import CALLS, COUNTS, DAY, DIMENSIONS, HOUR, NAME_CHARS

r = tables.rollup

Step = Literal["hour", "day", "auto"]
Measure = Literal[
    "spans", "errors", "error_rate", "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_usd", "priced_share", "mean_s", "p50_s", "p95_s", "p99_s",
]  # fmt: skip
MEASURES: tuple[Measure, ...] = Measure.__args__
QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}
TOKENS = COUNTS[2:7]
# Up to here "auto" shows hours.
HOURS_UP_TO_S = 3 * DAY
# Hours of more than this are not read one by one.
MOST_STEPS = 24 * 100

Measured = dict[str, float | int | None]
Filters = Mapping[str, Sequence[str]]


class Among(NamedTuple):
    """Which values of a dimension; "" is none. `negated`: all but these."""

    values: Sequence[str]
    negated: bool = False


class Point(NamedTuple):
    """One step of a group: it begins at `time`, unix seconds."""

    time: int
    measured: Measured


class Group(NamedTuple):
    """One combination of the dimensions asked for ("" is none; None: all that are not shown), in total and step by step."""

    by: tuple[str | None, ...]
    total: Measured
    points: list[Point]


class Chart(NamedTuple):
    """Groups, the one with most spans first. `since` and `until` are what was read; `step_s` is 3600 or 86400. All in seconds."""

    step_s: int
    since: int
    until: int
    total: Measured
    groups: list[Group]


def chart(
    tx: Tx,
    project: str,
    *,
    since: float,
    until: float,
    step: Step = "auto",
    by: Sequence[str] = (),
    where: Mapping[str, Among] | None = None,
    measures: Sequence[Measure] = MEASURES,
    limit: int = 50,
) -> Chart:
    """What the spans of a range add up to, per step and combination of the dimensions `by`.

    At most `limit` groups; the others are one more, whose names are None. A step or group without spans is left out.
    Tokens, cost, `calls` and `priced_share` (calls whose cost is known ÷ calls) are those of model calls and embeddings
    alone: an agent's span may repeat them. `cost_usd` is None where no cost is known, which is not 0, and a lower bound where
    only some are. Latencies are seconds, of spans with both times; None without any. Raises BadInput.
    """
    grain = _grain(since, until, step)
    first, last = int(since // grain * grain), int(-(-until // grain) * grain)
    for name in by:
        _check(name)
    inside = [
        r.c.project == project,
        r.c.grain == grain,
        r.c.time >= first,
        r.c.time < last,
        *conditions(where or {}),
    ]
    cells = _cells(tx, by, inside)
    if any(name in QUANTILES for name in measures):
        _add_sketches(tx, by, inside, cells)
    return _chart(cells, _Shape(grain, first, last, tuple(measures)), limit)


class _Shape(NamedTuple):
    grain: int
    first: int
    last: int
    measures: tuple[Measure, ...]


def _grain(since: float, until: float, step: Step) -> int:
    if not since < until:
        raise BadInput(
            "A chart needs a time range", hint="`since` comes before `until`, both in unix seconds"
        )
    grain = {"hour": HOUR, "day": DAY}.get(step) or (HOUR if until - since <= HOURS_UP_TO_S else DAY)
    if grain == HOUR and (until - since) / HOUR > MOST_STEPS:
        raise BadInput(
            f"A chart shows at most {MOST_STEPS} hours", hint="ask for days, or for a shorter time"
        )
    return grain


def _check(name: str) -> None:
    if name not in DIMENSIONS:
        raise BadInput(
            f"{name!r} is nothing to group or filter by", hint=f"there are {', '.join(DIMENSIONS)}"
        )


def conditions(where: Mapping[str, Among]) -> list[sa.ColumnElement[bool]]:
    """Filters on dimensions as SQL over `rollup`. Raises BadInput for a dimension there is not."""
    found: list[sa.ColumnElement[bool]] = []
    for name, among in where.items():
        _check(name)
        values = [value[:NAME_CHARS] for value in among.values]
        found.append(r.c[name].not_in(values) if among.negated else r.c[name].in_(values))
    return found


NOTHING: list[float] = [0.0] * len(COUNTS)


class _Cell:
    """Sums of one step of one group; those of calls apart from those of all kinds."""

    __slots__ = ("all", "calls", "sketches")

    def __init__(self) -> None:
        self.all: list[float] = NOTHING
        self.calls: list[float] = NOTHING
        self.sketches: list[bytes] = []

    def add(self, everything: list[float], calls: list[float]) -> None:
        """Add sums."""
        self.all = list(map(plus, self.all, everything))
        self.calls = list(map(plus, self.calls, calls))


Cells = dict[tuple[int, tuple[str, ...]], _Cell]


def _cells(tx: Tx, by: Sequence[str], inside: Sequence[sa.ColumnElement[bool]]) -> Cells:
    """Sums per step and group. As doubles: SQLite refuses whole numbers that add up beyond 64 bits, and costs are doubles in the end."""
    keys = [r.c.time, *(r.c[name] for name in by), sa.case((r.c.kind.in_(CALLS), 1), else_=0)]
    sums = [sa.func.sum(sa.cast(r.c[name], sa.Double)) for name in COUNTS]
    found: Cells = {}
    for row in tx.all(sa.select(*keys, *sums).where(*inside).group_by(*keys)):
        is_call, counts = row[len(keys) - 1], list(row[len(keys) :])
        cell = found.setdefault((row[0], tuple(row[1 : len(keys) - 1])), _Cell())
        cell.add(counts, counts if is_call else NOTHING)
    return found


def _add_sketches(tx: Tx, by: Sequence[str], inside: Sequence[sa.ColumnElement[bool]], cells: Cells) -> None:
    select = sa.select(r.c.time, *(r.c[name] for name in by), r.c.latency).where(*inside, r.c.timed > 0)
    for time, *names, latency in tx.all(select):
        cell = cells.get((time, tuple(names)))
        if cell is not None:  # stored since the sums were read
            cell.sketches.append(latency)


def _chart(cells: Cells, shape: _Shape, limit: int) -> Chart:
    spans: dict[tuple[str, ...], float] = {}
    for (_, by), cell in cells.items():
        spans[by] = spans.get(by, 0.0) + cell.all[0]
    shown = sorted(spans, key=lambda by: (-spans[by], by))[:limit]
    rank: dict[tuple[str | None, ...], int] = {by: place for place, by in enumerate(shown)}
    groups: dict[tuple[str | None, ...], dict[int, list[_Cell]]] = {}
    for (time, by), cell in cells.items():
        name = by if by in rank else (None,) * len(by)
        groups.setdefault(name, {}).setdefault(time, []).append(cell)
    whole = _Sum(shape.measures)
    found = [_group(name, steps, shape.measures, whole) for name, steps in groups.items()]
    found.sort(key=lambda group: rank.get(group.by, len(rank)))
    return Chart(shape.grain, shape.first, shape.last, whole.measured(), found)


def _group(
    name: tuple[str | None, ...], steps: dict[int, list[_Cell]], measures: Sequence[Measure], whole: "_Sum"
) -> Group:
    total, points = _Sum(measures), list[Point]()
    for time in sorted(steps):
        point = _Sum(measures)
        point.count(steps[time])
        points.append(Point(time, point.measured()))
        total.join(point)
    whole.join(total)
    return Group(name, total.measured(), points)


class _Sum:
    """Cells added up, and what is asked about them."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._measures = measures
        self._cell = _Cell()
        self._sketch = Sketch()

    def count(self, cells: Sequence[_Cell]) -> None:
        """Add cells up."""
        for cell in cells:
            self._cell.add(cell.all, cell.calls)
        self._sketch.merge(merged(data for cell in cells for data in cell.sketches))

    def join(self, other: "_Sum") -> None:
        """Add what another sum holds."""
        self._cell.add(other._cell.all, other._cell.calls)
        self._sketch.merge(other._sketch)

    def measured(self) -> Measured:
        """The measures by name."""
        every = dict(self._everything())
        return {name: every[name] for name in self._measures}

    def _everything(self) -> Iterator[tuple[str, float | int | None]]:
        everything = dict(zip(COUNTS, self._cell.all, strict=True))
        called = dict(zip(COUNTS, self._cell.calls, strict=True))
        spans, calls, timed = int(everything["spans"]), int(called["spans"]), everything["timed"]
        yield "spans", spans
        yield "errors", int(everything["errors"])
        yield "error_rate", everything["errors"] / spans if spans else None
        yield "calls", calls
        yield from ((name, int(called[name])) for name in TOKENS)
        yield "cost_usd", called["cost_nano"] / 1e9 if called["priced"] else None
        yield "priced_share", called["priced"] / calls if calls else None
        yield "mean_s", everything["duration_ns"] / timed / 1e9 if timed else None
        yield from zip(QUANTILES, self._sketch.quantiles(*QUANTILES.values()), strict=True)


def facets(
    tx: Tx,
    project: str,
    *,
    since: float,
    until: float,
    where: Mapping[str, Among] | None = None,
    limit: int = 50,
) -> dict[str, list[tuple[str, int]]]:
    """For each dimension its values ("" is none) with how many spans have them, the most frequent `limit`, in a range of time.

    A dimension's own filter does not narrow its own values: they are what else could be chosen. Raises BadInput.
    """
    grain = _grain(since, until, "auto")
    inside = [
        r.c.project == project,
        r.c.grain == grain,
        r.c.time >= since // grain * grain,
        r.c.time < until,
    ]
    found: dict[str, list[tuple[str, int]]] = {}
    for name in DIMENSIONS:
        others = {other: among for other, among in (where or {}).items() if other != name}
        spans = sa.func.sum(r.c.spans)
        select = sa.select(r.c[name], spans).where(*inside, *conditions(others)).group_by(r.c[name])
        rows = tx.all(select.order_by(spans.desc(), r.c[name]).limit(limit))
        found[name] = [(value, int(count)) for value, count in rows]
    return found
