"""Filters of spans as SQL. What SQL cannot see, the attributes in a payload, is handed back as tests of their own."""

from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.store import tables
from leyden.store.filters.conditions import Condition, either, fails, holds
from leyden.store.filters.fields import Every, Is, Like, No, OfSpan, Operand, Some, Test, Tests, Within
from leyden.store.filters.grammar import Words

s = tables.span
r = tables.rollup

# Has rows of its own in `rollup`; names longer than that are cut there.
DIMENSIONS = ("agent", "provider", "model", "tool", "kind", "status")
_LONGEST = 119

_COUNTED = sa.or_(s.c.input_tokens.is_not(None), s.c.output_tokens.is_not(None))
_SUM = sa.func.coalesce(s.c.input_tokens, 0) + sa.func.coalesce(s.c.output_tokens, 0)
COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    **{name: s.c[name] for name in (*DIMENSIONS, "name", "session", "fingerprint", "dialect")},
    **{name: s.c[name] for name in ("input_tokens", "output_tokens", "cache_read_tokens")},
    **{name: s.c[f"{name}_id"] for name in ("rollout", "attempt", "trace", "span", "parent")},
    "error": s.c.error_type,
    "message": s.c.error_message,
    "tokens": sa.case((_COUNTED, _SUM)),
    "cost": s.c.cost_usd,
    "duration": s.c.end_ns - s.c.start_ns,
    "ttft": s.c.ttft_ms,
    "since": s.c.start_ns,
    "until": s.c.start_ns,
}
_SEARCHED = (s.c.name, s.c.error_message, s.c.input_preview, s.c.output_preview)
# A row holds one of these exactly when its span failed.
_FAILED = sa.or_(s.c.status == sa.literal_column("'error'"), s.c.fingerprint.is_not(None))


class Wanted(NamedTuple):
    """A filter of spans, taken apart into what holds all at once.

    condition: what SQL decides. cells: the part that `rollup` knows too, over its columns. since_ns, until_ns: the range of
    start times, the latter exclusive. is_exact: cells and range say all there is to say. attributes: what the payload decides.
    of_failed: only spans that failed can match. of_rollout: only spans of rollouts that it names.
    """

    condition: Condition
    cells: tuple[Condition, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    is_exact: bool = True
    attributes: tuple[Tests, ...] = ()
    of_failed: bool = False
    of_rollout: bool = False


def span_condition(tests: Tests) -> Condition:
    """The condition on `tables.span`. Raises BadInput for a test of attributes, which no column holds."""
    match tests:
        case No(item):
            return fails(span_condition(item))
        case Every(items):
            return sa.and_(sa.true(), *(span_condition(item) for item in items))
        case Some(items):
            return sa.or_(*(span_condition(item) for item in items))
        case Words(text):
            return sa.or_(*(holds(column, text) for column in _SEARCHED))
        case OfSpan(test):
            return span_condition(test)
        case Test():
            if tests.field.name == "attr.NAME":
                raise BadInput(
                    f"'attr.{tests.key}' at column {tests.column} cannot stand beside other fields in OR or behind '-('",
                    hint="attributes are looked for in what the rest of the filter leaves: put them beside it",
                )
            found = either(tests, COLUMNS[tests.field.name])
            return sa.and_(found, _FAILED) if _is_of_failed(tests) else found


def taken_apart(tests: Tests) -> Wanted:
    """The filter as conditions of which each narrows what the others leave. Raises BadInput."""
    wanted = Wanted(sa.true())
    for part in joined(tests):
        if is_of_payload(part):
            wanted = wanted._replace(attributes=(*wanted.attributes, part), is_exact=False)
        elif isinstance(part, Test) and part.field.kind in ("since", "until"):
            wanted = _in_range(wanted, part)
        else:
            wanted = _with(wanted, part)
    return wanted


def _in_range(wanted: Wanted, part: Test) -> Wanted:
    (operand,) = part.operands
    assert isinstance(operand, Within)
    if operand.low is not None:
        return wanted._replace(since_ns=max(int(operand.low), wanted.since_ns or int(operand.low)))
    high = int(operand.high or 0)
    return wanted._replace(until_ns=high if wanted.until_ns is None else min(high, wanted.until_ns))


def _with(wanted: Wanted, part: Tests) -> Wanted:
    cell = cells(part)
    hints = _hints(part) if cell is None else [cell]
    return wanted._replace(
        condition=sa.and_(wanted.condition, span_condition(part)),
        cells=(*wanted.cells, *hints),
        is_exact=wanted.is_exact and cell is not None,
        of_failed=wanted.of_failed or (isinstance(part, Test) and _is_of_failed(part)),
        of_rollout=wanted.of_rollout or _names_rollouts(part),
    )


def joined(tests: Tests) -> list[Tests]:
    """The parts that hold all at once."""
    return [part for item in tests.items for part in joined(item)] if isinstance(tests, Every) else [tests]


def leaves(tests: Tests) -> list[Test | OfSpan | Words]:
    """The tests without what joins them."""
    match tests:
        case No(item):
            return leaves(item)
        case Every(items) | Some(items):
            return [leaf for item in items for leaf in leaves(item)]
        case _:
            return [tests]


def is_of_payload(tests: Tests) -> bool:
    """Whether all of it is about attributes."""
    found = leaves(tests)
    return bool(found) and all(isinstance(leaf, Test) and leaf.field.name == "attr.NAME" for leaf in found)


def _is_of_failed(test: Test) -> bool:
    """Whether only a span that failed can pass."""
    if any(operand == Is("") for operand in test.operands):
        return False
    return test.field.name in ("error", "message", "fingerprint") or (
        test.field.name == "status" and test.operands == (Is("error"),)
    )


def _names_rollouts(tests: Tests) -> bool:
    return (
        isinstance(tests, Test)
        and tests.field.name == "rollout"
        and all(isinstance(operand, Is) and operand.text for operand in tests.operands)
    )


# ── What rollups know ────────────────────────────────────────────────────────────────────────────────────────────


def cells(tests: Tests) -> Condition | None:
    """The same filter over the rows of `rollup`, or None when they cannot tell."""
    match tests:
        case No(item):
            inner = cells(item)
            return None if inner is None else sa.not_(inner)
        case Every(items) | Some(items):
            parts = [cells(item) for item in items]
            known = [part for part in parts if part is not None]
            if not known or len(known) < len(parts):
                return None
            return sa.and_(*known) if isinstance(tests, Every) else sa.or_(*known)
        case Test() if tests.field.name in DIMENSIONS and all(map(_is_in_cells, tests.operands)):
            return either(tests, r.c[tests.field.name])
        case _:
            return None


def _is_in_cells(operand: Operand) -> bool:
    match operand:
        case Is(text):
            return len(text) <= _LONGEST
        case Like(pieces):
            return len(pieces) == 2 and 0 < len(pieces[0]) <= _LONGEST and not pieces[1]
        case _:
            return True


def _hints(tests: Tests) -> list[Condition]:
    """What the rows of `rollup` must show where a span may pass. Sums that went round are below zero, and rule out nothing."""
    if not isinstance(tests, Test):
        return []
    if _is_of_failed(tests):
        return [r.c.errors > 0]
    least = [
        operand.low for operand in tests.operands if isinstance(operand, Within) and operand.low is not None
    ]
    low = max(0, min(least)) if len(least) == len(tests.operands) else 0
    match tests.field.name:
        case "cost":
            return [r.c.priced > 0, sa.or_(r.c.cost_nano < 0, r.c.cost_nano >= int(min(low, 1e9) * 1e9) - 1)]
        case "tokens":
            return [r.c.input_tokens + r.c.output_tokens >= int(low)]
        case "duration":
            return [r.c.timed > 0, sa.or_(r.c.duration_ns < 0, r.c.duration_ns >= min(int(low), 2**62))]
        case _:
            return []
