"""Texts into the search index and out again.

Owns: `message` (each distinct text once per project), `message_hit` (who says it), the work list (packs whose `texts_by` is behind).
Promises: reading and parsing happen outside the writer, writing in slices of a few milliseconds; every slice may be repeated, so a
crash costs nothing but the time; a deleted span is never found again from the moment its hits are gone.
Refuses to know: what a text is (`ingest/texts.py`), how words are kept (`fulltext.py`).

A rollout is indexed once its payloads are packed: what still runs is not found. Of each rollout a text points at its first span for
every combination of kind, agent, tool, model and status, so a prompt repeated in thirty calls costs one hit and every filter still finds it.

Deleting: hits go at once, and with its last hit a text. SQLite's index has to be told the words of what it shall drop, and the texts
may be gone by then, so such a text stays as a tombstone (a hash below 1): it has no hits, so nothing finds it. `sweep` reads the
words back from the index itself, takes them out and frees the number.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson
import sqlalchemy as sa

from leyden.errors import StoreBusy, StoreError
from leyden.ingest import texts
from leyden.ingest.payload import spans_json
from leyden.ingest.words import normalise
from leyden.store import fulltext, payloads, tables
from leyden.store.engine import Tx
from leyden.store.opening import Store

log = logging.getLogger("leyden.store")

m = tables.message
h = tables.message_hit
s = tables.span
k = tables.pack
t = tables.rollout

Pause = Callable[[], bool]  # waits while others write; False: stop now

HASH_BYTES = 12
SLICE_CHARS = 64 * 1024  # of words in one write
SLICE_TEXTS = 200
_READ_SPANS = 128
_SOME = 500
_SWEPT_AT_ONCE = 100_000
# Tombstones are swept when they are that many and that share of all texts.
SWEEP_FROM, SWEEP_SHARE = 1000, 0.2
DEAD = b"\x01"


class Said(NamedTuple):
    """A text and the spans (by `span.id`) that say it. body: its words as `fulltext.body` has them, "" for none."""

    hash: bytes
    body: str
    span_rows: list[int]


class Todo(NamedTuple):
    """A rollout whose packs are not indexed by these rules yet."""

    rollout_id: str
    project: str


def hash_of(text: str, *, project: str) -> bytes:
    """What stands for a text of a project. The first byte is never that of a tombstone."""
    digest = hashlib.blake2b(
        text.encode("utf-8", "replace"), digest_size=HASH_BYTES, key=_key(project)
    ).digest()
    return bytes([digest[0] | 0x80]) + digest[1:]


@lru_cache
def _key(project: str) -> bytes:
    return hashlib.blake2b(project.encode(), digest_size=32).digest()


def pending(tx: Tx, *, limit: int) -> list[Todo]:
    """Rollouts to index, the oldest packs first."""
    behind = (
        sa.select(k.c.rollout_id, k.c.project, sa.func.min(k.c.id))
        .where(k.c.texts_by < texts.RULES_VERSION)
        .group_by(k.c.rollout_id, k.c.project)
        .order_by(sa.func.min(k.c.id))
        .limit(limit)
    )
    return [Todo(*row[:2]) for row in tx.all(behind)]


def waiting(tx: Tx, *, project: str) -> int:
    """Ended rollouts that the search does not know yet."""
    unpacked = sa.select(t.c.rollout_id).where(
        sa.text("unpacked = 1 AND end_time IS NOT NULL"), t.c.project == project
    )
    behind = sa.select(k.c.rollout_id).where(k.c.texts_by < texts.RULES_VERSION, k.c.project == project)
    return tx.first(sa.select(sa.func.count()).select_from(unpacked.union(behind).subquery()))[0]


# ── In ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def index_rollouts(store: Store, todos: Sequence[Todo], *, pause: Pause = lambda: True) -> bool:
    """Index what rollouts say that is not indexed yet; False when `pause` asked to stop before the end.

    Several together: a write costs as much for one text as for twenty. Packs indexed by older rules lose their hits first. What cannot
    be read is logged and left out. Off the writer but for short slices; from a background thread.
    """
    with store.database.read() as tx:
        packs = _packs(tx, todos)
        spans = _spans(tx, todos)
    old = {rollout_id for _, rollout_id, by in packs if 0 < by < texts.RULES_VERSION}
    if not _forget_all(store, [span.row for span in spans if span.rollout_id in old], pause):
        return False
    for said in _slices(store, spans):
        if not pause():
            return False
        store.writer.run(lambda tx, said=said: index(tx, said))
    store.writer.run(lambda tx: _mark(tx, [id_ for id_, _, _ in packs]))
    return True


def _packs(tx: Tx, todos: Sequence[Todo]) -> Sequence[tuple[int, str, int]]:
    where = k.c.rollout_id.in_([todo.rollout_id for todo in todos])
    return tx.all(sa.select(k.c.id, k.c.rollout_id, k.c.texts_by).where(where))


def _mark(tx: Tx, packs: list[int]) -> None:
    # By number: a pack made meanwhile, with spans that came late, is not indexed yet.
    tx.run(sa.update(k).where(k.c.id.in_(packs)).values(texts_by=texts.RULES_VERSION))


class _Span(NamedTuple):
    row: int
    rollout_id: str
    project: str
    place: tuple[str | None, ...]  # rollout, and what a search can be narrowed to


def _spans(tx: Tx, todos: Sequence[Todo]) -> list[_Span]:
    columns = [s.c.id, s.c.rollout_id, s.c.project, s.c.kind, s.c.agent, s.c.tool, s.c.model, s.c.status]
    rows = tx.all(
        sa.select(*columns)
        .where(s.c.rollout_id.in_([todo.rollout_id for todo in todos]))
        .order_by(s.c.rollout_id, s.c.attempt_id, s.c.sequence_id, s.c.id)
    )
    order = {todo.rollout_id: n for n, todo in enumerate(todos)}
    found = [_Span(row[0], row[1], row[2], (row[1], *row[3:])) for row in rows]
    return sorted(found, key=lambda span: order[span.rollout_id])


def _slices(store: Store, spans: Sequence[_Span]) -> Iterator[list[Said]]:
    """What the spans say and the index does not know, in amounts that one write takes."""
    with store.database.read() as tx:
        known = _known(tx, spans)
    found: dict[bytes, Said] = {}
    size = 0
    for at in range(0, len(spans), _READ_SPANS):
        some = spans[at : at + _READ_SPANS]
        with store.database.read() as tx:
            said = readable_texts_of(tx, [(span.row, span.rollout_id) for span in some])
        for span in some:
            for text in said.pop(span.row, ()):
                digest = hash_of(text, project=span.project)
                places = known.setdefault(digest, set())
                if span.place in places:
                    continue
                places.add(span.place)
                if digest in found:
                    found[digest].span_rows.append(span.row)
                    continue
                found[digest] = Said(digest, fulltext.body(normalise(text), project=span.project), [span.row])
                size += len(found[digest].body)
                if size >= SLICE_CHARS or len(found) >= SLICE_TEXTS:
                    yield list(found.values())
                    found, size = {}, 0
    if found:
        yield list(found.values())


def _known(tx: Tx, spans: Sequence[_Span]) -> dict[bytes, set[tuple[str | None, ...]]]:
    """What of it the index knows already: each text with the places that have their hit."""
    places = {span.row: span.place for span in spans}
    found: dict[bytes, set[tuple[str | None, ...]]] = {}
    for some in _chunks(list(places)):
        said = sa.select(m.c.hash, h.c.span_row).join(h, h.c.message_id == m.c.id)
        for digest, row in tx.all(said.where(h.c.span_row.in_(some))):
            found.setdefault(digest, set()).add(places[row])
    return found


def texts_of(tx: Tx, rows: Sequence[tuple[int, str]]) -> dict[int, list[str]]:
    """What spans say, given as (`span.id`, rollout); without those whose payload is gone.

    Raises StoreError when a pack is damaged.
    """
    stored = payloads.by_id(tx, rows)
    known = [id_ for id_, _ in rows if id_ in stored]
    rendered = spans_json((*stored[id_], "", "", 0) for id_ in known)
    return {id_: texts.of_span(orjson.loads(text)) for id_, text in zip(known, rendered, strict=True)}


def readable_texts_of(tx: Tx, rows: Sequence[tuple[int, str]]) -> dict[int, list[str]]:
    """The same, without the rollouts whose packs are damaged. Raises StoreBusy when a pack cannot be read now."""
    try:
        return texts_of(tx, rows)
    except StoreBusy:
        raise
    except StoreError as error:
        rollouts = {rollout_id for _, rollout_id in rows}
        if len(rollouts) == 1:
            log.warning("what rollout %s says cannot be read: %s", *rollouts, error)
            return {}
    found: dict[int, list[str]] = {}
    for name in rollouts:
        found |= readable_texts_of(tx, [row for row in rows if row[1] == name])
    return found


def index(tx: Tx, said: Sequence[Said]) -> None:
    """Index one slice. Spans deleted meanwhile are left out; what is indexed already stays as it is."""
    alive = {
        row[0] for row in tx.rows_by_id([s.c.id], sorted({row for one in said for row in one.span_rows}))
    }
    said = [one for one in said if one.body and not alive.isdisjoint(one.span_rows)]
    if not said:
        return
    ids = _ids(tx, [one.hash for one in said])
    new = [one for one in said if one.hash not in ids]
    if new:
        ids |= _add(tx, new)
    hits = sorted((ids[one.hash], row) for one in said for row in one.span_rows if row in alive)
    tx.insert_new(h, hits, key="message_id")


def _ids(tx: Tx, hashes: Sequence[bytes]) -> dict[bytes, int]:
    return {row[0]: row[1] for row in tx.all(sa.select(m.c.hash, m.c.id).where(m.c.hash.in_(hashes)))}


def _add(tx: Tx, new: Sequence[Said]) -> dict[bytes, int]:
    """Number and index texts that have no number; another replica may number some of them at the same moment."""
    numbered = list(zip(tx.next_ids(m, len(new)), new, strict=True))
    fresh = tx.insert_new(m, [(id_, one.hash) for id_, one in numbered])
    mine = [(id_, one) for id_, one in numbered if fresh is None or id_ in fresh]
    fulltext.add(tx, [(id_, one.body) for id_, one in mine])
    if fresh is None:
        return {one.hash: id_ for id_, one in mine}
    return _ids(tx, [one.hash for one in new])


# ── Out ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def forget(tx: Tx, span_rows: Sequence[int]) -> None:
    """Let go of what spans say; a text that no span says any more goes with its last one."""
    for some in _chunks(span_rows):
        where = h.c.span_row.in_(some)
        said = [row[0] for row in tx.all(sa.select(h.c.message_id).distinct().where(where))]
        if not said:
            continue
        tx.run(sa.delete(h).where(where))
        for ids in _chunks(said):
            still = sa.exists().where(h.c.message_id == m.c.id)
            _bury(tx, [row[0] for row in tx.all(sa.select(m.c.id).where(m.c.id.in_(ids), ~still))])


def _bury(tx: Tx, ids: Sequence[int]) -> None:
    if not ids:
        return
    if fulltext.remove(tx, ids):
        tx.run(sa.delete(m).where(m.c.id.in_(ids)))
        return
    graves = [{"grave": id_, "mark": b"\0" + id_.to_bytes(8, "big")} for id_ in ids]
    tx.run(sa.update(m).where(m.c.id == sa.bindparam("grave")).values(hash=sa.bindparam("mark")), graves)


def _forget_all(store: Store, span_rows: Sequence[int], pause: Pause) -> bool:
    for some in _chunks(span_rows, 100):
        if not pause():
            return False
        store.writer.run(lambda tx, some=some: forget(tx, some))
    return True


def needs_sweep(tx: Tx) -> bool:
    """Whether so many texts are tombstones that reading the whole index to take them out is worth it."""
    some = sa.select(m.c.id).where(m.c.hash < DEAD).limit(SWEEP_FROM).subquery()
    if tx.first(sa.select(sa.func.count()).select_from(some))[0] < SWEEP_FROM:
        return False
    dead = tx.first(sa.select(sa.func.count()).where(m.c.hash < DEAD))[0]
    return dead >= SWEEP_SHARE * tx.first(sa.select(sa.func.count()).select_from(m))[0]


def sweep(store: Store, *, pause: Pause = lambda: True) -> int:
    """Take the words of forgotten texts out of the index; how many texts. 0 on PostgreSQL, where they are out already.

    Reads the whole index (about a second per 1.5 million words in texts), writes in small slices. For a background thread.
    """
    swept = 0
    while True:
        with store.database.read() as tx:
            dead = [row[0] for row in tx.all(sa.select(m.c.id).where(m.c.hash < DEAD).limit(_SWEPT_AT_ONCE))]
            if not dead:
                return swept
            rest = tx.first(sa.select(m.c.id).where(m.c.hash >= DEAD).limit(1))
        if rest is None and store.writer.run(_clear):
            return swept + len(dead)
        with store.database.read() as tx:
            words = fulltext.words_of(tx, dead)
        for some in _chunks(dead, SLICE_TEXTS):
            if not pause():
                return swept
            graves = [(id_, words[id_]) for id_ in some]
            store.writer.run(lambda tx, graves=graves: _dig_out(tx, graves))
            swept += len(some)


def _clear(tx: Tx) -> bool:
    """Empty the index when nothing in it is alive."""
    if tx.first(sa.select(m.c.id).where(m.c.hash >= DEAD).limit(1)) is not None:
        return False
    fulltext.clear(tx)
    tx.run(sa.delete(m))
    return True


def _dig_out(tx: Tx, graves: Sequence[tuple[int, str]]) -> None:
    # Taking a text out twice would harm the index: only those whose tombstone still stands.
    ids = [id_ for id_, _ in graves]
    standing = {row[0] for row in tx.all(sa.select(m.c.id).where(m.c.id.in_(ids), m.c.hash < DEAD))}
    fulltext.take_out(tx, [(id_, words) for id_, words in graves if id_ in standing])
    tx.run(sa.delete(m).where(m.c.id.in_(standing)))


def _chunks(items: Sequence[int], size: int = _SOME) -> Iterator[list[int]]:
    return (list(items[i : i + size]) for i in range(0, len(items), size))
