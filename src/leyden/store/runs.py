"""Runs as people list them and as files bring them: a rollout with what its spans add up to; a finished run stored at once."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.ingest.record import SpanRecord
from leyden.store import rollouts, scores, spans, tables
from leyden.store.engine import Tx
from leyden.store.filters import EVERYTHING
from leyden.store.filters.fields import Tests
from leyden.store.filters.rollouts import is_cheap, rollout_condition
from leyden.store.rollouts import NewRollout, RolloutRow
from leyden.store.sql import Contains
from leyden.types import SpanSummary

t = tables.rollout
s = tables.span
a = tables.attempt


class Totals(NamedTuple):
    """What the spans of a rollout add up to. Tokens are those of model calls alone: agent spans repeat them."""

    spans: int = 0
    errors: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


class Overview(NamedTuple):
    """A rollout in a list: itself, its totals, its final reward."""

    rollout: RolloutRow
    totals: Totals
    reward: float | None


class RunFilter(NamedTuple):
    """Which runs. Times are unix seconds of the rollout's start; `text` occurs in its id or input; `tests` are a filter."""

    status: str | None = None
    mode: str | None = None
    agent: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    rollout_ids: list[str] | None = None
    tests: Tests = EVERYTHING

    def conditions(self, project: str) -> list[sa.ColumnElement[bool]]:
        """The filter as SQL."""
        found: list[sa.ColumnElement[bool]] = [t.c.project == project]
        found += [
            t.c[name] == value
            for name in ("status", "mode", "agent")
            if (value := getattr(self, name)) is not None
        ]
        if self.since is not None:
            found.append(t.c.start_time >= self.since)
        if self.until is not None:
            found.append(t.c.start_time < self.until)
        if self.text is not None:
            found.append(sa.or_(Contains(t.c.rollout_id, self.text), Contains(t.c.input, self.text)))
        if self.rollout_ids is not None:
            found.append(t.c.rollout_id.in_(self.rollout_ids))
        return [*found, rollout_condition(self.tests)]


class Listed(NamedTuple):
    """A page of runs, and how many match (`is_exact`) or at least match."""

    items: list[Overview]
    total: int
    is_exact: bool


def overview(tx: Tx, which: RunFilter, *, project: str, limit: int, offset: int) -> Listed:
    """A page of runs, newest first. `total` is exact where rollouts alone decide, and where the page is the last."""
    where = which.conditions(project)
    select = (
        sa.select(*rollouts.ROLLOUT_COLUMNS).where(*where).order_by(t.c.start_time.desc(), t.c.seq.desc())
    )
    end = limit if limit >= 0 else 10**9
    rows = [RolloutRow(*row) for row in tx.all(select.limit(end + 1).offset(offset))]
    more, rows = len(rows) > end, rows[:end]
    total, is_exact = offset + len(rows), True
    if more and not is_cheap(which.tests):
        total, is_exact = total + 1, False  # to count them, the spans of every rollout would have to be read
    elif more or (offset and not rows):
        total = tx.first(sa.select(sa.func.count()).select_from(t).where(*where))[0]
    ids = [row.rollout_id for row in rows]
    sums, rewards = totals(tx, ids), scores.rewards(tx, ids)
    items = [Overview(row, sums.get(row.rollout_id, Totals()), rewards.get(row.rollout_id)) for row in rows]
    return Listed(items, total, is_exact)


def totals(tx: Tx, rollout_ids: Sequence[str]) -> dict[str, Totals]:
    """The totals of each rollout that has spans."""
    called = s.c.kind.in_(["llm", "embedding"])
    failed = sa.or_(s.c.status == "error", s.c.fingerprint.is_not(None))
    sums = [
        sa.func.sum(sa.case((called, column)))
        for column in (s.c.input_tokens, s.c.output_tokens, s.c.cost_usd)
    ]
    select = sa.select(
        s.c.rollout_id, sa.func.count(), sa.func.sum(sa.case((failed, 1), else_=0)), *sums
    ).group_by(s.c.rollout_id)
    found: dict[str, Totals] = {}
    for some in (rollout_ids[i : i + 500] for i in range(0, len(rollout_ids), 500)):
        for rollout_id, count, errors, asked, answered, cost in tx.all(
            select.where(s.c.rollout_id.in_(some))
        ):
            found[rollout_id] = Totals(count, int(errors), _whole(asked), _whole(answered), cost)
    return found


def _whole(number: Any) -> int | None:
    # PostgreSQL sums BIGINT into NUMERIC.
    return None if number is None else int(number)


class Finished(NamedTuple):
    """A run that is over, as a file records it. `input` and `metadata` are JSON text, `records` its spans."""

    rollout_id: str
    attempt_id: str
    input: str
    status: str
    start_time: float
    end_time: float
    metadata: str
    source: str
    mode: str | None
    reward: float | None
    failure_reason: str | None
    records: list[SpanRecord]


class Imported(NamedTuple):
    """What an import did: whether the rollout is new, how many spans are, and why the refused were refused (by position)."""

    is_new: bool
    spans: int
    refused: dict[int, str]


def add_finished(tx: Tx, run: Finished, *, project: str, now: float) -> Imported:
    """Store a finished run. Storing it again adds only what is missing: usually nothing."""
    tx.take_turns(f"rollout/{run.rollout_id}")
    known = rollouts.find(tx, run.rollout_id, project=project)
    if known is None:
        _add(tx, run, project=project)
    stored = spans.insert(tx, run.records, project=project, now=now, quiet_s=0)
    if known is None:
        same = {"status": run.status, "end_time": run.end_time, "failure_reason": run.failure_reason}
        tx.run(sa.update(t).where(t.c.rollout_id == run.rollout_id).values(**same, deadline=None))
        tx.run(
            sa.update(a)
            .where(a.c.rollout_id == run.rollout_id, a.c.attempt_id == run.attempt_id)
            .values(**same, last_heartbeat_time=None)
        )
        if run.reward is not None:
            scores.add_final(tx, run.rollout_id, run.attempt_id, value=run.reward, time=run.end_time)
    return Imported(known is None, sum(stored.is_new), stored.refused)


def _add(tx: Tx, run: Finished, *, project: str) -> None:
    item = NewRollout(run.input, mode=run.mode, metadata=run.metadata)
    rollouts.start(
        tx,
        item,
        project=project,
        rollout_id=run.rollout_id,
        attempt_id=run.attempt_id,
        worker_id=None,
        now=run.start_time,
    )
    # An imported run used none of the resources that this store holds.
    tx.run(sa.update(t).where(t.c.rollout_id == run.rollout_id).values(source=run.source, resources_id=None))


class RunRow(NamedTuple):
    """A run as analysis reads it: its outcome and, apart, its spans."""

    rollout_id: str
    attempt_id: str
    status: str
    start_time: float
    end_time: float | None
    reward: float | None


def scan(
    tx: Tx, which: RunFilter, *, project: str, batch: int = 200
) -> Iterator[tuple[RunRow, list[SpanSummary]]]:
    """Every run with the narrow rows of its latest attempt, oldest first; holds one batch at a time."""
    after = 0
    where = which.conditions(project)
    while True:
        select = sa.select(t.c.seq, t.c.rollout_id, t.c.attempt_id, t.c.status, t.c.start_time, t.c.end_time)
        rows = tx.all(
            select.where(*where, t.c.seq > after, t.c.attempt_id.is_not(None)).order_by(t.c.seq).limit(batch)
        )
        if not rows:
            return
        after = rows[-1].seq
        rewards = scores.rewards(tx, [row.rollout_id for row in rows])
        for row in rows:
            run = RunRow(
                row.rollout_id,
                row.attempt_id,
                row.status,
                row.start_time,
                row.end_time,
                rewards.get(row.rollout_id),
            )
            yield run, spans.of_attempt(tx, row.rollout_id, row.attempt_id)
