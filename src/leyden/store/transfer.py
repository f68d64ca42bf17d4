"""Reading a project out: its rollouts with everything recorded of them, a few megabytes at a time. `restore.py` puts it back.

Promises
1. Memory stays flat, whatever the number of rollouts, and whatever the number of spans in one: what is held is one batch of rollouts
   with the row numbers of their spans, and one slice of spans.
2. No read lasts longer than one slice, so SQLite's write-ahead log can always start again and writers never wait.
3. Each rollout is of one moment (its row, attempts, scores, what it cost and which spans it has); the export as a whole is not. What
   is deleted while it is being read may be missing or be there without its last spans.

Of a rollout's model calls those are written that an SDK's report is still looked for among.

Keys are never read: secrets do not leave the store. Refuses to know: files and HTTP.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

import leyden
from leyden.ingest.export_lines import COLUMNS, Seal, encode, header
from leyden.ingest.otlp_out import otlp_json_line
from leyden.ingest.payload import FILED
from leyden.store import model_calls, payloads, spend, tables
from leyden.store.engine import Database, Tx
from leyden.store.runs import RunFilter

t = tables.rollout
a = tables.attempt
s = tables.span

EVERYTHING = RunFilter()

_BATCH_ROLLOUTS = 100
_BATCH_ROWS = 500
# Of one slice: payload bytes it aims at, and spans at least and at most.
_SLICE_BYTES = 2 * 2**20
_SLICE_LEAST, _SLICE_FIRST, _SLICE_MOST = 8, 64, 1000

_TABLES: dict[str, sa.Table] = {
    "resources": tables.resources,
    "worker": tables.worker,
    "price": tables.price_override,
    "spend": tables.spend,
    "rollout": t,
    "attempt": a,
    "score": tables.score,
    "rollout_spend": tables.spend_rollout,
    "model_call": tables.model_call,
    "finding": tables.finding,
    "evidence": tables.finding_evidence,
}
_SELECTED: dict[str, list[sa.Column[Any]]] = {
    noun: [table.c[name] for name in COLUMNS[noun]] for noun, table in _TABLES.items()
}
SPAN_COLUMNS = [s.c[name] for name in COLUMNS["span"][:-2]]


class Held(NamedTuple):
    """A rollout as it is at one moment: rows in the order of `COLUMNS`, and the row numbers of its spans in their order."""

    rollout: tuple[Any, ...]
    attempts: list[tuple[Any, ...]]
    scores: list[tuple[Any, ...]]
    spend: list[tuple[Any, ...]]
    model_calls: list[tuple[Any, ...]]
    span_rows: "array[int]"

    @property
    def rollout_id(self) -> str:
        """Its id."""
        return self.rollout[0]


class Segment(NamedTuple):
    """Some neighbouring spans of a rollout, as rows in the order of `COLUMNS`. The first of a rollout may have none."""

    held: Held
    is_first: bool
    spans: list[tuple[Any, ...]]


def lines(database: Database, which: RunFilter, *, project: str, now: float) -> Iterator[bytes]:
    """An export in lines (`ingest/export_lines.py`), several per piece, each piece with its line breaks.

    Workers, prices, spend per day and findings belong to the whole: they are left out when `which` is not EVERYTHING. Resources are
    always there.
    """
    seal = Seal()
    yield header(time=now, leyden=leyden.__version__)
    yield from _sealed(seal, "resources", _by_seq(database, "resources", project=project))
    if which == EVERYTHING:
        yield from _sealed(seal, "worker", _by_seq(database, "worker", project=project))
        yield from _sealed(seal, "price", _by_key(database, "price", ["pattern"], project=project))
        yield from _sealed(seal, "spend", _by_key(database, "spend", spend.KEYS[1:], project=project))
    for batch in rollouts(database, which, project=project):
        for segments in slices(database, batch):
            yield b"".join(_segment(seal, segment) for segment in segments)
    if which == EVERYTHING:
        yield from _sealed(seal, "finding", _findings(database, "finding", project=project))
        yield from _sealed(seal, "evidence", _findings(database, "evidence", project=project))
    yield seal.end()


def _segment(seal: Seal, segment: Segment) -> bytes:
    held = segment.held
    rows = {"span": segment.spans}
    if segment.is_first:
        rows = {
            "rollout": [held.rollout], "attempt": held.attempts, "score": held.scores, "rollout_spend": held.spend,
            "model_call": held.model_calls, **rows,
        }  # fmt: skip
    pieces: list[bytes] = []
    for noun, some in rows.items():
        piece = b"".join(encode(noun, row) for row in some)
        seal.add(piece, noun, len(some))
        pieces.append(piece)
    return b"".join(pieces)


def otlp_lines(database: Database, which: RunFilter, *, project: str) -> Iterator[bytes]:
    """The spans of an export as OTLP/JSON, one trace request of one rollout a line: what the collector's file exporter writes."""
    for batch in rollouts(database, which, project=project):
        for segments in slices(database, batch):
            found = [
                otlp_json_line((row[-1], row[-2], row[0], row[1], row[2]) for row in segment.spans) + b"\n"
                for segment in segments
                if segment.spans
            ]
            if found:
                yield b"".join(found)


def _sealed(seal: Seal, noun: str, batches: Iterator[Sequence[Any]]) -> Iterator[bytes]:
    for rows in batches:
        piece = b"".join(encode(noun, tuple(row)) for row in rows)
        seal.add(piece, noun, len(rows))
        yield piece


def _by_seq(database: Database, noun: str, *, project: str) -> Iterator[Sequence[Any]]:
    """Rows of a table with a column `seq`, in its order."""
    table = _TABLES[noun]
    after = 0
    while True:
        select = (
            sa.select(table.c.seq, *_SELECTED[noun])
            .where(table.c.project == project, table.c.seq > after)
            .order_by(table.c.seq)
            .limit(_BATCH_ROWS)
        )
        with database.read() as tx:
            rows = tx.all(select)
        if not rows:
            return
        after = rows[-1][0]
        yield [row[1:] for row in rows]


def _by_key(database: Database, noun: str, key: Sequence[str], *, project: str) -> Iterator[Sequence[Any]]:
    """Rows of a project in the order of a key that each has for itself."""
    table = _TABLES[noun]
    columns, at = sa.tuple_(*[table.c[name] for name in key]), [COLUMNS[noun].index(name) for name in key]
    select = sa.select(*_SELECTED[noun]).where(table.c.project == project).order_by(*columns)
    after: list[Any] | None = None
    while True:
        further = select if after is None else select.where(columns > sa.tuple_(*map(sa.literal, after)))
        with database.read() as tx:
            rows = tx.all(further.limit(_BATCH_ROWS))
        if not rows:
            return
        after = [rows[-1][n] for n in at]
        yield [tuple(row) for row in rows]


def _findings(database: Database, noun: str, *, project: str) -> Iterator[Sequence[Any]]:
    """Findings by rank, evidence in its order. A project has few: its agents fail in a bounded number of ways."""
    table = _TABLES[noun]
    order = (
        [table.c.rank, table.c.fingerprint] if noun == "finding" else [table.c.fingerprint, table.c.position]
    )
    with database.read() as tx:
        rows = tx.all(sa.select(*_SELECTED[noun]).where(table.c.project == project).order_by(*order))
    for start in range(0, len(rows), _BATCH_ROWS):
        yield rows[start : start + _BATCH_ROWS]


# ── Rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def rollouts(database: Database, which: RunFilter, *, project: str) -> Iterator[list[Held]]:
    """Every rollout that matches, in the order of their creation, in batches, without spans."""
    after = 0
    where = which.conditions(project)
    while True:
        with database.snapshot() as tx:
            select = sa.select(t.c.seq, *_SELECTED["rollout"]).where(*where, t.c.seq > after)
            rows = tx.all(select.order_by(t.c.seq).limit(_BATCH_ROLLOUTS))
            batch = _held(tx, [tuple(row[1:]) for row in rows])
        if not rows:
            return
        after = rows[-1][0]
        yield batch


def _held(tx: Tx, rows: list[tuple[Any, ...]]) -> list[Held]:
    ids = [row[0] for row in rows]
    attempts = _of(tx, "attempt", ids, order=[a.c.rollout_id, a.c.sequence_id, a.c.attempt_id])
    scores = _of(tx, "score", ids, order=[tables.score.c.id])
    cost = _of(tx, "rollout_spend", ids, order=[tables.spend_rollout.c.rollout_id])
    calls: dict[str, list[tuple[Any, ...]]] = {}
    for row in tx.all(model_calls.latest(ids)):
        calls.setdefault(row[0], []).append(tuple(row))
    numbers: dict[str, array[int]] = {rollout_id: array("q") for rollout_id in ids}
    select = (
        sa.select(s.c.rollout_id, s.c.id)
        .where(s.c.rollout_id.in_(ids))
        .order_by(s.c.rollout_id, s.c.sequence_id, s.c.id)
    )
    for part in tx.connection.execute(select).partitions(10_000):
        for rollout_id, number in part:
            numbers[rollout_id].append(number)
    return [
        Held(
            row, attempts.get(row[0], []), scores.get(row[0], []), cost.get(row[0], []), calls.get(row[0], []), numbers[row[0]]
        )
        for row in rows
    ]  # fmt: skip


def _of(tx: Tx, noun: str, ids: list[str], *, order: list[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of a table by their rollout."""
    table = _TABLES[noun]
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in tx.all(sa.select(*_SELECTED[noun]).where(table.c.rollout_id.in_(ids)).order_by(*order)):
        found.setdefault(row[0], []).append(tuple(row))
    return found


def slices(database: Database, batch: list[Held]) -> Iterator[list[Segment]]:
    """The rollouts of a batch with their spans, a slice at a time: small rollouts share one, large ones take several.

    How many spans are in a slice follows how large their payloads are.
    """
    size = _SLICE_FIRST
    pending: list[tuple[Held, int, int]] = []
    for held in batch:
        start, count = 0, len(held.span_rows)
        while True:
            room = size - sum(stop - begin for _, begin, stop in pending)
            stop = min(count, start + room)
            pending.append((held, start, stop))
            if stop == count and len(pending) < _BATCH_ROLLOUTS and room > stop - start:
                break
            segments, size = _read_slice(database, pending)
            yield segments
            pending, start = [], stop
            if start == count:
                break
    if pending:
        yield _read_slice(database, pending)[0]


def _read_slice(database: Database, asked: list[tuple[Held, int, int]]) -> tuple[list[Segment], int]:
    """The spans asked for, and how many the next slice had better have."""
    wanted = [
        (number, held.rollout_id) for held, start, stop in asked for number in held.span_rows[start:stop]
    ]
    with database.read() as tx:
        found = span_rows(tx, wanted)
    weight = sum(len(row[-1]) for row in found.values()) // max(1, len(found))
    segments = [
        Segment(held, start == 0, [found[n] for n in held.span_rows[start:stop] if n in found])
        for held, start, stop in asked
    ]
    return segments, min(_SLICE_MOST, max(_SLICE_LEAST, _SLICE_BYTES // max(1, weight)))


def span_rows(tx: Tx, wanted: Sequence[tuple[int, str]]) -> dict[int, tuple[Any, ...]]:
    """Spans by their row numbers, asked for as (number, rollout id): columns, encoding, payload. Deleted ones are left out."""
    rows = {row[0]: row[1:] for row in tx.rows_by_id([s.c.id, *SPAN_COLUMNS], [n for n, _ in wanted])}
    held = payloads.by_id(tx, [pair for pair in wanted if pair[0] in rows])
    return {
        number: (*row, _as_came(held[number][1]), held[number][0])
        for number, row in rows.items()
        if number in held
    }


def _as_came(encoding: str) -> str:
    """What a pack knows of a payload besides is the pack's: packed or not, an export is the same."""
    return "agl" if encoding == FILED else encoding
