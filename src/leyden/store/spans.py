"""Spans: stored once, in order, narrow columns apart from their payload.

`insert` is the hot path: records go to the driver as tuples. A span is known by (rollout, attempt, span id); storing it
again changes nothing. A span of an unknown rollout is refused alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.ingest.record import GATEWAY, SpanRecord
from leyden.store import model_calls, payloads, rollouts, rollups, scores, span_pages, tables, traces
from leyden.store.engine import Tx
from leyden.store.query import Logic, Paging, check_paging, joined, paged
from leyden.store.sql import Contains, Statement
from leyden.types import SpanSummary, StoreEvent

s = tables.span
p = tables.span_payload
t = tables.rollout
a = tables.attempt
bind = sa.bindparam
RUNNING: sa.ColumnElement[str] = sa.literal_column("'running'")

SUMMARY_COLUMNS = [s.c[name] for name in SpanSummary.__dataclass_fields__]


class Stored(NamedTuple):
    """What became of a batch, by position: the sequence ids, which spans were new, and why the refused were refused."""

    sequence_ids: list[int | None]
    is_new: list[bool]
    refused: dict[int, str]


class _Place(NamedTuple):
    project: str
    status: str
    span_seq: int
    agent: str | None
    source: str | None
    is_latest: bool
    unpacked: int
    has_calls: bool  # whether the gateway saw calls of it
    attempt_status: str | None


def _among(table: sa.Table, *statuses: str) -> sa.ColumnElement[bool]:
    return table.c.status.in_([sa.literal_column(f"'{status}'") for status in statuses])


_IS_LATEST = t.c.attempt_id == bind("attempt")
_HAS_CALLS = sa.exists().where(tables.model_call.c.rollout_id == t.c.rollout_id)
PLACE = Statement(
    lambda _: (
        sa.select(
            t.c.project,
            t.c.status,
            t.c.span_seq,
            t.c.agent,
            t.c.source,
            _IS_LATEST,
            t.c.unpacked,
            _HAS_CALLS,
            a.c.status,
        )
        .select_from(
            t.outerjoin(a, sa.and_(a.c.rollout_id == t.c.rollout_id, a.c.attempt_id == bind("attempt")))
        )
        .where(t.c.rollout_id == bind("rollout"))
        .with_for_update(of=t)
    )
)
# Decided by the row itself: one batch may hold spans of several attempts of a rollout, in any order.
_AGENT = sa.func.coalesce(t.c.agent, bind("who", type_=sa.Text))
_STARTED = sa.case((sa.and_(_IS_LATEST, _among(t, "preparing", "requeuing")), RUNNING), else_=t.c.status)
_WATCHED = sa.case(
    (sa.and_(_IS_LATEST, _among(t, "preparing", "requeuing", "running")), bind("look", type_=sa.Double)),
    else_=t.c.deadline,
)


def _touching(**columns: sa.ColumnElement[Any]) -> Statement:
    return Statement(
        lambda _: (
            sa.update(t)
            .where(t.c.rollout_id == bind("rollout"))
            .values(span_seq=bind("seq"), agent=_AGENT, **columns)
        )
    )


# Four, because setting a column writes its index again, also when the value stays.
_UNPACKED: sa.ColumnElement[int] = sa.literal_column("1")
COUNT = _touching()
MARK = _touching(unpacked=_UNPACKED)
START = _touching(unpacked=_UNPACKED, status=_STARTED)
REVIVE = _touching(unpacked=_UNPACKED, status=_STARTED, deadline=_WATCHED)
TOUCH_ATTEMPT = Statement(
    lambda _: (
        sa.update(a)
        .where(a.c.rollout_id == bind("rollout"), a.c.attempt_id == bind("attempt"))
        .values(
            last_heartbeat_time=bind("now"),
            status=sa.case((_among(a, "preparing", "unresponsive"), RUNNING), else_=a.c.status),
        )
    )
)
NEXT_SEQUENCE = Statement(
    lambda _: (
        sa.update(t)
        .where(t.c.rollout_id == bind("rollout"), t.c.project == bind("project_name"))
        .values(span_seq=t.c.span_seq + bind("count"))
        .returning(t.c.span_seq)
    )
)


def insert(tx: Tx, records: Sequence[SpanRecord], *, project: str, now: float, quiet_s: float) -> Stored:
    """Store a batch. The first span of an attempt sets it and its rollout running; each new span is a sign of life.

    A trace that named no rollout gets one, which ends with its root span.
    """
    result = Stored([None] * len(records), [False] * len(records), {})
    groups: dict[tuple[str, str], list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault(record[:2], []).append(i)
    places: dict[tuple[str, str], _Place] = {}
    counters: dict[str, int] = {}
    # Sorted, so that two replicas lock rollouts in the same order.
    for key in sorted(groups):
        place = _place(tx, records[groups[key][0]], project=project, now=now, quiet_s=quiet_s)
        if isinstance(place, str):
            result.refused.update(dict.fromkeys(groups[key], place))
            continue
        places[key] = place
        if place.has_calls:
            records = _counted_once(tx, records, groups[key])
        counter = counters.get(key[0], place.span_seq)
        for i in groups[key]:
            asked = records[i].sequence_id
            counter = counter + 1 if asked is None else max(counter, asked)
            result.sequence_ids[i] = counter if asked is None else asked
        counters[key[0]] = counter
    if places:
        _write(tx, records, result, project=project)
        for key, place in places.items():
            new = [records[i] for i in groups[key] if result.is_new[i]]
            if new:
                _touch(tx, new, place, counter=counters[key[0]], now=now)
                tx.notices.add(StoreEvent("spans", key[0], None, project))
    return result


def _counted_once(tx: Tx, records: Sequence[SpanRecord], group: list[int]) -> list[SpanRecord]:
    """The batch, with model calls of one attempt that the gateway recorded already as what they are then."""
    found = list(records)
    own = model_calls.without_repeats(tx, records[group[0]].rollout_id, [records[i] for i in group])
    for i, record in zip(group, own, strict=True):
        found[i] = record
    return found


def _place(tx: Tx, record: SpanRecord, *, project: str, now: float, quiet_s: float) -> "_Place | str":
    """Where the spans of an attempt go, or why they cannot be stored."""
    rollout_id, attempt_id = record.rollout_id, record.attempt_id
    rows = tx.hot(PLACE, rollout=rollout_id, attempt=attempt_id)
    if not rows and record.source is not None:
        traces.begin(
            tx,
            rollout_id,
            attempt_id=attempt_id,
            project=project,
            source=record.source,
            trace_id=record.trace_id,
            now=now,
            quiet_s=quiet_s,
        )
        rows = tx.hot(PLACE, rollout=rollout_id, attempt=attempt_id)
    if not rows or rows[0][0] != project:
        return f"Rollout {rollout_id} not found"
    if rows[0][-1] is None:
        return f"Attempt {attempt_id} not found for rollout {rollout_id}"
    return _Place(*rows[0])


DERIVED = slice(SpanRecord._fields.index("sequence_id") + 1, SpanRecord._fields.index("encoding"))


def _write(tx: Tx, records: Sequence[SpanRecord], result: Stored, *, project: str) -> None:
    """Put rows and payloads into their tables; marks in `result` which spans are new."""
    order = [i for i, sequence_id in enumerate(result.sequence_ids) if sequence_id is not None]
    ids = tx.next_ids(s, len(order))
    rows = [
        (id_, project, *records[i][:2], result.sequence_ids[i], *records[i][DERIVED])
        for id_, i in zip(ids, order, strict=True)
    ]
    fresh = tx.insert_new(s, rows)
    fresh_payloads: list[tuple[int, str, bytes]] = []
    for id_, i in zip(ids, order, strict=True):
        if fresh is None or id_ in fresh:
            result.is_new[i] = True
            fresh_payloads.append((id_, records[i].encoding, records[i].payload))
    if fresh_payloads:
        tx.insert_new(p, fresh_payloads)
        rollups.add(tx, project, [records[i] for i in order if result.is_new[i]])


def restore(tx: Tx, records: Sequence[SpanRecord], *, project: str) -> list[bool]:
    """Put spans back as an export holds them, with their sequence ids; which of them were new.

    Neither their rollout nor its attempts hear of it, and their rewards become no scores: an export holds those too.
    """
    result = Stored([record.sequence_id for record in records], [False] * len(records), {})
    _write(tx, records, result, project=project)
    return result.is_new


def _touch(tx: Tx, new: list[SpanRecord], place: _Place, *, counter: int, now: float) -> None:
    """Let a rollout and its attempt know of their new spans. Those of a superseded attempt never move the rollout."""
    rollout_id, attempt_id = new[0][:2]
    agent = None if place.agent is not None else next((r.agent for r in new if r.agent is not None), None)
    same: dict[str, Any] = {"rollout": rollout_id, "seq": counter, "who": agent}
    if place.status == "requeuing" or place.attempt_status == "unresponsive":
        tx.hot(REVIVE, **same, attempt=attempt_id, look=now)  # the watchdog had stopped looking
    elif place.status == "preparing":
        tx.hot(START, **same, attempt=attempt_id)
    else:
        tx.hot(COUNT if place.unpacked else MARK, **same)
    if place.is_latest and place.status in ("preparing", "requeuing"):
        rollouts.announce(tx, project=place.project, rollout_id=rollout_id, status="running")
    tx.hot(TOUCH_ATTEMPT, rollout=rollout_id, attempt=attempt_id, now=now)
    rewarded = [record for record in new if record.scores]
    if rewarded:
        scores.add_rewards(tx, rewarded, now=now)
    # An imported run has a source too, but told its times and input itself: only the root of a trace without a rollout says them.
    # A call through the gateway is one of many in its rollout, and the root of none.
    root = next(
        (r for r in new if r.parent_id is None and r.source is not None and r.source != GATEWAY), None
    )
    if root is not None and place.source is not None:
        traces.end(tx, root, project=place.project, now=now)


def next_sequence_ids(tx: Tx, pairs: Iterable[tuple[str, str]], *, project: str) -> list[int]:
    """The next span sequence id of each (rollout, attempt), in order; counted per rollout, from 1.

    An id that no rollout has counts from 1 too, and is not remembered.
    """
    unknown: dict[str, int] = {}
    found: list[int] = []
    for rollout_id, _ in pairs:
        rows = tx.hot(NEXT_SEQUENCE, rollout=rollout_id, project_name=project, count=1)
        if not rows:
            unknown[rollout_id] = unknown.get(rollout_id, 0) + 1
        found.append(rows[0][0] if rows else unknown[rollout_id])
    return found


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


class SpanFilter(NamedTuple):
    """Which spans of one rollout. `logic` joins the text conditions; rollout and attempt always hold."""

    rollout_id: str
    attempt_id: str | None = None
    exact: tuple[tuple[str, str], ...] = ()
    contains: tuple[tuple[str, str], ...] = ()
    logic: Logic = "and"

    def condition(self, project: str) -> sa.ColumnElement[bool]:
        """The filter as SQL; "latest" is the rollout's latest attempt at this moment."""
        # Asked of the rollout once: asked of each span, its row would have to be read to be counted.
        owned = sa.exists().where(t.c.rollout_id == self.rollout_id, t.c.project == project)
        scope = [s.c.rollout_id == self.rollout_id, owned]
        if self.attempt_id == "latest":
            scope.append(
                s.c.attempt_id
                == sa.select(t.c.attempt_id).where(t.c.rollout_id == self.rollout_id).scalar_subquery()
            )
        elif self.attempt_id is not None:
            scope.append(s.c.attempt_id == self.attempt_id)
        texts = [s.c[name] == value for name, value in self.exact] + [
            Contains(s.c[name], value) for name, value in self.contains
        ]
        return sa.and_(*scope, joined(texts, self.logic))


SORTABLE: dict[str, sa.ColumnElement[Any]] = {
    **{
        name: s.c[name]
        for name in (
            "rollout_id",
            "attempt_id",
            "sequence_id",
            "trace_id",
            "span_id",
            "parent_id",
            "name",
            "status",
        )
    },
    "status_code": s.c.status,
    "start_time": s.c.start_ns,
    "end_time": s.c.end_ns,
    "duration": s.c.end_ns - s.c.start_ns,
    **dict.fromkeys(("attributes", "events", "links", "context", "parent", "resource"), s.c.id),
}


class PayloadRow(NamedTuple):
    """A stored payload with the ids that the store gave its span."""

    payload: bytes
    encoding: str
    rollout_id: str
    attempt_id: str
    sequence_id: int


def query_payloads(
    tx: Tx, which: SpanFilter, paging: Paging, *, project: str
) -> tuple[list[PayloadRow], int]:
    """A page of spans as they came, and how many match."""
    rows, total = _page(tx, which, paging, project=project)
    found = payloads.by_id(tx, [(row[0], which.rollout_id) for row in rows])
    made = PayloadRow._make  # thousands for one answer: the class itself takes its fields by name
    page = [
        made((*found[id_], which.rollout_id, attempt_id, sequence_id))
        for id_, attempt_id, sequence_id in rows
        if id_ in found
    ]
    return page, total


def _page(tx: Tx, which: SpanFilter, paging: Paging, *, project: str) -> tuple[Sequence[Any], int]:
    check_paging(paging, list(SORTABLE))
    if span_pages.is_common(which.attempt_id, paging, has_conditions=bool(which.exact or which.contains)):
        return span_pages.in_sequence(tx, which.rollout_id, which.attempt_id, paging, project=project)
    select = sa.select(s.c.id, s.c.attempt_id, s.c.sequence_id).where(which.condition(project))
    return paged(tx, select, paging, SORTABLE, otherwise=[s.c.sequence_id, s.c.id])


def payload(tx: Tx, rollout_id: str, attempt_id: str, span_id: str, *, project: str) -> PayloadRow | None:
    """One span as it came, or None."""
    which = SpanFilter(rollout_id, attempt_id, exact=(("span_id", span_id),))
    rows, _ = query_payloads(tx, which, Paging(limit=1), project=project)
    return rows[0] if rows else None


def summaries(tx: Tx, which: SpanFilter, paging: Paging, *, project: str) -> tuple[list[SpanSummary], int]:
    """A page of narrow rows in sequence order, and how many match."""
    select = sa.select(*SUMMARY_COLUMNS).where(which.condition(project))
    rows, total = paged(tx, select, paging, SORTABLE, otherwise=[s.c.sequence_id, s.c.id])
    return [SpanSummary(*row) for row in rows], total


OF_ATTEMPT = Statement(
    lambda _: (
        sa.select(*SUMMARY_COLUMNS)
        .where(s.c.rollout_id == bind("rollout"), s.c.attempt_id == bind("attempt"))
        .order_by(s.c.sequence_id, s.c.id)
    )
)


def of_attempt(tx: Tx, rollout_id: str, attempt_id: str) -> list[SpanSummary]:
    """The narrow rows of one attempt in sequence order."""
    return [SpanSummary(*row) for row in tx.hot(OF_ATTEMPT, rollout=rollout_id, attempt=attempt_id)]
