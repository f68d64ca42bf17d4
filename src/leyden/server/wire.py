"""Rows to JSON, as the store protocol writes them. Stored JSON is spliced in, never decoded and encoded again."""

from collections.abc import Sequence
from typing import Any

import orjson

from leyden.store.resources import ResourcesRow
from leyden.store.rollouts import Attempted, AttemptRow, RolloutRow
from leyden.store.workers import WorkerRow

Json = dict[str, Any]


def spliced(text: str | None) -> orjson.Fragment | None:
    """Stored JSON text as it is."""
    return None if text is None else orjson.Fragment(text)


def rollout(row: RolloutRow) -> Json:
    """A plain rollout: without the key `attempt`."""
    return {
        "rollout_id": row.rollout_id, "input": spliced(row.input), "start_time": row.start_time, "end_time": row.end_time,
        "mode": row.mode, "resources_id": row.resources_id, "status": row.status, "config": spliced(row.config),
        "metadata": spliced(row.metadata), "failure_reason": row.failure_reason,
    }  # fmt: skip


def attempt(row: AttemptRow) -> Json:
    """An attempt."""
    return {
        "rollout_id": row.rollout_id, "attempt_id": row.attempt_id, "sequence_id": row.sequence_id, "start_time": row.start_time,
        "end_time": row.end_time, "status": row.status, "worker_id": row.worker_id, "last_heartbeat_time": row.last_heartbeat_time,
        "metadata": spliced(row.metadata), "failure_reason": row.failure_reason,
    }  # fmt: skip


def attempted(item: Attempted) -> Json:
    """A rollout with its latest attempt. Without one the key `attempt` is absent: published clients tell the two apart by it."""
    found = rollout(item.rollout)
    if item.attempt is not None:
        found["attempt"] = attempt(item.attempt)
    return found


def worker(row: WorkerRow) -> Json:
    """A worker."""
    return {**row._asdict(), "heartbeat_stats": spliced(row.heartbeat_stats)}


def resources(row: ResourcesRow) -> Json:
    """One version of a bundle of resources."""
    return {
        "resources_id": row.resources_id, "create_time": row.create_time, "update_time": row.update_time, "version": row.version,
        "resources": spliced(row.content),
    }  # fmt: skip


def page(items: Sequence[Any], *, limit: int, offset: int, total: int) -> Json:
    """A page as every list of the protocol has it."""
    return {"items": list(items), "limit": limit, "offset": offset, "total": total}
