"""Full-text search: the spans that say what somebody looks for, newest first, with the words in their place.

Owns: walking the index from the newest text down, narrowing by columns, checking each text itself, pages without repeats.
Promises: the work of one call is bounded, however common the words and however narrow the filters; `complete` says when it stopped
before the page was full, and `cursor` goes on from there. A project sees its own texts alone.
Refuses to know: how texts get into the index (`indexing.py`), what a query means (`ingest/wanted.py`).

A text that many spans say belongs to the first of each rollout (per kind, agent, tool, model and status): that one is found. A span that
says the words in several texts is found once, at its newest text.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from leyden.errors import BadInput
from leyden.ingest.wanted import Piece, Wanted, parse
from leyden.store import fulltext, scores, tables
from leyden.store.engine import Tx
from leyden.store.indexing import forget, hash_of, index, readable_texts_of
from leyden.store.spans import SUMMARY_COLUMNS
from leyden.types import SpanSummary

__all__ = ["Found", "Hit", "Narrow", "Place", "RolloutPlace", "find", "forget", "index"]

m = tables.message
h = tables.message_hit
s = tables.span
t = tables.rollout

MOST = 200  # spans of one page
SNIPPETS = 3  # of one span
# One call looks at no more hits than this, and reads no more spans or characters to check what they say.
LOOKED_AT, READ, READ_CHARS = 30_000, 1500, 6 * 2**20
_TEXTS_AT_ONCE = (256, 2048)
_HITS_AT_ONCE = 2000
_READ_AT_ONCE = 200


class Narrow(NamedTuple):
    """Which spans may be found. Times are unix seconds of the span's start, `until` exclusive; rewards are the rollout's last."""

    since: float | None = None
    until: float | None = None
    agent: str | None = None
    model: str | None = None
    tool: str | None = None
    kind: str | None = None
    status: str | None = None
    mode: str | None = None
    rollout_id: str | None = None
    min_reward: float | None = None
    max_reward: float | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """As SQL on `span` joined with its `rollout`."""
        found: list[sa.ColumnElement[bool]] = [
            s.c[name] == value
            for name in ("agent", "model", "tool", "kind", "status", "rollout_id")
            if (value := getattr(self, name)) is not None
        ]
        if self.since is not None:
            found.append(s.c.start_ns >= _nanoseconds(self.since))
        if self.until is not None:
            found.append(s.c.start_ns < _nanoseconds(self.until))
        if self.mode is not None:
            found.append(t.c.mode == self.mode)
        if self.min_reward is not None:
            found.append(_reward() >= self.min_reward)
        if self.max_reward is not None:
            found.append(_reward() <= self.max_reward)
        return found


def _nanoseconds(seconds: float) -> int:
    return round(max(-9e9, min(9e9, seconds)) * 1e9)  # times of spans fit into 64 bits


def _reward() -> sa.ScalarSelect[Any]:
    c = tables.score.c
    last = sa.select(c.value).where(c.rollout_id == t.c.rollout_id, c.is_primary == 1)
    return last.order_by(c.id.desc()).limit(1).correlate(t).scalar_subquery()


class Place(NamedTuple):
    """How far a search has come: every hit before it, from the newest, was looked at."""

    message: int = 2**62
    span_row: int = 2**62

    @classmethod
    def read(cls, cursor: str | None) -> "Place":
        """The place that a cursor names. Raises BadInput."""
        if not cursor:
            return cls()
        numbers = cursor.split("-")
        if len(numbers) != 2 or not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
            raise BadInput(
                f"{cursor!r} is no cursor of a search", hint="send the cursor of the page before, or none"
            )
        return cls(*(min(int(n), 2**62) for n in numbers))

    def __str__(self) -> str:
        return f"{self.message}-{self.span_row}"


class RolloutPlace(NamedTuple):
    """The rollout of a span that was found."""

    rollout_id: str
    status: str
    mode: str | None
    start_time: float
    reward: float | None


class Hit(NamedTuple):
    """A span that says it, and where: the parts of its texts that hold what was looked for."""

    span: SpanSummary
    rollout: RolloutPlace
    snippets: list[list[Piece]]


class Found(NamedTuple):
    """A page. cursor: where the next begins, None at the end. complete: False when the call stopped before the page was full."""

    hits: list[Hit]
    cursor: str | None
    complete: bool


def find(
    tx: Tx,
    query: str,
    *,
    project: str,
    where: Sequence[sa.ColumnElement[bool]] = (),
    limit: int = 20,
    cursor: str | None = None,
) -> Found:
    """Spans that say what `query` asks for, those with the newest texts first.

    where: conditions on columns of `span` and `rollout`. Raises BadInput for a query without a word, a limit that is none, a
    cursor that is none.
    """
    if not 1 <= limit <= MOST:
        raise BadInput(f"limit {limit} is not between 1 and {MOST}")
    wanted = parse(query)
    search = _Search(tx, wanted, project, where)
    said: list[_Saying] = []
    for place, saying in search.walk(Place.read(cursor)):
        if saying is not None:
            said.append(saying)
        if len(said) == limit or search.is_spent:
            return Found(_hits(tx, wanted, said), str(place), complete=len(said) == limit)
    return Found(_hits(tx, wanted, said), None, complete=True)


class _Saying(NamedTuple):
    span_row: int
    texts: list[str]  # the newest first


class _Candidate(NamedTuple):
    place: Place
    rollout_id: str


class _Search:
    """One walk down the index, and what it has cost."""

    def __init__(self, tx: Tx, wanted: Wanted, project: str, where: Sequence[sa.ColumnElement[bool]]) -> None:
        self._tx, self._wanted, self._project, self._where = tx, wanted, project, where
        self._looked_at = self._read = self._chars = 0

    @property
    def is_spent(self) -> bool:
        return self._looked_at >= LOOKED_AT or self._read >= READ or self._chars >= READ_CHARS

    def walk(self, start: Place) -> Iterator[tuple[Place, _Saying | None]]:
        """Each place that says it, in order; None for how far it got without one."""
        size = 20
        for places, end in self._candidates(start):
            left = places
            while left:
                some, left = left[:size], left[size:]
                said = self._checked(some)
                yield from ((one.place, said[one.place]) for one in some if one.place in said)
                yield some[-1].place, None
                size = min(2 * size, _READ_AT_ONCE)
            yield end, None

    def _candidates(self, at: Place) -> Iterator[tuple[list[_Candidate], Place]]:
        """Who says a text with all the words and fits the filters, and how far that is."""
        newest, most = at.message, _TEXTS_AT_ONCE[0]
        while ids := fulltext.matching(
            self._tx, self._wanted, project=self._project, newest=newest, most=most
        ):
            self._looked_at += len(ids)
            is_last = False
            while not is_last:
                end = self._end(ids, at)
                is_last = end is None
                end = end or Place(ids[-1], 0)
                yield self._fitting(ids, at, end), end
                self._looked_at += 0 if is_last else _HITS_AT_ONCE
                at = end
            newest, most = ids[-1] - 1, _TEXTS_AT_ONCE[1]

    def _end(self, ids: list[int], at: Place) -> Place | None:
        """Where the next hits end that are looked at together; None when they are the last of these texts."""
        hits = sa.select(h.c.message_id, h.c.span_row).where(_Among(h.c.message_id, ids), _before(at))
        row = self._tx.first(hits.order_by(*_NEWEST_FIRST).limit(1).offset(_HITS_AT_ONCE - 1))
        return row and Place(*row)

    def _fitting(self, ids: list[int], at: Place, end: Place) -> list[_Candidate]:
        """The hits up to that place whose spans fit the filters."""
        found = (
            sa.select(h.c.message_id, h.c.span_row, s.c.rollout_id)
            .join(s, s.c.id == h.c.span_row)
            .join(t, t.c.rollout_id == s.c.rollout_id)
            .where(_Among(h.c.message_id, ids), _before(at), ~_before(end), s.c.project == self._project)
        )
        rows = self._tx.all(found.where(*self._where).order_by(*_NEWEST_FIRST))
        return [_Candidate(Place(*row[:2]), row[2]) for row in rows]

    def _checked(self, candidates: list[_Candidate]) -> dict[Place, _Saying]:
        """Those whose texts really say it, each span at its newest such text."""
        rollouts = {place.span_row: rollout_id for place, rollout_id in candidates}
        self._read += len(rollouts)
        numbers: dict[int, dict[bytes, int]] = {}
        known = sa.select(h.c.span_row, m.c.hash, h.c.message_id).join(m, m.c.id == h.c.message_id)
        for row, digest, id_ in self._tx.all(known.where(_Among(h.c.span_row, sorted(rollouts)))):
            numbers.setdefault(row, {})[digest] = id_
        said: dict[int, dict[int, str]] = {}
        for row, texts in readable_texts_of(self._tx, list(rollouts.items())).items():
            self._chars += sum(map(len, texts))
            by_number = {
                numbers.get(row, {}).get(hash_of(text, project=self._project)): text for text in texts
            }
            said[row] = {
                id_: text for id_, text in by_number.items() if id_ is not None and self._wanted.holds(text)
            }
        return {
            place: _Saying(place.span_row, [text for _, text in sorted(found.items(), reverse=True)])
            for place, _ in candidates
            if (found := said.get(place.span_row)) and max(found) == place.message
        }


class _Among(sa.ColumnElement[bool]):
    """`_Among(column, ids)`: the column is one of thousands of numbers.

    They are our own and written into the text: as parameters each would cost as much as the look-up it asks for.
    """

    inherit_cache = False  # never the same twice
    type = sa.Boolean()
    _is_implicitly_boolean = True  # else SQLite is asked for "… = 1", and uses no index

    def __init__(self, column: sa.Column[Any], ids: Sequence[int]) -> None:
        self.column, self.ids = column, ids


@compiles(_Among)
def _among(element: _Among, compiler: Any, **kw: Any) -> str:
    return f"{compiler.process(element.column, **kw)} IN ({','.join(map(str, element.ids))})"


_NEWEST_FIRST = (h.c.message_id.desc(), h.c.span_row.desc())


def _before(at: Place) -> sa.ColumnElement[bool]:
    """Hits that come after this place on the way down."""
    return sa.or_(
        h.c.message_id < at.message, sa.and_(h.c.message_id == at.message, h.c.span_row < at.span_row)
    )


def _hits(tx: Tx, wanted: Wanted, said: Sequence[_Saying]) -> list[Hit]:
    if not said:
        return []
    columns = [s.c.id, t.c.status.label("outcome"), t.c.mode, t.c.start_time, *SUMMARY_COLUMNS]
    rows = sa.select(*columns).join(t, t.c.rollout_id == s.c.rollout_id)
    spans = {row[0]: row for row in tx.all(rows.where(_Among(s.c.id, [one.span_row for one in said])))}
    rewards = scores.rewards(tx, sorted({row.rollout_id for row in spans.values()}))
    found: list[Hit] = []
    # A span may be deleted between two statements of one search.
    for one in (one for one in said if one.span_row in spans):
        status, mode, start_time, *summary = spans[one.span_row][1:]
        span = SpanSummary(*summary)
        place = RolloutPlace(span.rollout_id, status, mode, start_time, rewards.get(span.rollout_id))
        found.append(Hit(span, place, [wanted.snippet(text) for text in one.texts[:SNIPPETS]]))
    return found
