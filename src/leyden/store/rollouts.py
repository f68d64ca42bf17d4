"""Rollouts and their attempts: made, changed, found. What the queue does with them is in `queue.py`, how they end for good in
`deletion.py`.

Functions take a transaction first; those that change something run in the writer thread. Times are unix seconds.
"""

from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from leyden.errors import NotFound
from leyden.store import resources, tables, workers
from leyden.store.engine import Tx
from leyden.store.query import Logic, Paging, joined, paged
from leyden.store.sql import Contains, Statement
from leyden.types import (
    FINAL_ROLLOUT,
    QUEUED_ROLLOUT,
    AttemptStatus,
    RolloutConfig,
    RolloutStatus,
    StoreEvent,
)  # fmt: skip

t, a, bind = tables.rollout, tables.attempt, sa.bindparam


class RolloutRow(NamedTuple):
    """A rollout as stored: `input`, `config` and `metadata` are JSON text."""

    rollout_id: str
    input: str
    start_time: float
    end_time: float | None
    mode: str | None
    resources_id: str | None
    status: str
    config: str
    metadata: str | None
    failure_reason: str | None
    attempt_id: str | None
    attempts: int
    source: str | None
    agent: str | None


class AttemptRow(NamedTuple):
    """An attempt as stored: `metadata` is JSON text."""

    rollout_id: str
    attempt_id: str
    sequence_id: int
    start_time: float
    end_time: float | None
    status: str
    worker_id: str | None
    last_heartbeat_time: float | None
    metadata: str | None
    failure_reason: str | None
    lease_until: float | None


class Attempted(NamedTuple):
    """A rollout with its latest attempt, None before the first."""

    rollout: RolloutRow
    attempt: AttemptRow | None


class NewRollout(NamedTuple):
    """What a caller says of a new rollout. `resources_id` None takes the latest resources."""

    input: str
    mode: str | None = None
    resources_id: str | None = None
    config: RolloutConfig | None = None
    metadata: str = "{}"
    idempotency_key: str | None = None


ROLLOUT_COLUMNS = [t.c[name] for name in RolloutRow._fields]
ATTEMPT_COLUMNS = [a.c[name] for name in AttemptRow._fields]
MISSING = "Rollout {} not found"
DEFAULT_CONFIG = orjson.dumps(RolloutConfig().model_dump(mode="json")).decode()

ADD = Statement(
    lambda insert: insert(t).values(
        {c: bind(c) for c in ("rollout_id", "project", "status", "mode", "input", "config", "metadata", "resources_id", "start_time",
                              "idempotency_key", "source", "queue_pos", "timeout_seconds", "unresponsive_seconds", "deadline",
                              "attempts", "attempt_id")}
    ).on_conflict_do_nothing()
)  # fmt: skip
ADD_ATTEMPT = Statement(
    lambda insert: insert(a).values(
        {c: bind(c) for c in ("rollout_id", "attempt_id", "sequence_id", "status", "start_time", "worker_id", "lease_until")}
    )
)  # fmt: skip


_last_position = 0


def queue_position(now: float) -> int:
    """A place at the tail of the queue: microseconds of the clock, never twice the same in a process, never going back."""
    global _last_position
    _last_position = max(_last_position + 1, int(now * 1e6))
    return _last_position


def start(
    tx: Tx,
    item: NewRollout,
    *,
    project: str,
    rollout_id: str,
    attempt_id: str,
    worker_id: str | None,
    now: float,
    seen: float | None = None,
) -> Attempted:
    """Make a rollout that is already being worked on: never queued, first attempt preparing, no lease.

    The same idempotency key, or the same rollout id, returns what exists. `now` is when it began; `seen` is when somebody
    said so, a sign of life: what waited on somebody's disk may have begun long ago.
    """
    known = find_key(tx, item.idempotency_key, project=project) or find(tx, rollout_id, project=project)
    if known is not None:
        return attempted(tx, known.rollout_id, project=project)
    allowed = (item.config.timeout_seconds, item.config.unresponsive_seconds) if item.config else ()
    limits = [seconds for seconds in allowed if seconds is not None]
    row = add(
        tx, item, rollout_id, project=project, status="preparing", now=now, attempt_id=attempt_id,
        resources_id=item.resources_id or resources.latest_id(tx, project=project),
        deadline=(now if seen is None else seen) + min(limits) if limits else None,
    )  # fmt: skip
    if row is None:
        return attempted(
            tx, made_meanwhile(tx, item, rollout_id, project=project).rollout_id, project=project
        )
    first = add_attempt(tx, row, attempt_id=attempt_id, sequence_id=1, worker_id=worker_id, now=now)
    if seen is not None:
        tx.run(sa.update(a).where(a.c.rollout_id == rollout_id).values(last_heartbeat_time=seen))
        first = first._replace(last_heartbeat_time=seen)
    if worker_id is not None:
        workers.busy(
            tx, project=project, worker_id=worker_id, rollout_id=rollout_id, attempt_id=attempt_id, now=now
        )
    return Attempted(row, first)


def add(
    tx: Tx, item: NewRollout, rollout_id: str, *, project: str, status: str, resources_id: str | None, now: float,
    attempt_id: str | None = None, deadline: float | None = None, source: str | None = None,
) -> RolloutRow | None:  # fmt: skip
    """Add a rollout in any status; with `attempt_id` it has had its first attempt. The caller adds that.

    None when its id or idempotency key is taken: by another project, or by another replica a moment ago.
    """
    config = item.config
    config_text = DEFAULT_CONFIG if config is None else orjson.dumps(config.model_dump(mode="json")).decode()
    added = tx.hot_count(
        ADD, rollout_id=rollout_id, project=project, status=status, mode=item.mode, input=item.input, config=config_text,
        metadata=item.metadata, resources_id=resources_id, start_time=now, idempotency_key=item.idempotency_key, source=source,
        queue_pos=queue_position(now) if status in QUEUED_ROLLOUT else None,
        timeout_seconds=config.timeout_seconds if config else None,
        unresponsive_seconds=config.unresponsive_seconds if config else None, deadline=deadline,
        attempts=0 if attempt_id is None else 1, attempt_id=attempt_id,
    )  # fmt: skip
    if not added:
        return None
    announce(tx, project=project, rollout_id=rollout_id, status=status)
    return RolloutRow(
        rollout_id, item.input, now, None, item.mode, resources_id, status, config_text, item.metadata, None, attempt_id,
        0 if attempt_id is None else 1, source, None,
    )  # fmt: skip


def made_meanwhile(tx: Tx, item: NewRollout, rollout_id: str, *, project: str) -> RolloutRow:
    """The rollout that stood in the way of `add`. Raises NotFound when it is another project's."""
    return find_key(tx, item.idempotency_key, project=project) or get(tx, rollout_id, project=project)


def add_attempt(
    tx: Tx,
    rollout: RolloutRow,
    *,
    attempt_id: str,
    sequence_id: int,
    worker_id: str | None,
    now: float,
    lease_until: float | None = None,
) -> AttemptRow:
    """Add an attempt that is preparing. The caller has set the rollout's latest attempt."""
    tx.hot(
        ADD_ATTEMPT, rollout_id=rollout.rollout_id, attempt_id=attempt_id, sequence_id=sequence_id, status="preparing",
        start_time=now, worker_id=worker_id, lease_until=lease_until,
    )  # fmt: skip
    return AttemptRow(
        rollout.rollout_id, attempt_id, sequence_id, now, None, "preparing", worker_id, None, None, None, lease_until
    )  # fmt: skip


def start_attempt(
    tx: Tx, *, project: str, rollout_id: str, attempt_id: str, worker_id: str | None, now: float
) -> Attempted:
    """Begin another attempt of a rollout, from any status; ignores max_attempts. Raises NotFound."""
    row = hold(tx, rollout_id, project=project)
    tx.run(
        sa.update(t).where(t.c.rollout_id == rollout_id),
        {
            "status": "preparing",
            "attempts": row.attempts + 1,
            "attempt_id": attempt_id,
            "end_time": None,
            "failure_reason": None,
            "deadline": now,
        },
    )
    announce(tx, project=project, rollout_id=rollout_id, status="preparing")
    row = get(tx, rollout_id, project=project)
    made = add_attempt(tx, row, attempt_id=attempt_id, sequence_id=row.attempts, worker_id=worker_id, now=now)
    if worker_id is not None:
        workers.busy(
            tx, project=project, worker_id=worker_id, rollout_id=rollout_id, attempt_id=attempt_id, now=now
        )
    return Attempted(row, made)


def update(tx: Tx, *, project: str, rollout_id: str, changes: dict[str, Any], now: float) -> RolloutRow:
    """Set any of input, mode, resources_id, status, config, metadata, failure_reason (JSON columns as text; config as RolloutConfig).

    A status may be set to anything: a final one gets an end_time, queuing or requeuing goes to the tail of the queue,
    cancelled ends the running attempt and frees its worker. Raises NotFound.
    """
    row = hold(tx, rollout_id, project=project, missing="Item does not exist with primary key(s): {}")
    values = dict(changes)
    config: RolloutConfig | None = values.get("config")
    if config is not None:
        values["config"] = orjson.dumps(config.model_dump(mode="json")).decode()
        values |= {
            "timeout_seconds": config.timeout_seconds,
            "unresponsive_seconds": config.unresponsive_seconds,
        }
        values["deadline"] = now  # the watchdog works out the new one
    if "status" in values and values["status"] != row.status:
        values |= _entering(RolloutStatus(values["status"]), was=RolloutStatus(row.status), now=now)
    if values:
        tx.run(sa.update(t).where(t.c.rollout_id == rollout_id), values)
    if values.get("status") == "cancelled" and row.attempt_id is not None:
        _cancel_attempt(tx, row, project=project, now=now)
    if "status" in values:
        announce(tx, project=project, rollout_id=rollout_id, status=values["status"])
    return get(tx, rollout_id, project=project)


def _entering(status: RolloutStatus, *, was: RolloutStatus, now: float) -> dict[str, Any]:
    if status in FINAL_ROLLOUT:
        return {"end_time": now, "deadline": None}
    if status in QUEUED_ROLLOUT:
        keep_place = was in QUEUED_ROLLOUT
        return {
            "end_time": None,
            "deadline": None,
            **({} if keep_place else {"queue_pos": queue_position(now)}),
        }
    return {"end_time": None, "deadline": now}


def _cancel_attempt(tx: Tx, row: RolloutRow, *, project: str, now: float) -> None:
    touched = tx.first(
        sa.update(a)
        .where(
            a.c.rollout_id == row.rollout_id,
            a.c.attempt_id == row.attempt_id,
            a.c.status.in_(["preparing", "running", "unresponsive"]),
        )
        .values(status="failed", end_time=now, failure_reason="cancelled", lease_until=None)
        .returning(a.c.worker_id)
    )
    if touched is not None and touched.worker_id is not None:
        workers.sync(
            tx,
            project=project,
            worker_id=touched.worker_id,
            status=AttemptStatus.FAILED,
            rollout_id=row.rollout_id,
            attempt_id=row.attempt_id or "",
            now=now,
        )


def announce(tx: Tx, *, project: str, rollout_id: str, status: str) -> None:
    """Note what waiters want to know: a rollout ended, or there is work on the queue; and its status for those who watch."""
    tx.notices.add(StoreEvent("rollouts", rollout_id, status, project))
    if status in FINAL_ROLLOUT:
        tx.notices.add(f"rollout:{rollout_id}")
    elif status in QUEUED_ROLLOUT:
        tx.notices.add(f"queue:{project}")


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

FIND = Statement(
    lambda _: sa.select(*ROLLOUT_COLUMNS).where(
        t.c.rollout_id == bind("rollout_id"), t.c.project == bind("project")
    )
)
HOLD = Statement(
    lambda _: (
        sa.select(*ROLLOUT_COLUMNS)
        .where(t.c.rollout_id == bind("rollout_id"), t.c.project == bind("project"))
        .with_for_update()
    )
)
FIND_ATTEMPT = Statement(
    lambda _: sa.select(*ATTEMPT_COLUMNS).where(
        a.c.rollout_id == bind("rollout_id"), a.c.attempt_id == bind("attempt_id")
    )
)
FIND_KEY = Statement(
    lambda _: sa.select(*ROLLOUT_COLUMNS).where(
        t.c.project == bind("project"), t.c.idempotency_key == bind("key")
    )
)


def find(tx: Tx, rollout_id: str, *, project: str) -> RolloutRow | None:
    """The rollout, or None."""
    rows = tx.hot(FIND, rollout_id=rollout_id, project=project)
    return RolloutRow(*rows[0]) if rows else None


def get(tx: Tx, rollout_id: str, *, project: str, missing: str = MISSING) -> RolloutRow:
    """The rollout. Raises NotFound with the text `missing`."""
    return _there(tx.hot(FIND, rollout_id=rollout_id, project=project), missing.format(rollout_id))


def hold(tx: Tx, rollout_id: str, *, project: str, missing: str = MISSING) -> RolloutRow:
    """The rollout, to decide on what it is: no other replica changes it, or its attempts, until the commit. Raises as `get`."""
    return _there(tx.hot(HOLD, rollout_id=rollout_id, project=project), missing.format(rollout_id))


def _there(rows: list[Any], missing: str) -> RolloutRow:
    if not rows:
        raise NotFound(missing, hint="`leyden rollouts` lists the newest")
    return RolloutRow(*rows[0])


def find_key(tx: Tx, key: str | None, *, project: str) -> RolloutRow | None:
    """The rollout that an idempotency key made, or None."""
    rows = tx.hot(FIND_KEY, project=project, key=key) if key is not None else []
    return RolloutRow(*rows[0]) if rows else None


def find_attempt(tx: Tx, rollout_id: str, attempt_id: str | None) -> AttemptRow | None:
    """The attempt, or None."""
    rows = (
        tx.hot(FIND_ATTEMPT, rollout_id=rollout_id, attempt_id=attempt_id) if attempt_id is not None else []
    )
    return AttemptRow(*rows[0]) if rows else None


def attempted(tx: Tx, rollout_id: str, *, project: str) -> Attempted:
    """The rollout with its latest attempt. Raises NotFound."""
    row = get(tx, rollout_id, project=project)
    return Attempted(row, find_attempt(tx, rollout_id, row.attempt_id))


SORTABLE: dict[str, sa.ColumnElement[Any]] = {
    **{
        name: t.c[name]
        for name in (
            "rollout_id",
            "input",
            "start_time",
            "end_time",
            "mode",
            "resources_id",
            "status",
            "config",
            "metadata",
        )
    },
    "attempt_id": t.c.attempt_id,
    "worker_id": a.c.worker_id,
    "last_heartbeat_time": a.c.last_heartbeat_time,
    "duration": sa.func.coalesce(t.c.end_time, 0.0) - t.c.start_time,
}


class RolloutFilter(NamedTuple):
    """Which rollouts. None is no filter, an empty list matches nothing. `logic` joins the conditions."""

    status_in: list[str] | None = None
    rollout_id_in: list[str] | None = None
    rollout_id_contains: str | None = None
    mode_in: list[str] | None = None
    logic: Logic = "and"

    def condition(self) -> sa.ColumnElement[bool]:
        """The filter as SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.status_in is not None:
            found.append(t.c.status.in_(self.status_in))
        if self.rollout_id_in is not None:
            found.append(t.c.rollout_id.in_(self.rollout_id_in))
        if self.rollout_id_contains is not None:
            found.append(Contains(t.c.rollout_id, self.rollout_id_contains))
        if self.mode_in is not None:
            found.append(t.c.mode.in_(self.mode_in))
        return joined(found, self.logic)


def query(tx: Tx, which: RolloutFilter, paging: Paging, *, project: str) -> tuple[list[Attempted], int]:
    """A page of rollouts with their latest attempts, and how many match."""
    select = (
        sa.select(*ROLLOUT_COLUMNS, *ATTEMPT_COLUMNS)
        .select_from(
            t.outerjoin(a, sa.and_(a.c.rollout_id == t.c.rollout_id, a.c.attempt_id == t.c.attempt_id))
        )
        .where(t.c.project == project, which.condition())
    )
    # Both tables have columns of the same name; positions tell them apart.
    rows, total = paged(tx, _labelled(select), paging, SORTABLE, otherwise=[t.c.seq])
    width = len(ROLLOUT_COLUMNS)
    return [
        Attempted(RolloutRow(*row[:width]), AttemptRow(*row[width:]) if row[width] is not None else None)
        for row in rows
    ], total


def _labelled(select: sa.Select[Any]) -> sa.Select[Any]:
    return select.set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL)


ATTEMPT_SORTABLE: dict[str, sa.ColumnElement[Any]] = {
    name: a.c[name] for name in AttemptRow._fields if name not in ("failure_reason", "lease_until")
}


def query_attempts(tx: Tx, rollout_id: str, paging: Paging, *, project: str) -> tuple[list[AttemptRow], int]:
    """A page of a rollout's attempts; empty for an unknown rollout."""
    owned = sa.exists().where(t.c.rollout_id == a.c.rollout_id, t.c.project == project)
    rows, total = paged(
        tx,
        sa.select(*ATTEMPT_COLUMNS).where(a.c.rollout_id == rollout_id, owned),
        paging,
        ATTEMPT_SORTABLE,
        otherwise=[a.c.sequence_id],
    )
    return [AttemptRow(*row) for row in rows], total


def finished(tx: Tx, rollout_ids: list[str], *, project: str) -> list[RolloutRow]:
    """Those of the rollouts that ended, in the order asked."""
    rows: dict[str, RolloutRow] = {}
    for some in (rollout_ids[i : i + 500] for i in range(0, len(rollout_ids), 500)):
        found = tx.all(
            sa.select(*ROLLOUT_COLUMNS).where(
                t.c.project == project, t.c.rollout_id.in_(some), t.c.status.in_([*FINAL_ROLLOUT])
            )
        )
        rows |= {row.rollout_id: RolloutRow(*row) for row in found}
    return [rows[rollout_id] for rollout_id in dict.fromkeys(rollout_ids) if rollout_id in rows]


def count_known(tx: Tx, rollout_ids: list[str], *, project: str) -> int:
    """How many of the ids are rollouts."""
    chunks = (rollout_ids[i : i + 500] for i in range(0, len(rollout_ids), 500))
    return sum(
        tx.first(sa.select(sa.func.count()).where(t.c.project == project, t.c.rollout_id.in_(some)))[0]
        for some in chunks
    )


def counts(tx: Tx, *, project: str) -> dict[str, int]:
    """Rows of this project: rollouts, attempts, spans."""
    sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(t.c.attempts), 0))
    rollouts, attempts = tx.all(sums.where(t.c.project == project))[0]
    return {
        "rollouts": rollouts,
        "attempts": int(attempts),
        "spans": tx.first(sa.select(sa.func.count()).where(tables.span.c.project == project))[0],
    }
