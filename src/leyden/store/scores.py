"""Scores: named numbers about rollouts, attempts and spans. Reward spans become scores as they are stored."""

from collections.abc import Sequence

import sqlalchemy as sa

from leyden.errors import NotFound
from leyden.ingest.record import SpanRecord
from leyden.store import rollouts, tables
from leyden.store.engine import Tx
from leyden.types import Score

t = tables.score
COLUMNS = [t.c[name] for name in ("rollout_id", "attempt_id", "span_id", "name", "value", "source", "time")]


def add_rewards(tx: Tx, spans: Sequence[SpanRecord], *, now: float) -> None:
    """Keep the rewards that new spans carry; their time is the span's end, or now."""
    rows = [
        {"rollout_id": r.rollout_id, "attempt_id": r.attempt_id, "span_id": r.span_id, "name": name, "value": value, "source": "reward",
         "is_primary": int(place == 0), "time": r.end_ns / 1e9 if r.end_ns is not None else now}
        for r in spans for place, (name, value) in enumerate(r.scores)
    ]  # fmt: skip
    tx.run(sa.insert(t), rows)


def add_final(tx: Tx, rollout_id: str, attempt_id: str, *, value: float, time: float) -> None:
    """Keep the final reward of a run that was recorded elsewhere."""
    row = {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "span_id": None,
        "name": "primary",
        "value": value,
        "source": "reward",
        "is_primary": 1,
        "time": time,
    }
    tx.run(sa.insert(t), row)


def add(tx: Tx, posted: Sequence[Score], *, project: str) -> None:
    """Keep posted scores. Raises NotFound when one is about a rollout nobody knows; then none is kept."""
    known = {
        row[0]
        for row in tx.all(
            sa.select(tables.rollout.c.rollout_id).where(
                tables.rollout.c.project == project,
                tables.rollout.c.rollout_id.in_({score.rollout_id for score in posted}),
            )
        )
    }
    for score in posted:
        if score.rollout_id not in known:
            raise NotFound(f"Rollout {score.rollout_id} not found")
    if posted:
        tx.run(sa.insert(t), [{**score.model_dump(), "is_primary": 0} for score in posted])


def of_rollout(tx: Tx, rollout_id: str, *, project: str) -> list[Score]:
    """All scores of a rollout, oldest first. Raises NotFound."""
    rollouts.get(tx, rollout_id, project=project)
    rows = tx.all(sa.select(*COLUMNS).where(t.c.rollout_id == rollout_id).order_by(t.c.time, t.c.id))
    return [Score(**row._mapping) for row in rows]


def rewards(tx: Tx, rollout_ids: Sequence[str]) -> dict[str, float]:
    """The final reward of each rollout that has one: the last primary reward, in order of storing."""
    last = (
        sa.select(sa.func.max(t.c.id))
        .where(t.c.rollout_id.in_(rollout_ids), t.c.is_primary == 1)
        .group_by(t.c.rollout_id)
    )
    return {row[0]: row[1] for row in tx.all(sa.select(t.c.rollout_id, t.c.value).where(t.c.id.in_(last)))}
