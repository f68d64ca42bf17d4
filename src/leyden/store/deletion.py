"""Deleting rollouts, with everything that belongs to them, without holding anybody up.

Promises
1. From the first slice on nobody finds the rollout: it moves to the project "", which no caller can name. Lists, waits,
   claims and late spans treat it as unknown; the watchdog and the packing job leave it alone. Until the last slice its spans
   may still be found by a search over all spans.
2. A slice is one change of about `SLICE_S`, whatever the size of the rollout, and other writes go on between two of them.
3. What a crash leaves half deleted is still in that project: `unfinished` finds it, and the next run of `erase` finishes it.
4. Deleting what is not there, or is being deleted already, is harmless.

Refuses to know: which rollouts are due. See `retention.py`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import NotFound
from leyden.store import indexing, pack, rollups, tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement
from leyden.store.writer import Writer

t = tables.rollout
s = tables.span
p = tables.span_payload
a = tables.attempt
w = tables.worker
score = tables.score
bind = sa.bindparam

# No id is empty, so no caller can ask for this project.
DELETED = ""
SLICE_S = 0.015
# Spans per look at the clock, and the payload bytes among them: freeing a page costs about as much as writing it.
STEP_SPANS = 100
STEP_BYTES = 2 * 2**20

MayGo = Callable[[Tx, str], bool]


HOLD = Statement(
    lambda _: (
        sa.select(t.c.project)
        .where(t.c.rollout_id == bind("rollout"), t.c.project.in_([bind("asked"), bind("deleted")]))
        .with_for_update()
    )
)
HIDE = Statement(
    lambda _: (
        sa.update(t)
        .where(t.c.rollout_id == bind("rollout"))
        .values(
            project=sa.literal_column("''"),
            idempotency_key=sa.null(),
            deadline=sa.null(),
            unpacked=sa.literal_column("0"),
        )
    )
)
_WORKING = sa.select(a.c.worker_id).where(a.c.rollout_id == bind("rollout"), a.c.worker_id.is_not(None))
FREE_WORKERS = Statement(
    lambda _: (
        sa.update(w)
        .where(
            w.c.project == bind("asked"),
            w.c.worker_id.in_(_WORKING),
            w.c.current_rollout_id == bind("rollout"),
        )
        .values(
            status=sa.literal_column("'idle'"), current_rollout_id=sa.null(), current_attempt_id=sa.null()
        )
    )
)
SOME_SPANS = Statement(
    lambda _: (
        sa.select(
            s.c.id,
            sa.func.coalesce(sa.func.length(p.c.payload), sa.literal_column("0")),
            s.c.project,
            *rollups.COLUMNS,
        )
        .select_from(s.outerjoin(p, p.c.id == s.c.id))
        .where(s.c.rollout_id == bind("rollout"))
        .limit(bind("most", type_=sa.Integer))
    )
)
ERASE_SCORES = Statement(
    lambda _: sa.delete(score).where(
        score.c.id.in_(
            sa.select(score.c.id)
            .where(score.c.rollout_id == bind("rollout"))
            .limit(bind("most", type_=sa.Integer))
        )
    )
)


def _erasing(table: sa.Table) -> Statement:
    return Statement(lambda _: sa.delete(table).where(table.c.rollout_id == bind("rollout")))


ERASE_EVIDENCE = _erasing(tables.finding_evidence)
ERASE_REST = (
    ERASE_EVIDENCE,
    _erasing(tables.spend_rollout),
    _erasing(tables.model_call),
    _erasing(a),
    _erasing(t),
)


def erase_some(tx: Tx, rollout_id: str, *, project: str, limit: int = 500) -> bool:
    """Delete up to `limit` spans of a rollout with all that hangs on them; True when the rollout is gone, or never was.

    The last call takes the rollout itself. Between two calls it belongs to the project "".
    """
    held = tx.hot(HOLD, rollout=rollout_id, asked=project, deleted=DELETED)
    if not held:
        return True
    if held[0][0] != DELETED:
        _hide(tx, rollout_id, project=project)
    if pack.erase(tx, rollout_id, limit=1) or _erase_spans(tx, rollout_id, limit):
        return False
    if _erase_scores(tx, rollout_id, limit):
        return False
    for statement in ERASE_REST:
        tx.hot(statement, rollout=rollout_id)
    return True


def hide(tx: Tx, rollout_id: str, *, project: str) -> bool:
    """Begin to delete a rollout and leave the rest to `erase`; whether it is there."""
    held = tx.hot(HOLD, rollout=rollout_id, asked=project, deleted=DELETED)
    if held and held[0][0] != DELETED:
        _hide(tx, rollout_id, project=project)
    return bool(held)


def _hide(tx: Tx, rollout_id: str, *, project: str) -> None:
    tx.hot(FREE_WORKERS, rollout=rollout_id, asked=project)
    tx.hot(ERASE_EVIDENCE, rollout=rollout_id)
    tx.hot(HIDE, rollout=rollout_id)


def _erase_spans(tx: Tx, rollout_id: str, limit: int) -> bool:
    """Delete some spans with their payloads, search hits and share of the sums; whether there may be more."""
    rows = tx.hot(SOME_SPANS, rollout=rollout_id, most=limit)
    some = _up_to(rows, STEP_BYTES)
    if some:
        ids = [row[0] for row in some]
        indexing.forget(tx, ids)
        _delete(tx, p.c.id, ids)
        _delete(tx, s.c.id, ids)
        rollups.remove(tx, some[0][2], [row[3:] for row in some])
    return len(rows) == limit or len(some) < len(rows)


def _up_to(rows: Sequence[Any], most: int) -> list[Any]:
    """The first rows (id, bytes, …) that hold up to `most` bytes together; one at least, if there is one."""
    found: list[Any] = []
    for row in rows:
        most -= row[1]
        if found and most < 0:
            break
        found.append(row)
    return found


def _delete(tx: Tx, column: sa.Column[int], ids: list[int]) -> None:
    # Numbers of our own, written into the text: both drivers are slow with hundreds of parameters.
    tx.driver(f"DELETE FROM {column.table} WHERE {column.name} IN ({','.join(map(str, ids))})")


def _erase_scores(tx: Tx, rollout_id: str, limit: int) -> bool:
    return tx.hot_count(ERASE_SCORES, rollout=rollout_id, most=limit) == limit


# ── In slices ────────────────────────────────────────────────────────────────────────────────────────────────────


class Slice(NamedTuple):
    """What one change did: how many of its rollouts are dealt with, which of them it deleted, and how long it took."""

    done: int
    gone: list[str]
    took_s: float


def erase(
    writer: Writer,
    rollout_ids: Sequence[str],
    *,
    project: str,
    may_go: MayGo | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Delete rollouts in slices, each a change of its own; those that are gone.

    may_go: asked again in the change that would delete a rollout; False leaves it. enough: asked between slices; True ends
    the work there, and a rollout that was begun is finished by whoever erases what is `unfinished`. For a background thread.
    """
    left, gone = list(rollout_ids), list[str]()
    while left and not enough():
        some = left[:200]
        did = writer.run(lambda tx, some=some: _slice(tx, some, project=project, may_go=may_go))
        gone += did.gone
        del left[: did.done]
        if left and writer.pending:
            time.sleep(did.took_s)  # others get as much of the writer as deletion takes
    return gone


def _slice(tx: Tx, rollout_ids: Sequence[str], *, project: str, may_go: MayGo | None) -> Slice:
    began = time.perf_counter()
    done, gone = 0, list[str]()
    for rollout_id in rollout_ids:
        if may_go is None or may_go(tx, rollout_id):
            if not _erase_until(tx, rollout_id, project=project, until=began + SLICE_S):
                break
            gone.append(rollout_id)
        done += 1
        if time.perf_counter() - began > SLICE_S:
            break
    return Slice(done, gone, time.perf_counter() - began)


def _erase_until(tx: Tx, rollout_id: str, *, project: str, until: float) -> bool:
    while not erase_some(tx, rollout_id, project=project, limit=STEP_SPANS):
        if time.perf_counter() > until:
            return False
    return True


def unfinished(tx: Tx, *, limit: int = 1000) -> list[str]:
    """Rollouts that somebody began to delete: still at work, or stopped on the way."""
    return [row[0] for row in tx.all(sa.select(t.c.rollout_id).where(t.c.project == DELETED).limit(limit))]


def delete(writer: Writer, rollout_id: str, *, project: str) -> None:
    """Delete one rollout, whatever its status, and come back when all of it is gone. Raises NotFound."""
    if not writer.run(lambda tx: _begin(tx, rollout_id, project=project)):
        erase(writer, [rollout_id], project=project)


def _begin(tx: Tx, rollout_id: str, *, project: str) -> bool:
    """The first slice; whether it was all. Raises NotFound."""
    known = sa.select(t.c.seq).where(t.c.rollout_id == rollout_id, t.c.project == project)
    if tx.first(known) is None:
        raise NotFound(f"Rollout {rollout_id} not found", hint="`leyden rollouts` lists the newest")
    return _erase_until(tx, rollout_id, project=project, until=time.perf_counter() + SLICE_S)
