"""Model calls that the gateway saw, by the ids of their answers, so that one which an SDK reports too is counted once.

Owns the table `model_call`. Promises: of two reports of one call the one that comes first is the model call; the other keeps its row, its
payload and its place in the tree, and has the kind "span", no tokens and no cost, so that no sum and no list of model calls has it
twice. Refuses to know: how spans are stored.

An SDK's span holds the id of the answer somewhere in its payload, each dialect in an attribute of its own, as text: it is
looked for as bytes. Nothing is looked for in rollouts that the gateway never saw.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.ingest.record import GATEWAY, SpanRecord
from leyden.store import payloads, tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement

c = tables.model_call
s = tables.span
bind = sa.bindparam

# An SDK reports within seconds: of a rollout's calls only the last are looked for, and of its spans only so many are looked into.
LATEST = 64
MOST_IDS = 2 * LATEST  # a call may be known by two
MOST_SPANS = 16
_SHORTEST_ID = 8  # a shorter one could stand anywhere

LATEST_IDS = Statement(
    lambda _: (
        sa.select(c.c.response_id)
        .where(c.c.rollout_id == bind("rollout"))
        .order_by(c.c.end_ns.desc())
        .limit(sa.literal_column(str(MOST_IDS)))
    )
)
_NEWEST = (
    sa.select(s.c.id, s.c.rollout_id, s.c.kind, s.c.start_ns, s.c.end_ns)
    .where(s.c.rollout_id == bind("rollout"), s.c.attempt_id == bind("attempt"))
    .order_by(s.c.sequence_id.desc())
    .limit(sa.literal_column(str(LATEST)))
    .subquery()
)
# Of the newest spans alone: a rollout may hold thousands, and all of them would be read for each of its calls.
REPORTED = Statement(
    lambda _: (
        sa.select(_NEWEST.c.id, _NEWEST.c.rollout_id)
        .where(
            _NEWEST.c.kind == "llm", _NEWEST.c.start_ns <= bind("began"), _NEWEST.c.end_ns >= bind("began")
        )
        .limit(sa.literal_column(str(MOST_SPANS)))
    )
)
REMEMBER = Statement(
    lambda insert: (
        insert(c)
        .values({name: bind(name) for name in ("rollout_id", "response_id", "end_ns")})
        .on_conflict_do_nothing()
    )
)


class Seen(NamedTuple):
    """One call that the gateway saw. response_ids: of its answer, in the body and in the headers. Times are unix nanoseconds."""

    rollout_id: str
    response_ids: tuple[str, ...]
    start_ns: int
    end_ns: int


def remember(tx: Tx, calls: Iterable[Seen]) -> None:
    """Know these calls again when an SDK reports them."""
    for call in calls:
        for id_ in call.response_ids:
            if len(id_) >= _SHORTEST_ID:
                tx.hot(REMEMBER, rollout_id=call.rollout_id, response_id=id_, end_ns=call.end_ns)


def latest(rollout_ids: Sequence[str]) -> sa.Select[*tuple[Any, ...]]:
    """The rows of the calls of each rollout among which a report is looked for, the oldest first."""
    newest_first = (c.c.end_ns.desc(), c.c.response_id.desc())
    place = sa.func.row_number().over(partition_by=c.c.rollout_id, order_by=newest_first).label("place")
    numbered = sa.select(c, place).where(c.c.rollout_id.in_(rollout_ids)).subquery()
    columns = [numbered.c[column.name] for column in c.columns]
    return (
        sa.select(*columns)
        .where(numbered.c.place <= MOST_IDS)
        .order_by(numbered.c.rollout_id, numbered.c.end_ns, numbered.c.response_id)
    )


def without_repeats(tx: Tx, rollout_id: str, records: Sequence[SpanRecord]) -> list[SpanRecord]:
    """Spans of one rollout, those that report a call which the gateway recorded as what they are then."""
    if not any(_may_repeat(record) for record in records):
        return list(records)
    ids = [row[0].encode() for row in tx.hot(LATEST_IDS, rollout=rollout_id)]
    return [
        repeated(record) if _may_repeat(record) and any(id_ in record.payload for id_ in ids) else record
        for record in records
    ]


def is_reported(tx: Tx, call: Seen, attempt_id: str) -> bool:
    """Whether a span of the attempt that an SDK sent already is this call.

    Such a span began before the gateway saw the call and ended after it began; it is looked for among the newest `LATEST`.
    """
    wanted = [id_.encode() for id_ in call.response_ids if len(id_) >= _SHORTEST_ID]
    if not wanted:
        return False
    rows = tx.hot(REPORTED, rollout=call.rollout_id, attempt=attempt_id, began=call.start_ns)
    held = payloads.by_id(tx, [(row[0], row[1]) for row in rows]) if rows else {}
    return any(id_ in payload for payload, _ in held.values() for id_ in wanted)


def repeated(record: SpanRecord) -> SpanRecord:
    """A span that reports what is a model call elsewhere already."""
    return record._replace(
        kind="span", input_tokens=None, output_tokens=None, cache_read_tokens=None, cache_write_tokens=None,
        reasoning_tokens=None, cost_usd=None, ttft_ms=None,
    )  # fmt: skip


def _may_repeat(record: SpanRecord) -> bool:
    return record.kind == "llm" and record.source != GATEWAY
