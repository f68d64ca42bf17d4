"""Workers: runner processes as the store sees them. Made on first mention; their status follows their attempts."""

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.query import Logic, Paging, joined, paged
from leyden.store.sql import Contains, Statement
from leyden.types import AttemptStatus

if TYPE_CHECKING:
    from leyden.store.rollouts import AttemptRow

t = tables.worker
bind = sa.bindparam


class WorkerRow(NamedTuple):
    """A worker as stored: `heartbeat_stats` is JSON text."""

    worker_id: str
    status: str
    heartbeat_stats: str | None
    last_heartbeat_time: float | None
    last_dequeue_time: float | None
    last_busy_time: float | None
    last_idle_time: float | None
    current_rollout_id: str | None
    current_attempt_id: str | None


COLUMNS = [t.c[name] for name in WorkerRow._fields]
SORTABLE: dict[str, sa.ColumnElement[Any]] = {
    name: t.c[name] for name in WorkerRow._fields if name != "heartbeat_stats"
}


def _upsert(*names: str) -> Statement:
    def build(insert: Any) -> Any:
        made = insert(t).values({c: bind(c) for c in ("project", "worker_id", *names)})
        return made.on_conflict_do_update(
            index_elements=["project", "worker_id"], set_={c: made.excluded[c] for c in names}
        )

    return Statement(build)


_CURRENT = ("status", "current_rollout_id", "current_attempt_id")
BUSY = _upsert(*_CURRENT, "last_busy_time")
BUSY_DEQUEUED = _upsert(*_CURRENT, "last_busy_time", "last_dequeue_time")
FREE_DEQUEUED = _upsert(*_CURRENT, "last_idle_time", "last_dequeue_time")
STILL_IDLE = _upsert("status", "last_dequeue_time")


def _free(insert: Any) -> Any:
    made = insert(t).values({c: bind(c) for c in ("project", "worker_id", "status", "last_idle_time")})
    return made.on_conflict_do_update(
        index_elements=["project", "worker_id"],
        set_={
            "status": made.excluded.status,
            "last_idle_time": made.excluded.last_idle_time,
            "current_rollout_id": sa.null(),
            "current_attempt_id": sa.null(),
        },
        where=sa.or_(t.c.current_attempt_id.is_(None), t.c.current_attempt_id == bind("ended")),
    )


def _beat(insert: Any) -> Any:
    names = ("project", "worker_id", "status", "last_heartbeat_time", "heartbeat_stats")
    made = insert(t).values({c: bind(c) for c in names})
    return made.on_conflict_do_update(
        index_elements=["project", "worker_id"],
        set_={
            "last_heartbeat_time": made.excluded.last_heartbeat_time,
            "heartbeat_stats": sa.func.coalesce(made.excluded.heartbeat_stats, t.c.heartbeat_stats),
        },
    ).returning(*COLUMNS)


FREE = Statement(_free)
BEAT = Statement(_beat)
FIND = Statement(
    lambda _: sa.select(*COLUMNS).where(t.c.project == bind("project"), t.c.worker_id == bind("worker_id"))
)


def busy(tx: Tx, *, project: str, worker_id: str, rollout_id: str, attempt_id: str, now: float) -> None:
    """The worker works on this attempt."""
    tx.hot(
        BUSY,
        project=project,
        worker_id=worker_id,
        status="busy",
        current_rollout_id=rollout_id,
        current_attempt_id=attempt_id,
        last_busy_time=now,
    )


def dequeued(tx: Tx, *, project: str, worker_id: str, attempt: "AttemptRow | None", now: float) -> None:
    """The worker asked for work and got `attempt`, or nothing."""
    if attempt is not None:
        tx.hot(
            BUSY_DEQUEUED, project=project, worker_id=worker_id, status="busy", current_rollout_id=attempt.rollout_id,
            current_attempt_id=attempt.attempt_id, last_busy_time=now, last_dequeue_time=now,
        )  # fmt: skip
        return
    known = get(tx, worker_id, project=project)
    if known is not None and known.status == "idle":
        tx.hot(STILL_IDLE, project=project, worker_id=worker_id, status="idle", last_dequeue_time=now)
        return
    tx.hot(
        FREE_DEQUEUED, project=project, worker_id=worker_id, status="idle", current_rollout_id=None, current_attempt_id=None,
        last_idle_time=now, last_dequeue_time=now,
    )  # fmt: skip


def sync(
    tx: Tx,
    *,
    project: str,
    worker_id: str,
    status: AttemptStatus,
    rollout_id: str,
    attempt_id: str,
    now: float,
) -> None:
    """Follow an attempt of the worker that entered `status`: ended → idle, gone silent or timed out → unknown, else busy.

    The end of an attempt leaves a worker alone that works on another one by now: its heartbeats belong to that.
    """
    if status in (AttemptStatus.PREPARING, AttemptStatus.RUNNING):
        busy(tx, project=project, worker_id=worker_id, rollout_id=rollout_id, attempt_id=attempt_id, now=now)
        return
    ended = status in (AttemptStatus.SUCCEEDED, AttemptStatus.FAILED)
    tx.hot(
        FREE, project=project, worker_id=worker_id, status="idle" if ended else "unknown", last_idle_time=now, ended=attempt_id
    )  # fmt: skip


def heartbeat(
    tx: Tx, *, project: str, worker_id: str, stats: str | None, now: float, lease_s: float
) -> WorkerRow:
    """A sign of life: kept with its stats (None keeps the old ones), and the lease of its current attempt runs anew."""
    known = get(tx, worker_id, project=project)
    # Attempt before worker, the order in which every change locks them.
    if known is not None and known.current_attempt_id is not None:
        a = tables.attempt
        tx.run(
            sa.update(a)
            .where(
                a.c.rollout_id == known.current_rollout_id,
                a.c.attempt_id == known.current_attempt_id,
                a.c.lease_until.is_not(None),
            )
            .values(lease_until=now + lease_s)
        )
    rows = tx.hot(
        BEAT, project=project, worker_id=worker_id, status="unknown", last_heartbeat_time=now, heartbeat_stats=stats
    )  # fmt: skip
    return WorkerRow(*rows[0])


def get(tx: Tx, worker_id: str, *, project: str) -> WorkerRow | None:
    """The worker, or None."""
    rows = tx.hot(FIND, project=project, worker_id=worker_id)
    return WorkerRow(*rows[0]) if rows else None


def query(
    tx: Tx,
    *,
    project: str,
    status_in: list[str] | None,
    worker_id_contains: str | None,
    logic: Logic,
    paging: Paging,
) -> tuple[list[WorkerRow], int]:
    """A page of workers, and how many match."""
    found: list[sa.ColumnElement[bool]] = []
    if status_in is not None:
        found.append(t.c.status.in_(status_in))
    if worker_id_contains is not None:
        found.append(Contains(t.c.worker_id, worker_id_contains))
    rows, total = paged(
        tx,
        sa.select(*COLUMNS).where(t.c.project == project, joined(found, logic)),
        paging,
        SORTABLE,
        otherwise=[t.c.seq],
    )
    return [WorkerRow(*row) for row in rows], total


def count(tx: Tx, *, project: str) -> int:
    """How many workers were ever seen."""
    return tx.first(sa.select(sa.func.count()).select_from(t).where(t.c.project == project))[0]
