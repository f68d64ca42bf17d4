"""Traces that name no rollout: each gets one of its own, which begins with its first span and ends with its root."""

from typing import Any

import orjson
import sqlalchemy as sa

from leyden.ingest.record import SpanRecord
from leyden.store import rollouts, tables
from leyden.store.engine import Tx
from leyden.store.rollouts import NewRollout
from leyden.store.sql import Statement

t = tables.rollout
a = tables.attempt
bind = sa.bindparam


def begin(
    tx: Tx,
    rollout_id: str,
    *,
    attempt_id: str,
    project: str,
    source: str,
    trace_id: str,
    now: float,
    quiet_s: float,
) -> None:
    """Give a trace that names no rollout one of its own, running from its first span on. Nothing happens when it exists."""
    if tx.hot(rollouts.FIND, rollout_id=rollout_id, project=project):
        return
    metadata = orjson.dumps({"source": source, "trace_id": trace_id}).decode()
    row = rollouts.add(
        tx, NewRollout("null", metadata=metadata), rollout_id, project=project, status="preparing", resources_id=None, now=now,
        attempt_id=attempt_id, deadline=now + quiet_s, source=source,
    )  # fmt: skip
    if row is not None:
        rollouts.add_attempt(tx, row, attempt_id=attempt_id, sequence_id=1, worker_id=None, now=now)


END = Statement(
    lambda _: sa.update(t)
    .where(t.c.rollout_id == bind("rollout"), t.c.status.in_([sa.literal_column("'preparing'"), sa.literal_column("'running'")]))
    .values(status=bind("new_status"), start_time=bind("started"), end_time=bind("ended"), deadline=sa.null(),
            failure_reason=bind("reason"), input=bind("asked"))
)  # fmt: skip
END_ATTEMPT = Statement(
    lambda _: (
        sa.update(a)
        .where(a.c.rollout_id == bind("rollout"), a.c.attempt_id == bind("attempt"))
        .values(
            status=bind("new_status"),
            start_time=bind("started"),
            end_time=bind("ended"),
            failure_reason=bind("reason"),
            lease_until=sa.null(),
        )
    )
)


def end(tx: Tx, root: SpanRecord, *, project: str, now: float) -> None:
    """End the rollout of a trace with its root span: its times, its status, its input. An ended rollout stays as it is."""
    started = root.start_ns / 1e9 if root.start_ns is not None else now
    ended = root.end_ns / 1e9 if root.end_ns is not None else now
    status, reason = (
        ("failed", root.error_message or "the root span ended in an error")
        if root.status == "error"
        else ("succeeded", None)
    )
    same: dict[str, Any] = {
        "rollout": root.rollout_id,
        "new_status": status,
        "started": started,
        "ended": ended,
        "reason": reason,
    }
    asked = orjson.dumps(root.input_preview).decode()
    if tx.hot_count(END, **same, asked=asked):
        tx.hot(END_ATTEMPT, **same, attempt=root.attempt_id)
        rollouts.announce(tx, project=project, rollout_id=root.rollout_id, status=status)
