"""Filters of rollouts as SQL. What a rollout's spans add up to is summed for each rollout that cheaper tests leave."""

from typing import Any

import sqlalchemy as sa

from leyden.store import tables
from leyden.store.filters.conditions import Condition, either, fails, holds
from leyden.store.filters.fields import Every, Is, No, OfSpan, Operand, Some, Test, Tests, Within
from leyden.store.filters.grammar import Words
from leyden.store.filters.spans import joined, leaves, span_condition

t = tables.rollout
s = tables.span
a = tables.attempt
score = tables.score

_OF_ROLLOUT = s.c.rollout_id == t.c.rollout_id
# Agent spans repeat what their calls used; see `runs.totals`.
_CALLED = s.c.kind.in_(["llm", "embedding"])
_FAILED = sa.or_(s.c.status == "error", s.c.fingerprint.is_not(None))
_COUNTED = sa.or_(s.c.input_tokens.is_not(None), s.c.output_tokens.is_not(None))


def _sum(what: sa.ColumnElement[Any], *where: Condition) -> sa.ColumnElement[Any]:
    return sa.select(what).where(_OF_ROLLOUT, *where).correlate(t).scalar_subquery()


def _latest(*where: Condition) -> sa.ColumnElement[Any]:
    """The value stored last among the scores of a rollout."""
    found = sa.select(score.c.value).where(score.c.rollout_id == t.c.rollout_id, *where)
    return found.order_by(score.c.id.desc()).limit(1).correlate(t).scalar_subquery()


COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    **{name: t.c[name] for name in ("status", "mode", "agent", "source", "attempts", "input")},
    "id": t.c.rollout_id,
    "resources": t.c.resources_id,
    "duration": t.c.end_time - t.c.start_time,
    "since": t.c.start_time,
    "until": t.c.start_time,
    "reward": _latest(score.c.is_primary == 1),
    "spans": _sum(sa.func.count()),
    "errors": _sum(sa.func.count(), _FAILED),
    "tokens": _sum(
        sa.func.sum(sa.func.coalesce(s.c.input_tokens, 0) + sa.func.coalesce(s.c.output_tokens, 0)),
        _CALLED,
        _COUNTED,
    ),
    "cost": _sum(sa.func.sum(s.c.cost_usd), _CALLED),
}
# What one row of `rollout` tells.
_CHEAP = (
    "id",
    "status",
    "mode",
    "agent",
    "source",
    "attempts",
    "input",
    "resources",
    "duration",
    "since",
    "until",
)


def rollout_condition(tests: Tests) -> Condition:
    """The condition on `tables.rollout`, its cheap parts first: databases stop at the first part that fails."""
    return sa.and_(
        sa.true(), *(_condition(part) for part in sorted(joined(tests), key=lambda p: not is_cheap(p)))
    )


def is_cheap(tests: Tests) -> bool:
    """Whether it reads nothing but rollouts."""
    return all(
        isinstance(leaf, Words) or (isinstance(leaf, Test) and leaf.field.name in _CHEAP)
        for leaf in leaves(tests)
    )


def _condition(tests: Tests) -> Condition:
    match tests:
        case No(item):
            return fails(_condition(item))
        case Every(items):
            return sa.and_(sa.true(), *(_condition(item) for item in items))
        case Some(items):
            return sa.or_(*(_condition(item) for item in items))
        case Words(text):
            return sa.or_(holds(t.c.rollout_id, text), holds(t.c.input, text))
        case OfSpan(test):
            return sa.exists().where(_OF_ROLLOUT, span_condition(test)).correlate(t)
        case Test():
            return _of_field(tests)


def _of_field(test: Test) -> Condition:
    name = test.field.name
    if name == "worker":
        return _with_worker(test)
    if name == "score.NAME":
        return either(test, _latest(score.c.name == test.key))
    if name in ("since", "until"):
        test = Test(test.field, tuple(map(_seconds, test.operands)))
    return either(test, COLUMNS[name])


def _seconds(operand: Operand) -> Operand:
    """A range of nanoseconds as one of seconds."""
    if not isinstance(operand, Within):
        return operand
    low, high = (None if end is None else end / 1e9 for end in operand[:2])
    return Within(low, high, operand.strict)


def _with_worker(test: Test) -> Condition:
    """Some attempt was run by one of them; nothing: none was run by anybody."""
    tried = sa.exists().where(a.c.rollout_id == t.c.rollout_id).correlate(t)
    if Is("") in test.operands:
        rest = tuple(operand for operand in test.operands if operand != Is(""))
        nobody = sa.not_(tried.where(a.c.worker_id != ""))
        return sa.or_(nobody, _with_worker(Test(test.field, rest))) if rest else nobody
    return tried.where(either(test, a.c.worker_id))
