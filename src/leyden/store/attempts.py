"""What happens to an attempt, and through it to its rollout and worker: updates by a runner, verdicts of the watchdog.

`judge` is the whole decision of the watchdog as a pure function; `scan` acts on it.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import InvalidTransition, NotFound
from leyden.store import rollouts, tables, workers
from leyden.store.engine import Tx
from leyden.store.rollouts import AttemptRow, RolloutRow
from leyden.store.sql import Statement
from leyden.types import (
    ACTIVE_ATTEMPT,
    ACTIVE_ROLLOUT,
    ATTEMPT_TRANSITIONS,
    FINAL_ROLLOUT,
    QUEUED_ROLLOUT,
    ROLLOUT_TRANSITIONS,
    AttemptStatus,
    RolloutConfig,
    RolloutStatus,
    rollout_status_after,
)

t = tables.rollout
a = tables.attempt
bind = sa.bindparam
DEFAULT_CONFIG = RolloutConfig()

END_ATTEMPT = Statement(
    lambda _: sa.update(a)
    .where(a.c.rollout_id == bind("rollout"), a.c.attempt_id == bind("attempt"))
    .values(status=bind("new_status"), end_time=bind("ended"), failure_reason=bind("reason"), worker_id=bind("worker"),
            last_heartbeat_time=bind("heartbeat"), metadata=bind("meta"), lease_until=bind("lease"))
)  # fmt: skip
MOVE_ROLLOUT = Statement(
    lambda _: sa.update(t)
    .where(t.c.rollout_id == bind("rollout"))
    .values(status=bind("new_status"), end_time=bind("ended"), failure_reason=bind("reason"), deadline=bind("look"),
            queue_pos=sa.func.coalesce(bind("place", type_=sa.BigInteger), t.c.queue_pos))
)  # fmt: skip


def update(
    tx: Tx,
    *,
    project: str,
    rollout_id: str,
    attempt_id: str,
    changes: dict[str, Any],
    now: float,
    lease_s: float,
) -> AttemptRow:
    """Set any of status, worker_id, last_heartbeat_time, metadata (JSON text), failure_reason; `attempt_id` may be "latest".

    A status that ends the latest attempt moves its rollout, unless that has ended already. Any update renews the lease.
    Raises NotFound (with the texts that published clients match) and InvalidTransition when an ended attempt would come back to life.
    """
    row = rollouts.hold(tx, rollout_id, project=project)
    if attempt_id == "latest" and row.attempt_id is None:
        raise NotFound(f"No attempts found for rollout {rollout_id}")
    old = rollouts.find_attempt(tx, rollout_id, row.attempt_id if attempt_id == "latest" else attempt_id)
    if old is None:
        raise NotFound(f"Attempt {attempt_id} not found for rollout {rollout_id}")
    status = AttemptStatus(changes.get("status", old.status))
    _check(old, status)
    new = old._replace(**changes, **_ending(old, status, now=now))
    _write(
        tx,
        new,
        lease_until=now + lease_s if old.lease_until is not None and status in ACTIVE_ATTEMPT else None,
    )
    if "status" in changes and row.attempt_id == old.attempt_id:
        _move(tx, row, new, project=project, now=now)
    elif "last_heartbeat_time" in changes and row.status in ACTIVE_ROLLOUT:
        tx.run(sa.update(t).where(t.c.rollout_id == rollout_id).values(deadline=now))
    if new.worker_id is not None and ("status" in changes or "worker_id" in changes):
        workers.sync(
            tx,
            project=project,
            worker_id=new.worker_id,
            status=status,
            rollout_id=rollout_id,
            attempt_id=new.attempt_id,
            now=now,
        )
    return new


def _check(old: AttemptRow, status: AttemptStatus) -> None:
    was = AttemptStatus(old.status)
    if status != was and status not in ATTEMPT_TRANSITIONS[was]:
        raise InvalidTransition(
            f"Attempt '{old.attempt_id}' of rollout '{old.rollout_id}' is already '{was}' and cannot become '{status}'",
            hint="start a new attempt to run it again",
        )


def _ending(old: AttemptRow, status: AttemptStatus, *, now: float) -> dict[str, Any]:
    if status in (AttemptStatus.SUCCEEDED, AttemptStatus.FAILED) and status != old.status:
        return {"end_time": now}
    return {}


def _write(tx: Tx, new: AttemptRow, *, lease_until: float | None) -> None:
    tx.hot(
        END_ATTEMPT, rollout=new.rollout_id, attempt=new.attempt_id, new_status=str(new.status), ended=new.end_time,
        reason=new.failure_reason, worker=new.worker_id, heartbeat=new.last_heartbeat_time, meta=new.metadata, lease=lease_until,
    )  # fmt: skip


def _move(
    tx: Tx, row: RolloutRow, attempt: AttemptRow, *, project: str, now: float, to: RolloutStatus | None = None
) -> None:
    """Let the rollout follow its latest attempt, as the transition table allows."""
    was = RolloutStatus(row.status)
    new = to or _after(row, attempt)
    if new not in ROLLOUT_TRANSITIONS[was]:
        return
    ended = new in FINAL_ROLLOUT
    tx.hot(
        MOVE_ROLLOUT, rollout=row.rollout_id, new_status=str(new), ended=now if ended else None,
        reason=attempt.failure_reason if new == RolloutStatus.FAILED else None,
        look=now if new in ACTIVE_ROLLOUT else None, place=rollouts.queue_position(now) if new in QUEUED_ROLLOUT else None,
    )  # fmt: skip
    rollouts.announce(tx, project=project, rollout_id=row.rollout_id, status=new)


def _after(row: RolloutRow, attempt: AttemptRow) -> RolloutStatus:
    config = (
        RolloutConfig.model_validate_json(row.config) if attempt.status != "succeeded" else DEFAULT_CONFIG
    )
    return rollout_status_after(
        AttemptStatus(attempt.status),
        sequence_id=attempt.sequence_id,
        max_attempts=config.max_attempts,
        retry_condition=config.retry_condition,
    )


# ── The watchdog ─────────────────────────────────────────────────────────────────────────────────────────────────


class Verdict(NamedTuple):
    """What the watchdog found: nothing (`look_again` is when to look next, None for never), or the end of an attempt.

    `requeue`: nobody ever showed life, so the work goes back to the queue whatever its retry rules say.
    `ended`: a trace that named no rollout is over.
    """

    look_again: float | None = None
    status: AttemptStatus | None = None
    reason: str | None = None
    requeue: bool = False
    ended: bool = False


class Watched(NamedTuple):
    """What `judge` looks at. `lease_until` None: not claimed from the queue. `worker_seen`: the worker's last heartbeat."""

    rollout_status: str
    attempt_status: str
    start_time: float
    last_heartbeat_time: float | None
    lease_until: float | None
    worker_seen: float | None
    timeout_seconds: float | None
    unresponsive_seconds: float | None
    source: str | None


def judge(watched: Watched, *, now: float, lease_s: float, quiet_s: float, up_since: float = 0.0) -> Verdict:
    """Decide on the latest attempt of an active rollout; every comparison is strict, as Agent Lightning's is.

    Order: time-out, silence, quiet trace, lease. The lease ends an attempt that never showed life, or one whose worker used
    to send heartbeats and stopped; a running attempt of a client that sends none is left alone.
    up_since: silence and leases are counted from then at the earliest: nobody can show life to a server that is down.
    """
    if watched.rollout_status not in ACTIVE_ROLLOUT or watched.attempt_status not in ACTIVE_ATTEMPT:
        return Verdict()
    alive = watched.last_heartbeat_time if watched.last_heartbeat_time is not None else watched.start_time
    bounds: list[float] = []
    if watched.timeout_seconds is not None:
        if now - watched.start_time > watched.timeout_seconds:
            return Verdict(
                status=AttemptStatus.TIMEOUT,
                reason=f"ran longer than timeout_seconds={watched.timeout_seconds:g}",
            )
        bounds.append(watched.start_time + watched.timeout_seconds)
    if watched.unresponsive_seconds is not None:
        heard = max(alive, up_since)
        if now - heard > watched.unresponsive_seconds:
            return Verdict(
                status=AttemptStatus.UNRESPONSIVE,
                reason=f"silent for longer than unresponsive_seconds={watched.unresponsive_seconds:g}",
            )
        bounds.append(heard + watched.unresponsive_seconds)
    if watched.source is not None:
        if now - alive > quiet_s:
            return Verdict(status=AttemptStatus.SUCCEEDED, ended=True)
        bounds.append(alive + quiet_s)
    elif watched.lease_until is not None:
        silent = watched.attempt_status == AttemptStatus.PREPARING and watched.last_heartbeat_time is None
        lost_worker = watched.worker_seen is not None and watched.worker_seen >= watched.start_time
        lapses = max(watched.lease_until, max(alive, up_since) + lease_s)
        if not silent and watched.worker_seen is not None:
            # A worker with several attempts renews the lease of its current one only, and yet it is there for all.
            lapses = max(lapses, watched.worker_seen + lease_s)
        if now > lapses and (silent or lost_worker):
            reason = (
                f"no span, update or heartbeat for {lease_s:g} s after the claim"
                if silent
                else f"its worker sent no heartbeat for {lease_s:g} s"
            )
            return Verdict(status=AttemptStatus.UNRESPONSIVE, reason=reason, requeue=silent)
        # A client without heartbeats may start to send them, so its lease is looked at again.
        bounds.append(lapses if lapses >= now else now + lease_s)
    return Verdict(look_again=min(bounds, default=None))


# Locked first and looked at then: a row read before the lock may be what another replica's watchdog has just dealt with.
DUE = (
    sa.select(t.c.rollout_id)
    .where(t.c.deadline <= bind("now"))
    .order_by(t.c.deadline)
    .limit(bind("limit"))
    .with_for_update(skip_locked=True)
)
WATCHED = (
    sa.select(
        t.c.project, t.c.rollout_id, t.c.attempt_id, t.c.status, a.c.status, a.c.start_time, a.c.last_heartbeat_time, a.c.lease_until,
        tables.worker.c.last_heartbeat_time, t.c.timeout_seconds, t.c.unresponsive_seconds, t.c.source,
    )
    .select_from(
        t.outerjoin(a, sa.and_(a.c.rollout_id == t.c.rollout_id, a.c.attempt_id == t.c.attempt_id)).outerjoin(
            tables.worker, sa.and_(tables.worker.c.project == t.c.project, tables.worker.c.worker_id == a.c.worker_id)
        )
    )
    .order_by(t.c.deadline)
    .set_label_style(sa.LABEL_STYLE_DISAMBIGUATE_ONLY)
)  # fmt: skip


def is_due(tx: Tx, *, now: float) -> bool:
    """Whether `scan` would look at anything: a read, so that an idle server does not write every second."""
    return tx.first(sa.select(sa.literal(1)).where(t.c.deadline <= now).limit(1)) is not None


def clock_went_back(tx: Tx, *, now: float, lease_s: float) -> None:
    """Bring what is known of active attempts and lies in the future now back to now, so that nobody seems alive for as long."""
    active = a.c.status.in_(sorted(ACTIVE_ATTEMPT))
    tx.run(sa.update(a).where(active, a.c.start_time > now).values(start_time=now))
    tx.run(sa.update(a).where(active, a.c.last_heartbeat_time > now).values(last_heartbeat_time=now))
    tx.run(sa.update(a).where(active, a.c.lease_until > now + lease_s).values(lease_until=now + lease_s))
    w = tables.worker
    tx.run(sa.update(w).where(w.c.last_heartbeat_time > now).values(last_heartbeat_time=now))
    tx.run(sa.update(t).where(t.c.deadline > now).values(deadline=now))


def scan(
    tx: Tx, *, now: float, lease_s: float, quiet_s: float, up_since: float = 0.0, limit: int = 500
) -> int:
    """Look at up to `limit` rollouts whose deadline has passed; how many were looked at."""
    ids: list[str] = [row[0] for row in tx.all(DUE, {"now": now, "limit": limit})]
    due = tx.all(WATCHED.where(t.c.rollout_id.in_(ids)))
    for project, rollout_id, attempt_id, *facts in due:
        verdict = judge(Watched(*facts), now=now, lease_s=lease_s, quiet_s=quiet_s, up_since=up_since)
        if verdict.status is None:
            tx.run(sa.update(t).where(t.c.rollout_id == rollout_id).values(deadline=verdict.look_again))
        else:
            _carry_out(tx, verdict, project=project, rollout_id=rollout_id, attempt_id=attempt_id, now=now)
    return len(due)


def _carry_out(
    tx: Tx, verdict: Verdict, *, project: str, rollout_id: str, attempt_id: str, now: float
) -> None:
    row = rollouts.get(tx, rollout_id, project=project)
    old = rollouts.find_attempt(tx, rollout_id, attempt_id)
    if old is None or verdict.status is None:
        return
    status, reason = verdict.status, verdict.reason
    if verdict.ended and _has_failed_top_span(tx, rollout_id):
        status, reason = AttemptStatus.FAILED, "a top-level span ended in an error"
    new = old._replace(status=str(status), failure_reason=reason, **_ending(old, status, now=now))
    _write(tx, new, lease_until=None)
    _move(tx, row, new, project=project, now=now, to=RolloutStatus.REQUEUING if verdict.requeue else None)
    if old.worker_id is not None:
        workers.sync(
            tx,
            project=project,
            worker_id=old.worker_id,
            status=status,
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            now=now,
        )


def _has_failed_top_span(tx: Tx, rollout_id: str) -> bool:
    s, parent = tables.span, tables.span.alias()
    has_parent = sa.exists().where(parent.c.rollout_id == rollout_id, parent.c.span_id == s.c.parent_id)
    return (
        tx.first(
            sa.select(sa.literal(1))
            .where(s.c.rollout_id == rollout_id, s.c.status == "error", ~has_parent)
            .limit(1)
        )
        is not None
    )
