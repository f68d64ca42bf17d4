"""Payloads by span, wherever they lie: in a row of their own, in a pack in the database, or in a pack in a bucket.

Promises: one answer for all three; each part of a rollout is unpacked once per call; nobody is disturbed by the packing job,
which may move a payload between two statements of a read. Parts unpacked lately stay in memory, up to `CACHE_BYTES`.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import sqlalchemy as sa

from leyden.errors import StoreError
from leyden.store import bucket, frames, tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement

k = tables.pack
p = tables.span_payload
s = tables.span
t = tables.rollout
bind = sa.bindparam

CACHE_BYTES = 32 * 2**20
_TRIES = 5
# A rollout that is being deleted belongs to the project "".
STANDING = t.c.project != sa.literal_column("''")


class PackRow(NamedTuple):
    """A pack without its frame."""

    id: int
    rollout_id: str
    part: int
    spans: int
    raw_bytes: int
    url: str | None
    directory: bytes

    @property
    def label(self) -> str:
        """How errors call it."""
        return f"Pack {self.id} (part {self.part} of rollout {self.rollout_id!r})"

    def holds(self) -> frames.Directory:
        """Which spans, and where in the frame. Raises StoreError when damaged."""
        return frames.read_directory(
            self.directory, spans=self.spans, raw_bytes=self.raw_bytes, label=self.label
        )


class Part:
    """An unpacked part: payload and encoding of each of its spans, by row id, in the order of the pack."""

    def __init__(self, directory: frames.Directory, raw: bytes) -> None:
        cuts = zip(directory.span_rows, pairwise(directory.offsets), directory.encodings, strict=True)
        self._held = {id_: (raw[start:end], encoding) for id_, (start, end), encoding in cuts}
        self.size = len(raw) + 300 * len(self._held)

    def pick(self, ids: Iterable[int]) -> dict[int, tuple[bytes, str]]:
        """Payload and encoding of those of the spans that it holds."""
        held = self._held
        return {id_: held[id_] for id_ in ids if id_ in held}

    def entries(self) -> list[frames.Entry]:
        """All of them as they were packed."""
        return [frames.Entry(id_, encoding, payload) for id_, (payload, encoding) in self._held.items()]


class _Lately:
    """Parts unpacked lately, under their directories: that holds a digest of the payloads, so it can never be another's."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._parts: OrderedDict[bytes, Part] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, directory: bytes) -> Part | None:
        with self._lock:
            part = self._parts.get(directory)
            if part is not None:
                self._parts.move_to_end(directory)
            return part

    def clear(self) -> None:
        with self._lock:
            self._parts.clear()
            self._size = 0

    def keep(self, directory: bytes, part: Part) -> None:
        with self._lock:
            if part.size > self._limit or directory in self._parts:
                return
            self._parts[directory] = part
            self._size += part.size
            while self._size > self._limit:
                self._size -= self._parts.popitem(last=False)[1].size


_lately = _Lately(CACHE_BYTES)

PACK_COLUMNS = [k.c[name] for name in PackRow._fields]
FRAME = Statement(lambda _: sa.select(k.c.directory, k.c.frame).where(k.c.id == bind("pack")))


def by_id(tx: Tx, rows: Sequence[tuple[int, str]]) -> dict[int, tuple[bytes, str]]:
    """Payload and encoding of spans, each given as (row id, rollout id). A span deleted meanwhile is left out.

    Raises StoreError when a pack is damaged or a payload is nowhere, StoreBusy when a bucket does not answer.
    """
    # Rows first, then packs: payloads move in that direction only.
    found = hot(tx, [row[0] for row in rows])
    if len(found) == len(rows):
        return found
    for _ in range(_TRIES):
        missing = [row for row in rows if row[0] not in found]
        if not missing or not _add_packed(tx, missing, found):
            break
    _refuse_lost(tx, [row for row in rows if row[0] not in found])
    return found


def hot(tx: Tx, ids: Sequence[int]) -> dict[int, tuple[bytes, str]]:
    """Payload and encoding of the spans that no pack holds yet."""
    return {row[0]: row[1:] for row in tx.rows_by_id([p.c.id, p.c.payload, p.c.encoding], ids)}


def forget_lately() -> None:
    """Unpack anew what is read from now on: a check wants to see what is stored."""
    _lately.clear()


def packs_of(tx: Tx, rollout_ids: Sequence[str]) -> list[PackRow]:
    """The packs of some rollouts, in order of parts."""
    found: list[PackRow] = []
    for some in (rollout_ids[i : i + 500] for i in range(0, len(rollout_ids), 500)):
        select = sa.select(*PACK_COLUMNS).where(k.c.rollout_id.in_(some)).order_by(k.c.rollout_id, k.c.part)
        found += [PackRow(*row) for row in tx.all(select)]
    return found


def unpacked(tx: Tx, row: PackRow) -> Part | None:
    """A pack's payloads, or None when it was replaced or deleted meanwhile.

    Raises StoreError when it is damaged or its object is missing, StoreBusy when its bucket does not answer.
    """
    part = _lately.get(row.directory)
    if part is not None:
        return part
    directory = row.holds()
    frame = _frame(tx, row)
    if frame is None:
        return None
    part = Part(directory, frames.unpack(frame, directory, label=row.label))
    _lately.keep(row.directory, part)
    return part


def _frame(tx: Tx, row: PackRow) -> bytes | None:
    """The frame of this very pack: a number may have been given again."""
    outside = bucket.get(row.url) if row.url else None
    rows = tx.hot(FRAME, pack=row.id)
    if not rows or rows[0][0] != row.directory:
        return None
    frame = outside if row.url else rows[0][1]
    if frame is None:
        raise frames.damaged(row.label, f"there is nothing at {row.url}" if row.url else "it has no frame")
    return frame


def _add_packed(tx: Tx, missing: Sequence[tuple[int, str]], found: dict[int, tuple[bytes, str]]) -> bool:
    """Add what the packs hold of the missing; whether a pack was replaced meanwhile and it is worth another look."""
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    for id_, rollout_id in missing:
        wanted[rollout_id].append(id_)
    again = False
    for row in packs_of(tx, list(wanted)):
        ids = wanted[row.rollout_id]
        if _lately.get(row.directory) is None and set(ids).isdisjoint(row.holds().span_rows):
            continue
        part = unpacked(tx, row)
        if part is None:
            again = True
        else:
            found |= part.pick(ids)
    return again


def _refuse_lost(tx: Tx, lost: Sequence[tuple[int, str]]) -> None:
    """Raise unless all of these were deleted meanwhile, or are just being deleted with their rollout."""
    known = s.join(t, t.c.rollout_id == s.c.rollout_id)
    for id_, rollout_id in lost:
        if tx.first(sa.select(s.c.id).select_from(known).where(s.c.id == id_, STANDING)):
            raise StoreError(
                f"The payload of span row {id_} of rollout {rollout_id!r} is missing",
                hint="run `leyden db check`; restore it from a backup",
            )
