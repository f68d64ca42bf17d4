"""What calls through the gateway add up to: per day, key, agent, operation, provider and model; and per rollout.

Owns the tables `spend` and `spend_rollout`. Promises: rows change just before the commit of the change that hands calls
over, one update per row however many calls a group of writes brings; replicas that write the same rows lose nothing. Sums of
money are integers of 1e-9 USD. What was spent on a rollout goes with it; what was spent on a day stays.
Refuses to know: limits, prices, spans.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from operator import add as plus
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from leyden.ingest.text import column
from leyden.ingest.usage import Usage
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement

s = tables.spend
r = tables.spend_rollout
t = tables.rollout
bind = sa.bindparam

DAY_S = 86_400
KEYS = ("project", "day", "key_id", "agent", "operation", "provider", "model")
TOKENS = tuple(f"{bucket}_tokens" for bucket in Usage._fields)
COUNTS = ("calls", "errors", *TOKENS, "cost_nano", "priced")
NAME_CHARS = 120
# What one call may count at most, so that sums of absurd reports stay within 64 bits.
_MOST_TOKENS = 2**36
_MOST_USD = 1e6

Dimension = Literal["key", "agent", "operation", "provider", "model", "day"]
_BY: dict[Dimension, sa.ColumnElement[Any]] = {
    "key": s.c.key_id, "agent": s.c.agent, "operation": s.c.operation, "provider": s.c.provider, "model": s.c.model, "day": s.c.day,
}  # fmt: skip


class Spent(NamedTuple):
    """One call that is over. day: since 1970, UTC. operation: `gen_ai.operation.name`. usd None: its cost is unknown."""

    project: str
    day: int
    key_id: str | None
    agent: str | None
    operation: str | None
    provider: str | None
    model: str | None
    is_error: bool
    usage: Usage
    usd: float | None
    rollout_id: str | None = None


class Cost(NamedTuple):
    """What the calls of one group add up to.

    value: of the dimension, "" for none; a day is since 1970. cost_usd is None when no call of it has a known cost and some
    should have; while `unpriced_calls` is above 0 it is a lower bound. A call that failed without using a token costs nothing.
    """

    value: str | int
    calls: int
    errors: int
    usage: Usage
    cost_usd: float | None
    unpriced_calls: int


def add(tx: Tx, spent: Iterable[Spent]) -> None:
    """Count calls, just before the commit."""
    tx.later(_keep, spent)


def _keep(tx: Tx, spent: Sequence[Spent]) -> None:
    days: dict[tuple[Any, ...], list[int]] = {}
    rollouts: dict[str, list[int]] = {}
    for call in spent:
        nano = round(min(call.usd, _MOST_USD) * 1e9) if call.usd is not None else 0
        is_priced = call.usd is not None or (call.is_error and not call.usage.total)
        tokens = (min(count, _MOST_TOKENS) for count in call.usage)
        names = (column(name, NAME_CHARS) or "" for name in call[2:7])
        _sum(days, (*call[:2], *names), [1, int(call.is_error), *tokens, nano, int(is_priced)])
        if call.rollout_id:
            _sum(rollouts, call.rollout_id, [1, nano])
    # In order, so that two replicas never wait for each other in a circle.
    _each(tx, PUT, [*KEYS, *COUNTS], [(*key, *days[key]) for key in sorted(days)])
    _each(
        tx,
        PUT_ROLLOUT,
        ["rollout_id", "calls", "cost_nano"],
        [(key, *rollouts[key]) for key in sorted(rollouts)],
    )


def _sum(into: dict[Any, list[int]], key: Any, more: list[int]) -> None:
    known = into.get(key)
    into[key] = more if known is None else list(map(plus, known, more))


def _adding(table: sa.Table, keys: Sequence[str], counts: Sequence[str]) -> Statement:
    def build(insert: Any) -> Any:
        row = insert(table).values({name: bind(name) for name in (*keys, *counts)})
        return row.on_conflict_do_update(
            index_elements=list(keys), set_={name: table.c[name] + row.excluded[name] for name in counts}
        )

    return Statement(build)


def _adding_to_rollout(insert: Any) -> Any:
    """Nothing for a rollout that is not there: its deletion may stand in the same group of writes, and this runs after all of them."""
    names = ("rollout_id", "calls", "cost_nano")
    row = sa.select(
        t.c.rollout_id, bind("calls", type_=sa.BigInteger), bind("cost_nano", type_=sa.BigInteger)
    )
    put = insert(r).from_select(names, row.where(t.c.rollout_id == bind("rollout_id")))
    sums = {name: r.c[name] + put.excluded[name] for name in names[1:]}
    return put.on_conflict_do_update(index_elements=["rollout_id"], set_=sums)


PUT = _adding(s, KEYS, COUNTS)
PUT_ROLLOUT = Statement(_adding_to_rollout)


def _each(tx: Tx, statement: Statement, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    sql, order, _ = statement.on(tx.dialect)
    named = [dict(zip(names, row, strict=True)) for row in rows]
    with closing(tx.connection.connection.cursor()) as cursor:
        cursor.executemany(sql, [[row[name] for name in order] for row in named] if tx.is_sqlite else named)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def costs(tx: Tx, *, project: str, by: Dimension, since: int, until: int) -> list[Cost]:
    """What was spent from day `since` to the end of day `until`, the dearest group first; by day: the newest first."""
    group = _BY[by]
    sums = [sa.func.sum(s.c[name]) for name in COUNTS]
    query = (
        sa.select(group, *sums)
        .where(s.c.project == project, s.c.day >= since, s.c.day <= until)
        .group_by(group)
        .order_by(
            *([] if by == "day" else [sa.func.sum(s.c.cost_nano).desc(), sa.func.sum(s.c.calls).desc()]),
            group.desc() if by == "day" else group,
        )
    )
    return [_cost(row[0], [int(number) for number in row[1:]]) for row in tx.all(query)]


def total(costs: Iterable[Cost]) -> Cost:
    """What groups add up to."""
    rows = list(costs)
    known = [cost.cost_usd for cost in rows if cost.cost_usd is not None]
    return Cost(
        "",
        sum(cost.calls for cost in rows),
        sum(cost.errors for cost in rows),
        Usage(*(sum(column) for column in zip(*(cost.usage for cost in rows), strict=True))),
        sum(known) if known or not rows else None,
        sum(cost.unpriced_calls for cost in rows),
    )


def _cost(value: str | int, counts: list[int]) -> Cost:
    calls, errors, *tokens, nano, priced = counts
    return Cost(value, calls, errors, Usage(*tokens), nano / 1e9 if priced else None, calls - priced)


def of_key(tx: Tx, key_id: str, *, project: str, day: int) -> float:
    """USD that calls with a key cost on a day, as far as it is known."""
    where = (s.c.project == project, s.c.day == day, s.c.key_id == key_id)
    found = tx.first(sa.select(sa.func.coalesce(sa.func.sum(s.c.cost_nano), 0)).where(*where))
    return int(found[0]) / 1e9


def of_rollout(tx: Tx, rollout_id: str, *, project: str) -> float:
    """USD that calls of a rollout of the project cost, whoever made them, as far as it is known."""
    pair = r.join(t, t.c.rollout_id == r.c.rollout_id)
    where = (r.c.rollout_id == rollout_id, t.c.project == project)
    found = tx.first(sa.select(r.c.cost_nano).select_from(pair).where(*where))
    return found[0] / 1e9 if found is not None else 0.0
