"""The packing of ended rollouts: payloads leave their rows and become parts of a pack, and a pack goes with its rollout.

Owns: the tables `pack` and `pack_object`. Promises:
1. A payload is at every moment in its row, in a pack, or in both; never in two packs, never in none.
2. Reading and compressing happen outside the writer; what it then does checks that nothing else moved the payloads meanwhile,
   and takes about `SLICE_S` at a time, however large the rollout.
3. Spans that come late make their rollout due again: they join its last part, or become the next.
4. An object in a bucket is written before the row that points at it, and removed after the commit that deletes the row; what a
   crash leaves in between is on record in `pack_object`, and `sweep` removes it.

A rollout is due when it ended and `unpacked` is 1, which every new span sets. New packs have `texts_by` 0: the work list of
the search index.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import StoreBusy, StoreError
from leyden.ingest.payload import FILED, names_its_ids
from leyden.store import bucket, frames, payloads, tables
from leyden.store.engine import Tx
from leyden.store.frames import Entry
from leyden.store.opening import Store
from leyden.store.payloads import STANDING, PackRow
from leyden.store.sql import Statement

log = logging.getLogger("leyden.store")

k = tables.pack
o = tables.pack_object
p = tables.span_payload
s = tables.span
t = tables.rollout
bind = sa.bindparam

SLICE_S = 0.010
FRAME_BYTES = (
    4 * 2**20
)  # a larger one, of payloads that do not compress, would hold up the writer: it is halved
ABANDONED_S = 3600.0
_BATCH_ROLLOUTS, _BATCH_SPANS = 64, 2000
_DELETE_ROWS = 100


class Progress(NamedTuple):
    """What packing did: rollouts now wholly packed, spans, bytes before and after; rollouts that could not be packed."""

    rollouts: int = 0
    spans: int = 0
    raw_bytes: int = 0
    packed_bytes: int = 0
    failed: int = 0

    def plus(self, other: "Progress") -> "Progress":
        """Both together."""
        return Progress(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class _Row(NamedTuple):
    id: int
    rollout_id: str
    attempt_id: str
    sequence_id: int
    encoding: str | None
    size: int | None


@dataclass
class _Work:
    """One part of one rollout: what is to be written and deleted, and what was seen and must still be so then.

    packs: (part, spans) of its packs. `spans`: how many it has. `moving`: row ids of the payloads to be deleted.
    """

    project: str
    rollout_id: str
    packs: set[tuple[int, int]]
    spans: int
    moving: list[int]
    is_last: bool
    fresh: list[_Row]
    onto: PackRow | None
    part: int
    packed: frames.Packed | None = None
    url: str | None = None

    @property
    def packs_after(self) -> set[tuple[int, int]]:
        if self.packed is None:
            return self.packs
        kept = {one for one in self.packs if self.onto is None or one[0] != self.onto.part}
        return kept | {(self.part, self.packed.spans)}


# ── Which rollouts ───────────────────────────────────────────────────────────────────────────────────────────────


def pack_all(store: Store, *, now: float, after_s: float = 0.0) -> Progress:
    """Pack every rollout that ended at least `after_s` seconds before `now`, to where the store's packs go.

    A rollout that fails is logged, counted and left as it was. Raises StoreBusy when the database or the bucket does not answer, StoreFull.
    """
    done = Progress()
    for progress in steps(store, now=now, after_s=after_s):
        done = done.plus(progress)
    return done


def steps(store: Store, *, now: float, after_s: float = 0.0) -> Iterator[Progress]:
    """The same in steps of at most about `frames.PART_BYTES`, so that a caller may rest in between."""
    after = (float("-inf"), "")
    while True:
        with store.database.read() as tx:
            due = _due(tx, before=now - after_s, after=after)
        if not due:
            return
        after = (due[-1].end_time, due[-1].rollout_id)
        for batch in _batches(due):
            yield from _pack(store, batch, now=now)


def pack_rollout(store: Store, rollout_id: str, *, now: float) -> Progress:
    """Pack one rollout, ended or not. Raises as `pack_all`."""
    done = Progress()
    for progress in _pack(store, [rollout_id], now=now):
        done = done.plus(progress)
    return done


def _due(tx: Tx, *, before: float, after: tuple[float, str]) -> Sequence[Any]:
    position = sa.tuple_(t.c.end_time, t.c.rollout_id)
    return tx.all(
        sa.select(t.c.rollout_id, t.c.end_time, t.c.span_seq)
        .where(
            tables.UNPACKED, STANDING, t.c.end_time <= before, position > sa.tuple_(*map(sa.literal, after))
        )
        .order_by(t.c.end_time, t.c.rollout_id)
        .limit(_BATCH_ROLLOUTS * 4)
    )


def _batches(due: Sequence[Any]) -> Iterator[list[str]]:
    batch: list[str] = []
    spans = 0
    for row in due:
        if batch and (len(batch) == _BATCH_ROLLOUTS or spans + row.span_seq > _BATCH_SPANS):
            yield batch
            batch, spans = [], 0
        batch.append(row.rollout_id)
        spans += row.span_seq
    if batch:
        yield batch


def _pack(store: Store, rollout_ids: list[str], *, now: float) -> Iterator[Progress]:
    """Pack some rollouts part by part; one that somebody else changes meanwhile is left for the next time."""
    left = rollout_ids
    while left:
        works, failed = _plan(store, left)
        works, later = _fitting(works)
        ready = [work for work in works if _compress(store, work, now=now)]
        moved = _write(store, ready, now=now)
        finished = [work for work in moved if work.is_last]
        packed = [work.packed for work in moved if work.packed]
        yield Progress(
            rollouts=len(finished),
            spans=sum(len(work.fresh) for work in moved),
            raw_bytes=sum(row.size or 0 for work in moved for row in work.fresh),
            packed_bytes=sum(len(one.frame) + len(one.directory) for one in packed),
            failed=failed,
        )
        left = [work.rollout_id for work in moved if not work.is_last] + later


# ── Reading and compressing, outside the writer ──────────────────────────────────────────────────────────────────


def _plan(store: Store, rollout_ids: Sequence[str]) -> tuple[list[_Work], int]:
    """The next part of each rollout, and how many cannot be planned because a pack of theirs is damaged."""
    with store.database.read() as tx:
        # Payloads first, then packs: what moves in between is seen in both and packed once.
        known = tx.all(
            sa.select(t.c.project, t.c.rollout_id).where(t.c.rollout_id.in_(rollout_ids), STANDING)
        )
        select = (
            sa.select(s.c.id, s.c.rollout_id, s.c.attempt_id, s.c.sequence_id, p.c.encoding, sa.func.length(p.c.payload))
            .select_from(s.outerjoin(p, p.c.id == s.c.id))
            .where(s.c.rollout_id.in_(rollout_ids))
            .order_by(s.c.rollout_id, s.c.sequence_id, s.c.id)
        )  # fmt: skip
        rows: dict[str, list[_Row]] = {}
        for row in tx.all(select):
            rows.setdefault(row.rollout_id, []).append(_Row(*row))
        packs: dict[str, list[PackRow]] = {}
        for pack in payloads.packs_of(tx, rollout_ids):
            packs.setdefault(pack.rollout_id, []).append(pack)
    works: list[_Work] = []
    for project, rollout_id in sorted(known, key=lambda row: row.rollout_id):
        try:
            works.append(_next_part(project, rollout_id, rows.get(rollout_id, []), packs.get(rollout_id, [])))
        except StoreError as error:
            log.warning("rollout %r stays unpacked: %s", rollout_id, error)
    return works, len(known) - len(works)


def _next_part(project: str, rollout_id: str, rows: list[_Row], packs: list[PackRow]) -> _Work:
    held = {id_ for pack in packs for id_ in pack.holds().span_rows}
    hot = [row for row in rows if row.encoding is not None]
    loose = [row for row in hot if row.id not in held]
    fresh = _first(loose, frames.PART_BYTES, frames.PART_SPANS)
    last = packs[-1] if packs else None
    size = sum(row.size or 0 for row in fresh)
    joins = (
        last is not None
        and last.raw_bytes + size <= frames.PART_BYTES
        and last.spans + len(fresh) <= frames.PART_SPANS
    )
    return _Work(
        project,
        rollout_id,
        packs={(pack.part, pack.spans) for pack in packs},
        spans=len(rows),
        # What a packing that was cut short left in both places goes with the first part.
        moving=[row.id for row in hot if row.id in held] + [row.id for row in fresh],
        is_last=len(fresh) == len(loose),
        fresh=fresh,
        onto=last if joins and fresh else None,
        part=0 if last is None else last.part if joins and fresh else last.part + 1,
    )


def _first(rows: list[_Row], max_bytes: int, max_rows: int) -> list[_Row]:
    """The rows that one part takes: at least one."""
    size, taken = 0, 0
    for row in rows[:max_rows]:
        size += row.size or 0
        if taken and size > max_bytes:
            break
        taken += 1
    return rows[:taken]


def _fitting(works: list[_Work]) -> tuple[list[_Work], list[str]]:
    """Works whose payloads together are about one part, and the rollouts left over."""
    size = 0
    for n, work in enumerate(works):
        size += sum(row.size or 0 for row in work.fresh) + (work.onto.raw_bytes if work.onto else 0)
        if n and size > frames.PART_BYTES:
            return works[:n], [later.rollout_id for later in works[n:]]
    return works, []


def _compress(store: Store, work: _Work, *, now: float) -> bool:
    """Fill in the frame, and write it to the bucket when there is one; False when a payload has moved meanwhile."""
    if not work.fresh:
        return True
    with store.database.read() as tx:
        found = payloads.hot(tx, [row.id for row in work.fresh])
        old = _entries_before(tx, work)
    if len(found) < len(work.fresh) or old is None:
        return False
    new = {row.id: _entry(row, *found[row.id]) for row in work.fresh}
    _fill(work, old, list(new.values()))
    if store.pack_url and work.packed:
        work.url = bucket.new_url(store.pack_url, now=now)
        store.writer.run(partial(_reserve, url=work.url, now=now))
        bucket.put(work.url, work.packed.frame)
    return True


def _entries_before(tx: Tx, work: _Work) -> list[Entry] | None:
    """What the part holds that the new payloads join; None when it was replaced meanwhile. A damaged part is not joined."""
    if work.onto is None:
        return []
    try:
        part = payloads.unpacked(tx, work.onto)
    except StoreBusy:
        raise
    except StoreError:
        work.onto, work.part = None, work.part + 1
        return []
    return None if part is None else part.entries()


def _entry(row: _Row, payload: bytes, encoding: str) -> Entry:
    """A payload that says itself where it was filed is marked so: it can be handed out as it is."""
    filed = encoding == "agl" and names_its_ids(payload, row.rollout_id, row.attempt_id, row.sequence_id)
    return Entry(row.id, FILED if filed else encoding, payload)


def _fill(work: _Work, old: list[Entry], new: list[Entry]) -> None:
    work.packed = frames.pack([*old, *new])
    if old and len(work.packed.frame) > FRAME_BYTES:
        work.onto, work.part = None, work.part + 1
        work.packed = frames.pack(new)
    while len(work.packed.frame) > FRAME_BYTES and len(new) > 1:
        new = new[: len(new) // 2]
        dropped = {row.id for row in work.fresh[len(new) :]}
        work.fresh, work.is_last = work.fresh[: len(new)], False
        work.moving = [id_ for id_ in work.moving if id_ not in dropped]
        work.packed = frames.pack(new)


# ── Changing, in the writer ──────────────────────────────────────────────────────────────────────────────────────

LOCK = Statement(
    lambda _: (
        sa.select(t.c.unpacked)
        .where(t.c.rollout_id == bind("rollout"), t.c.project == bind("owner"))
        .with_for_update()
    )
)
PARTS = Statement(lambda _: sa.select(k.c.part, k.c.spans).where(k.c.rollout_id == bind("rollout")))
ADD = Statement(
    lambda insert: insert(k).values(
        {c: bind(c) for c in ("project", "rollout_id", "part", "spans", "raw_bytes", "packed_bytes", "create_time", "url",
                              "directory", "frame")}
    )
)  # fmt: skip
REMOVE = Statement(
    lambda _: sa.delete(k).where(k.c.rollout_id == bind("rollout"), k.c.part == bind("number"))
)
COUNT = Statement(
    lambda _: sa.select(sa.func.count()).select_from(s).where(s.c.rollout_id == bind("rollout"))
)
SET_PACKED = Statement(
    lambda _: sa.update(t).where(t.c.rollout_id == bind("rollout")).values(unpacked=sa.literal_column("0"))
)
RESERVE = Statement(lambda insert: insert(o).values(url=bind("url"), time=bind("now")))
RELEASE = Statement(lambda _: sa.delete(o).where(o.c.url == bind("object")))


def _write(store: Store, works: list[_Work], *, now: float) -> list[_Work]:
    """Those of the works that were written. Each change works for about a slice; what is left is for the next."""
    done: list[_Work] = []
    while works:
        size = sum(len(work.packed.frame) for work in works if work.packed)
        outcomes = store.writer.run(partial(_apply_some, works=works, now=now), size=size)
        for work, left in zip(works, outcomes, strict=False):
            if left is None:
                continue
            done.append(work)
            while left:
                left = store.writer.run(partial(_delete_on, work=work, ids=left), size=1)
        works = works[len(outcomes) :]
    return done


def _apply_some(tx: Tx, *, works: list[_Work], now: float) -> list[list[int] | None]:
    """For as many works as fit a slice: the payload rows that are left to delete, or None where something else has changed."""
    until = time.perf_counter() + SLICE_S
    outcomes: list[list[int] | None] = []
    for work in works:
        outcomes.append(_apply(tx, work, now=now, until=until))
        if time.perf_counter() > until:
            break
    return outcomes


def _apply(tx: Tx, work: _Work, *, now: float, until: float) -> list[int] | None:
    if not _is_as_seen(tx, work, work.packs) or _count_hot(tx, work.moving) != len(work.moving):
        return None
    if work.url and not tx.hot_count(RELEASE, object=work.url):
        return None  # taken so long that a sweep has removed the object
    if work.packed:
        if work.onto:
            tx.hot(REMOVE, rollout=work.rollout_id, number=work.onto.part)
            _discard(tx, [work.onto.url])
        tx.hot(
            ADD, project=work.project, rollout_id=work.rollout_id, part=work.part, spans=work.packed.spans,
            raw_bytes=work.packed.raw_bytes, packed_bytes=len(work.packed.frame) + len(work.packed.directory),
            create_time=now, url=work.url, directory=work.packed.directory,
            frame=None if work.url else work.packed.frame,
        )  # fmt: skip
    return _delete(tx, work, work.moving, until)


def _is_as_seen(tx: Tx, work: _Work, packs: set[tuple[int, int]]) -> bool:
    """Lock the rollout, and say whether it is there and has these packs. Packing only ever adds parts or spans to them."""
    known = tx.hot(LOCK, rollout=work.rollout_id, owner=work.project)
    return bool(known) and packs == {(row[0], row[1]) for row in tx.hot(PARTS, rollout=work.rollout_id)}


def _count_hot(tx: Tx, ids: list[int]) -> int:
    """How many of the payload rows are there."""
    some = (_listed(ids[i : i + 1000]) for i in range(0, len(ids), 1000))
    return sum(tx.driver(f"SELECT count(*) FROM {p.name} WHERE id IN ({numbers})")[0][0] for numbers in some)


def _listed(ids: list[int]) -> str:
    """Numbers of our own, to be written into the text: both drivers are slow with many parameters."""
    return ",".join(map(str, ids))


def _delete_on(tx: Tx, *, work: _Work, ids: list[int]) -> list[int]:
    """Go on deleting what a pack now holds; nothing when another packing has taken over."""
    if not _is_as_seen(tx, work, work.packs_after):
        return []
    return _delete(tx, work, ids, time.perf_counter() + SLICE_S)


def _delete(tx: Tx, work: _Work, ids: list[int], until: float) -> list[int]:
    """Delete payload rows for a while; those that are left. After the last one a rollout without new spans is packed."""
    while ids:
        some, ids = ids[:_DELETE_ROWS], ids[_DELETE_ROWS:]
        tx.driver(f"DELETE FROM {p.name} WHERE id IN ({_listed(some)})")
        if ids and time.perf_counter() > until:
            return ids
    if work.is_last and tx.hot(COUNT, rollout=work.rollout_id)[0][0] == work.spans:
        tx.hot(SET_PACKED, rollout=work.rollout_id)
    return []


# ── Deleting, and objects outside the database ───────────────────────────────────────────────────────────────────


ERASABLE = Statement(
    lambda _: (
        sa.select(k.c.id, k.c.url)
        .where(k.c.rollout_id == bind("rollout"))
        .limit(bind("most", type_=sa.Integer))
    )
)
ERASE = Statement(lambda _: sa.delete(k).where(k.c.id == bind("pack")))


def erase(tx: Tx, rollout_id: str, *, limit: int = 10**9) -> bool:
    """Remove up to `limit` packs of a rollout; whether there may be more.

    Their objects are removed by the next `sweep`, after this is committed.
    """
    rows = tx.hot(ERASABLE, rollout=rollout_id, most=limit)
    _discard(tx, [row[1] for row in rows])
    for row in rows:
        tx.hot(ERASE, pack=row[0])
    return len(rows) == limit


def _reserve(tx: Tx, *, url: str, now: float) -> None:
    tx.hot(RESERVE, url=url, now=now)


def _discard(tx: Tx, urls: Sequence[str | None]) -> None:
    for url in urls:
        if url is not None:
            tx.hot(RESERVE, url=url, now=0.0)


def sweep(store: Store, *, now: float, limit: int = 1000) -> int:
    """Remove objects that no pack points at: of deleted packs, and what crashes left behind. How many were removed.

    An object that was begun less than an hour ago may still get its pack and is left alone. Raises StoreBusy when the bucket
    does not answer: what was not removed is found by the next sweep.
    """
    old = sa.select(o.c.url).where(o.c.time < now - ABANDONED_S).limit(limit)
    with store.database.read() as tx:
        urls = [row.url for row in tx.all(old)]
    for url in urls:
        bucket.remove(url)
        store.writer.run(lambda tx, url=url: tx.hot(RELEASE, object=url))
    return len(urls)
