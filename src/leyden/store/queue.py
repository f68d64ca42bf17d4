"""The queue: an index on status. No second table, so nothing can fall out of step.

Claiming is one statement, which is why a crash between claim and answer loses nothing: the lease brings the work back.
"""

from typing import Any

import sqlalchemy as sa

from leyden.store import resources, rollouts, tables, workers
from leyden.store.engine import Tx
from leyden.store.rollouts import ROLLOUT_COLUMNS, Attempted, NewRollout, RolloutRow
from leyden.store.sql import RandomHex8, Statement

t = tables.rollout
bind = sa.bindparam


def _deadline(lease: str) -> sa.ColumnElement[Any]:
    """now + the shortest of lease, time-out and silence allowed: when the watchdog has to look for the first time."""
    longest: sa.ColumnElement[Any] = bind(lease)
    shortest: sa.ColumnElement[Any] = sa.case(
        (
            sa.and_(
                t.c.timeout_seconds < bind(lease),
                sa.or_(t.c.unresponsive_seconds.is_(None), t.c.timeout_seconds <= t.c.unresponsive_seconds),
            ),
            t.c.timeout_seconds,
        ),
        (t.c.unresponsive_seconds < bind(lease), t.c.unresponsive_seconds),
        else_=longest,
    )
    now: sa.ColumnElement[Any] = bind("now")
    return now + shortest


# A common table expression, because PostgreSQL may run a plain subquery once for each row and then claim without limit.
OLDEST = (
    sa.select(t.c.seq)
    .where(
        t.c.project == bind("project"),
        t.c.status.in_([sa.literal_column("'queuing'"), sa.literal_column("'requeuing'")]),
    )
    .order_by(t.c.queue_pos)
    .limit(bind("limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    .cte("oldest")
)
CLAIM = Statement(
    lambda _: (
        sa.update(t)
        .where(t.c.seq.in_(sa.select(OLDEST.c.seq)))
        .values(
            status=sa.literal_column("'preparing'"),
            attempts=t.c.attempts + sa.literal_column("1"),
            attempt_id=sa.literal_column("'at-'").concat(RandomHex8()),
            end_time=sa.null(),
            failure_reason=sa.null(),
            deadline=_deadline("lease"),
        )
        .returning(t.c.queue_pos, *ROLLOUT_COLUMNS)
    )
)


def enqueue(tx: Tx, items: list[NewRollout], *, project: str, ids: list[str], now: float) -> list[RolloutRow]:
    """Put rollouts at the tail of the queue, in order, under the given fresh ids.

    An item whose idempotency key was seen before returns the rollout it made then.
    """
    default_resources = (
        resources.latest_id(tx, project=project) if any(i.resources_id is None for i in items) else None
    )
    return [
        rollouts.find_key(tx, item.idempotency_key, project=project)
        or rollouts.add(
            tx,
            item,
            rollout_id,
            project=project,
            status="queuing",
            resources_id=item.resources_id or default_resources,
            now=now,
        )
        or rollouts.made_meanwhile(tx, item, rollout_id, project=project)
        for item, rollout_id in zip(items, ids, strict=True)
    ]


def claim(
    tx: Tx, *, project: str, worker_id: str | None, now: float, lease_s: float, limit: int = 1
) -> list[Attempted]:
    """Hand up to `limit` queued rollouts to a worker, oldest first; [] when none is queued.

    Each goes to exactly one worker, also under concurrent callers and replicas, and returns to the queue when its lease
    lapses without a sign of life. Raises StoreBusy when the database stays locked past its timeout.
    """
    rows = sorted(tx.hot(CLAIM, project=project, limit=limit, lease=lease_s, now=now)) if limit > 0 else []
    claimed: list[Attempted] = []
    for _, *fields in rows:
        row = RolloutRow(*fields)
        made = rollouts.add_attempt(
            tx,
            row,
            attempt_id=row.attempt_id or "",
            sequence_id=row.attempts,
            worker_id=worker_id,
            now=now,
            lease_until=now + lease_s,
        )
        rollouts.announce(tx, project=project, rollout_id=row.rollout_id, status=row.status)
        claimed.append(Attempted(row, made))
    if worker_id is not None:
        last = claimed[-1].attempt if claimed else None
        workers.dequeued(tx, project=project, worker_id=worker_id, attempt=last, now=now)
    return claimed
