"""Spans across rollouts, newest first, a page at a time: what the server's lists and `leyden spans` show.

Promises: a page costs what it shows and what lies between, not what is stored. The table `rollup` says which hours hold spans
that may match, and how many; the others are never read. `total` is exact where rollups or the page itself say it, else what
was counted before giving up, and never less than what a page shows, one more when there are more.
Refuses to know: the language of filters.

Order: by start time, then by row, both descending; spans without a start time come last.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import orjson
import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.ingest.payload import spans_json
from leyden.store import payloads, spans, tables
from leyden.store.engine import Tx
from leyden.store.filters.attributes import known_of, must_hold, passes
from leyden.store.filters.fields import Tests
from leyden.store.filters.spans import Wanted
from leyden.store.query import Paging, check_paging
from leyden.store.span_slices import COUNT_ROWS, Slice, count, counted, slices
from leyden.types import SpanSummary

s = tables.span

COUNT_MATCHES = 1000


class Place(NamedTuple):
    """Where a page ended: the last span's start time, None when it has none, and its row."""

    start_ns: int | None
    id: int

    def text(self) -> str:
        """As a cursor."""
        return f"{'' if self.start_ns is None else self.start_ns}.{self.id}"


class Found(NamedTuple):
    """A page, how many spans match (`is_exact`) or at least match, and the cursor of the next page, None on the last."""

    rows: list[SpanSummary]
    total: int
    is_exact: bool
    next: str | None


def place_of(cursor: str) -> Place:
    """The place that a cursor names. Raises BadInput."""
    numbers = re.fullmatch(r"(-?[0-9]{1,19}|)\.([0-9]{1,19})", cursor)
    if not numbers:
        raise BadInput(f"{cursor[:60]!r} is no cursor", hint="pass on `next_cursor` of the page before")
    start, row = numbers.groups()
    # Nineteen digits may be more than a column holds.
    return Place(max(-(2**63), min(int(start), 2**63 - 2)) if start else None, min(int(row), 2**63 - 1))


def page(
    tx: Tx, wanted: Wanted, *, project: str, limit: int, offset: int = 0, after: Place | None = None
) -> Found:
    """The spans that match, newest first, from `offset` or behind `after`; limit −1 is all of them. Raises BadInput."""
    check_paging(Paging(limit, offset), [])
    walk = _Walk(tx, wanted, project, after)
    skipped = walk.skip(offset)
    end = None if limit < 0 else offset - skipped + limit
    places = walk.take(None if end is None else end + 1)
    shown = places[offset - skipped : end]
    if end is None or len(places) <= end:
        return Found(_rows(tx, shown), skipped + len(places), after is None, None)
    total, is_exact = _total(walk, skipped + len(places), is_first=after is None)
    return Found(_rows(tx, shown), total, is_exact, shown[-1].text())


def _rows(tx: Tx, places: Sequence[Place]) -> list[SpanSummary]:
    columns = [s.c.id, *spans.SUMMARY_COLUMNS]
    found = {row[0]: SpanSummary(*row[1:]) for row in tx.rows_by_id(columns, [place.id for place in places])}
    return [found[place.id] for place in places if place.id in found]


def _total(walk: "_Walk", known: int, *, is_first: bool) -> tuple[int, bool]:
    """How many match when there are more than the `known`, and whether that is exact."""
    wanted = walk.wanted
    exact = counted(walk.tx, wanted, walk.project) if wanted.is_exact and not wanted.of_rollout else None
    if exact is not None:
        return exact, True
    # Behind a cursor nobody knows how many were before it.
    return walk.count_on(known) if is_first else (known, False)


# ── Walking ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Walk:
    """The slices that may hold matches, newest first, and the matches in them as far as somebody asks."""

    def __init__(self, tx: Tx, wanted: Wanted, project: str, after: Place | None) -> None:
        self.tx, self.wanted, self.project, self.after = tx, wanted, project, after
        self._ahead = self._behind(after)

    def _behind(self, after: Place | None) -> Iterator[Slice]:
        if after is not None and after.start_ns is None:
            return iter([Slice(None, None)])
        before_ns = None if after is None or after.start_ns is None else after.start_ns + 1
        return slices(self.tx, self.wanted, self.project, before_ns=before_ns)

    def skip(self, offset: int) -> int:
        """Pass slices whose matches rollups have counted, at most `offset` matches; how many that were."""
        skipped = 0
        if not offset or not self.wanted.is_exact or self.after is not None:
            return 0
        for piece in self._ahead:
            if not piece.is_whole or skipped + piece.matching > offset:
                self._put_back(piece)
                break
            skipped += piece.matching
        return skipped

    def take(self, count: int | None) -> list[Place]:
        """The next matches, at most `count`."""
        found: list[Place] = []
        for piece in self._ahead:
            found += self._in(piece, None if count is None else count - len(found))
            if count is not None and len(found) >= count:
                self.after = found[-1]
                self._put_back(piece)
                break
        return found

    def count_on(self, known: int) -> tuple[int, bool]:
        """How many matches there are, `known` ones being behind us; False when it gave up counting."""
        rows = COUNT_ROWS
        for piece in self._ahead:
            rows -= piece.rows
            if rows < 0 or known >= COUNT_MATCHES or self.wanted.attributes:
                return known, False
            known += count(self.tx, self._where(piece))
        return known, True

    def _put_back(self, piece: Slice) -> None:
        self._ahead = chain([piece], self._ahead)

    def _where(self, piece: Slice) -> list[sa.ColumnElement[bool]]:
        where = [s.c.project == self.project, self.wanted.condition, piece.condition()]
        if self.after is None:
            return where
        start, row = self.after
        if start is None:
            return [*where, s.c.id < row]
        if piece.low is None:
            return where
        return [*where, s.c.start_ns <= start, sa.or_(s.c.start_ns < start, s.c.id < row)]

    def _in(self, piece: Slice, count: int | None) -> list[Place]:
        newest = [s.c.id.desc()] if piece.low is None else [s.c.start_ns.desc(), s.c.id.desc()]
        select = sa.select(s.c.start_ns, s.c.id).where(*self._where(piece)).order_by(*newest)
        if not self.wanted.attributes:
            return [Place(*row) for row in self.tx.all(select if count is None else select.limit(count))]
        found: list[Place] = []
        places = [Place(*row) for row in self.tx.all(select)]
        for some in (places[i : i + 500] for i in range(0, len(places), 500)):
            found += _with_attributes(self.tx, some, self.wanted.attributes)
            if count is not None and len(found) >= count:
                return found[:count]
        return found


def _with_attributes(tx: Tx, places: Sequence[Place], tests: Sequence[Tests]) -> list[Place]:
    """Those of the spans whose payload passes.

    Bytes are searched for the names first: most payloads do not hold them, and need not be decoded.
    """
    names = [name for test in tests for name in must_hold(test)]
    rows = tx.rows_by_id([s.c.id, s.c.rollout_id], [place.id for place in places])
    held = payloads.by_id(tx, [(row[0], row[1]) for row in rows])
    likely = [p for p in places if p.id in held and all(name in held[p.id][0] for name in names)]
    decoded = map(orjson.loads, spans_json((*held[place.id], "", "", 0) for place in likely))
    known = map(known_of, decoded)
    return [p for p, found in zip(likely, known, strict=True) if all(passes(test, found) for test in tests)]
