"""Whether every span has its payload in exactly one place, and whether packs can be read.

While packing moves payloads they may lie in their rows and in a pack at once; the rollout's `unpacked` says that it is still
at work. Holds the numbers of one rollout's spans in memory. Part of `check.py`.
"""

from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import LeydenError
from leyden.store import payloads, tables
from leyden.store.engine import Tx
from leyden.store.payloads import PACK_COLUMNS, STANDING, PackRow

t = tables.rollout
s = tables.span
p = tables.span_payload
k = tables.pack

_AT_ONCE = 100


class _Spans(NamedTuple):
    """The spans of one rollout: those whose payload is in its row, and the others."""

    rollout_id: str
    unpacked: bool
    hot: set[int]
    cold: set[int]


def misplaced(tx: Tx) -> Iterator[str]:
    """Spans without a payload or with two, and packs that hold what is no span of their rollout."""
    rollouts = _rollouts(tx)
    while some := list(islice(rollouts, _AT_ONCE)):
        packs: dict[str, list[PackRow]] = {}
        for row in payloads.packs_of(tx, [spans.rollout_id for spans in some]):
            packs.setdefault(row.rollout_id, []).append(row)
        for spans in some:
            yield from _compared(spans, packs.get(spans.rollout_id, []))


def _rollouts(tx: Tx) -> Iterator[_Spans]:
    select = (
        sa.select(s.c.rollout_id, t.c.unpacked, s.c.id, p.c.id.is_not(None))
        .select_from(s.join(t, t.c.rollout_id == s.c.rollout_id).outerjoin(p, p.c.id == s.c.id))
        .where(STANDING)
        .order_by(s.c.rollout_id)
        .execution_options(yield_per=2000)
    )
    with tx.connection.execute(select) as rows:
        for (rollout_id, unpacked), own in groupby(rows, key=itemgetter(0, 1)):
            places: dict[bool, set[int]] = {True: set(), False: set()}
            for row in own:
                places[bool(row[3])].add(row[2])
            yield _Spans(rollout_id, bool(unpacked), places[True], places[False])


def _compared(spans: _Spans, packs: list[PackRow]) -> Iterator[str]:
    held: set[int] = set()
    for row in packs:
        try:
            holds = row.holds().span_rows
        except LeydenError as error:
            yield error.message
            return
        for id_ in holds:
            if id_ in held:
                yield f"span {id_} of {spans.rollout_id} is in two packs"
            elif id_ not in spans.hot and id_ not in spans.cold:
                yield f"pack {row.id} holds span {id_} of {spans.rollout_id}, which is not there"
        held.update(holds)
    for id_ in sorted(spans.cold - held):
        yield f"span {id_} of {spans.rollout_id} has no payload"
    if not spans.unpacked and spans.hot:
        yield f"{spans.rollout_id} counts as packed, and {len(spans.hot)} payloads of it are not"


def damaged(tx: Tx) -> Iterator[str]:
    """Packs that cannot be read back as they were written."""
    payloads.forget_lately()
    select = sa.select(*PACK_COLUMNS).join(t, t.c.rollout_id == k.c.rollout_id).where(STANDING)
    with tx.connection.execute(select.execution_options(yield_per=20)) as rows:
        for row in rows:
            yield from _unreadable(tx, PackRow(*row))


def _unreadable(tx: Tx, row: Any) -> Iterator[str]:
    try:
        if payloads.unpacked(tx, row) is None:
            yield f"{row.label} changed while it was read"
    except LeydenError as error:
        yield error.message
