"""Rollups against a recount of the spans: find differences, mend them while spans arrive, fill a table that was just made.

Owns: reading every span's facts once, a day at a time. Promises: a recount holds the sums of one day and a few thousand
spans in memory, and never holds up those who write. Refuses to know: how rows are kept (`rollups.py`).

Spans and rows are read in one snapshot. What separates them there is an error of the rows: writing changes both alike, so
the same difference is still to be added however much was stored meanwhile. Only a second rebuild would add it twice: each
counts itself in a row of grain 0, and a difference found before somebody else's correction is thrown away.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.analysis.sketch import counts_in
from leyden.store import rollups, tables
from leyden.store.engine import Database, Tx
from leyden.store.rollups import COUNTS, DAY, KEYS, Key, Sums
from leyden.store.writer import Writer

s = tables.span
r = tables.rollup

READ_AT_ONCE = 2000
# Rows changed in one transaction: a few milliseconds.
CORRECT_AT_ONCE = 250
CORRECTIONS: Key = ("", 0, 0, "", "", "", "", "", "")


class Difference(NamedTuple):
    """A row that is not what its spans add up to: its key by column, and what is missing from it (negative: too much)."""

    key: dict[str, Any]
    missing: Sums

    def __str__(self) -> str:
        counts = zip(
            [*COUNTS, "latency"], [*self.missing.counts, sum(self.missing.buckets.values())], strict=True
        )
        return f"rollup {self.key} lacks { ({name: n for name, n in counts if n}) }"


def verify(tx: Tx) -> Iterator[Difference]:
    """Every row that differs from a recount, day by day; nothing when all is well. `tx` is a read of its own."""
    for day in _days(tx):
        with _snapshot(tx):
            found = _difference(tx, day)
        yield from (Difference(dict(zip(KEYS, key, strict=True)), sums) for key, sums in found.items())


def rebuild(database: Database, writer: Writer) -> int:
    """Make every row equal to a recount; how many were wrong. Spans may come and go meanwhile."""
    with database.read() as tx:
        days = _days(tx)
    return sum(_mend(database, writer, day) for day in days)


def _mend(database: Database, writer: Writer, day: int) -> int:
    corrected = 0
    while True:
        with database.read() as tx, _snapshot(tx):
            seen, wrong = _corrections(tx), list(_difference(tx, day).items())
        for i in range(0, len(wrong), CORRECT_AT_ONCE):
            some = dict(wrong[i : i + CORRECT_AT_ONCE])
            if not writer.run(lambda tx, some=some, seen=seen: _correct(tx, some, seen)):
                break  # another rebuild was faster: look again
            seen += 1
            corrected += len(some)
        else:
            return corrected


def _correct(tx: Tx, wrong: dict[Key, Sums], seen: int) -> bool:
    if rollups.hold(tx, [CORRECTIONS])[0] is not None and _corrections(tx) != seen:
        return False
    rollups.change(tx, {CORRECTIONS: Sums([1] + [0] * (len(COUNTS) - 1), {}), **wrong})
    return True


def _corrections(tx: Tx) -> int:
    row = tx.first(sa.select(r.c.spans).where(r.c.project == "", r.c.grain == 0))
    return row[0] if row else 0


def fill(database: Database) -> None:
    """Count what a database held before it had rollups. Costs one query once there are any."""
    with database.read() as tx:
        if not _lacks_rollups(tx):
            return
    with database.begin() as tx:
        if not tx.is_sqlite:
            tx.driver("LOCK TABLE rollup IN EXCLUSIVE MODE")
        if _lacks_rollups(tx):
            for day in _days(tx):
                rollups.change(tx, _recount(tx, day))


def _lacks_rollups(tx: Tx) -> bool:
    return not tx.driver("SELECT 1 FROM rollup LIMIT 1") and bool(tx.driver("SELECT 1 FROM span LIMIT 1"))


def correct_day(tx: Tx, day: int) -> None:
    """Make the rows of a day (unix seconds of its begin) equal to its spans, in a transaction that nobody else writes spans beside."""
    rollups.change(tx, _difference(tx, day))


@contextmanager
def _snapshot(tx: Tx) -> Generator[None]:
    """Everything read inside is of one moment."""
    tx.driver("BEGIN" if tx.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        with suppress(Exception):  # a connection that was cut has no snapshot to leave
            tx.driver("ROLLBACK")


def _days(tx: Tx) -> list[int]:
    """The days that spans or rows are in, found by a jump in the index for each."""
    found = {time - time % DAY for (time,) in tx.all(sa.select(r.c.time).where(r.c.grain > 0).distinct())}
    if tx.first(sa.select(s.c.id).where(s.c.start_ns.is_(None)).limit(1)):
        found.add(0)
    after = -(2**63)
    while (
        start := tx.first(sa.select(sa.func.min(s.c.start_ns)).where(s.c.start_ns >= after))[0]
    ) is not None:
        day = start // (DAY * 10**9) * DAY
        found.add(day)
        if (after := (day + DAY) * 10**9) >= 2**63:
            break
    return sorted(found)


def _difference(tx: Tx, day: int) -> dict[Key, Sums]:
    """Per row of the day what is missing from it; rows that are right are left out."""
    stored, counted = _stored(tx, day), _recount(tx, day)
    nothing = Sums([0] * len(COUNTS), {})
    found: dict[Key, Sums] = {}
    for key in {**stored, **counted}:
        missing = rollups.together(counted.get(key, nothing), rollups.negative(stored.get(key, nothing)))
        missing = Sums(rollups.wrapped(missing.counts), {b: n for b, n in missing.buckets.items() if n})
        if any(missing.counts) or missing.buckets:
            found[key] = missing
    return found


def _stored(tx: Tx, day: int) -> dict[Key, Sums]:
    found: dict[Key, Sums] = {}
    columns = [r.c[name] for name in (*KEYS, *COUNTS, "latency")]
    for (project,) in tx.all(sa.select(r.c.project).where(r.c.grain > 0).distinct()):
        inside = sa.and_(
            r.c.project == project, r.c.grain.in_(rollups.GRAINS), r.c.time >= day, r.c.time < day + DAY
        )
        for row in tx.all(sa.select(*columns).where(inside)):
            found[tuple(row[: len(KEYS)])] = Sums(list(row[len(KEYS) : -1]), counts_in(row[-1]))
    return found


def _recount(tx: Tx, day: int) -> dict[Key, Sums]:
    first, last = max(day * 10**9, -(2**63)), min((day + DAY) * 10**9, 2**63) - 1
    found: dict[Key, Sums] = {}
    conditions = [s.c.start_ns.between(first, last), *([s.c.start_ns.is_(None)] if day == 0 else [])]
    for condition in conditions:
        select = sa.select(s.c.project, *rollups.COLUMNS).where(condition)
        rows = tx.connection.execute(select.execution_options(yield_per=READ_AT_ONCE))
        for some in rows.partitions():
            of_project = groupby(sorted(some, key=itemgetter(0)), key=itemgetter(0))
            batches = [(project, 1, [row[1:] for row in of]) for project, of in of_project]
            for key, sums in rollups.totals(batches).items():
                found[key] = rollups.together(found[key], sums) if key in found else sums
    return found
