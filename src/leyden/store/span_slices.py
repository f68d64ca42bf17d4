"""Which ranges of start times hold spans that may match a filter, and how many: what the table `rollup` tells of them.

Refuses to know pages and order within a range.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.filters.spans import Wanted

s = tables.span
r = tables.rollup

HOUR, DAY = 3600, 86_400
COUNT_ROWS = 10_000
"""More rows than that are not read to count what a page does not show."""
_SLICE_ROWS = 2500
_GAP_ROWS = 500
_NS = 1_000_000_000


class Slice(NamedTuple):
    """Start times from `low`, before `high`; without either bound: the spans that have no start time.

    matching: at most so many match. rows: so many have to be read for it. is_whole: whole hours of dated spans alone, so
    that `matching` is as exact as the filter's cells.
    """

    low: int | None
    high: int | None
    matching: int = 0
    rows: int = 0
    is_whole: bool = False

    def condition(self) -> sa.ColumnElement[bool]:
        """The slice as SQL."""
        if self.low is None:
            return s.c.start_ns.is_(None)
        return sa.and_(s.c.start_ns >= self.low, s.c.start_ns < self.high)


class _Rolled(NamedTuple):
    """What begins at `time` (unix seconds)."""

    time: int
    matching: int
    rows: int


def slices(tx: Tx, wanted: Wanted, project: str, *, before_ns: int | None) -> Iterator[Slice]:
    """The slices that may hold matches, newest first: those that begin before `before_ns`, and the undated spans."""
    low = wanted.since_ns
    ends = [end for end in (wanted.until_ns, before_ns) if end is not None]
    high = min(ends) if ends else None
    is_open = low is None and wanted.until_ns is None
    if wanted.of_rollout:
        yield Slice(-(2**63) if low is None else low, 2**63 - 1 if high is None else high)
        if is_open:
            yield Slice(None, None)
        return
    days = [day for day in _rolled(tx, wanted, project, grain=DAY, low=low, high=high) if day.matching]
    yield from _merged(
        _clipped(hour, low, high) for hour in _hours(tx, wanted, project, days, low=low, high=high)
    )
    # The hour from 1970 on and the spans without a start time share their rollups.
    undated = next((day for day in days if day.time == 0), None)
    if is_open and (undated or (high is not None and high <= 0)):
        yield Slice(None, None, 0, undated.rows if undated else 0)


def _hours(
    tx: Tx, wanted: Wanted, project: str, days: list["_Rolled"], *, low: int | None, high: int | None
) -> Iterator["_Rolled"]:
    """The hours of these days, newest first; read for one day, then two, then four: most pages need no more than the newest."""
    some = 1
    while days:
        batch, days, some = days[:some], days[some:], some * 2
        oldest, newest = batch[-1].time * _NS, (batch[0].time + DAY) * _NS
        yield from _rolled(
            tx, wanted, project, grain=HOUR,
            low=oldest if low is None else max(low, oldest), high=newest if high is None else min(high, newest),
        )  # fmt: skip


def _clipped(hour: _Rolled, low: int | None, high: int | None) -> Slice:
    start, end = hour.time * _NS, (hour.time + HOUR) * _NS
    first, last = start if low is None else max(start, low), end if high is None else min(end, high)
    return Slice(first, last, hour.matching, hour.rows, (first, last) == (start, end) and start != 0)


def _merged(pieces: Iterator[Slice]) -> Iterator[Slice]:
    """Hours as fewer, larger slices: a statement costs as much as hundreds of rows. The first ones stay small, to be counted."""
    held, gap, most = None, 0, _SLICE_ROWS
    for piece in pieces:
        if held is None:
            held = piece if piece.matching else None
        elif not piece.matching:
            gap += piece.rows
        elif held.is_whole and piece.is_whole and gap <= _GAP_ROWS and held.rows + gap + piece.rows <= most:
            rows, matching = held.rows + gap + piece.rows, held.matching + piece.matching
            held, gap = Slice(piece.low, held.high, matching, rows, is_whole=True), 0
        else:
            yield held
            held, gap, most = piece, 0, most * 2
    if held is not None:
        yield held


def _rolled(
    tx: Tx, wanted: Wanted, project: str, *, grain: int, low: int | None, high: int | None
) -> list[_Rolled]:
    """The hours or days between two times (unix ns) that hold spans, newest first."""
    matching = sa.func.sum(sa.case((sa.and_(sa.true(), *wanted.cells), r.c.spans), else_=0))
    rows = sa.func.sum(r.c.errors if wanted.of_failed else r.c.spans)
    select = sa.select(r.c.time, matching, rows).where(r.c.project == project, r.c.grain == grain)
    if low is not None:
        select = select.where(r.c.time >= low // (grain * _NS) * grain)
    if high is not None:
        select = select.where(r.c.time < -(-high // _NS))
    found = tx.all(select.group_by(r.c.time).order_by(r.c.time.desc()))
    return [_Rolled(time, int(matched), int(read)) for time, matched, read in found]


# ── Counting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(tx: Tx, wanted: Wanted, project: str) -> int | None:
    """How many spans match a filter of which rollups know all but the range of times; None where the ends hold too many to count."""
    low, high = wanted.since_ns, wanted.until_ns
    total = 0
    for day in _rolled(tx, wanted, project, grain=DAY, low=low, high=high):
        start, end = day.time * _NS, (day.time + DAY) * _NS
        inside = (low is None or low <= start) and (high is None or end <= high)
        if inside and (day.time != 0 or (low is None and high is None)):
            total += day.matching
            continue
        ends = {
            "low": max(start, start if low is None else low),
            "high": min(end, end if high is None else high),
        }
        for piece in (_clipped(hour, low, high) for hour in _rolled(tx, wanted, project, grain=HOUR, **ends)):
            if not piece.matching:
                continue
            if not piece.is_whole and piece.rows > COUNT_ROWS:
                return None
            where = [s.c.project == project, wanted.condition, piece.condition()]
            total += piece.matching if piece.is_whole else count(tx, where)
    return total


def count(tx: Tx, where: Sequence[sa.ColumnElement[bool]]) -> int:
    """How many spans these conditions leave."""
    return tx.first(sa.select(sa.func.count()).select_from(s).where(*where))[0]
