"""A test on a column as SQL: what spans and rollouts have in common. Values are always parameters, never part of the text."""

from typing import Any

import sqlalchemy as sa

from leyden.store.filters.fields import Is, Like, Operand, Present, Test, Within
from leyden.store.sql import ContainsAnyCase, matches

Condition = sa.ColumnElement[bool]
_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def either(test: Test, column: sa.ColumnElement[Any]) -> Condition:
    """The column is one of the test's operands. Null when the column is, but for a test of having nothing."""
    plain = [operand.text for operand in test.operands if isinstance(operand, Is) and operand.text]
    if len(plain) > 1 and test.field.kind != "holds":
        rest = [operand for operand in test.operands if not (isinstance(operand, Is) and operand.text)]
        return sa.or_(column.in_(plain), *(_one(test, column, operand) for operand in rest))
    return sa.or_(*(_one(test, column, operand) for operand in test.operands))


def fails(condition: Condition) -> Condition:
    """The opposite, in which unknown counts as failed: a row without a tool is not a row with tool x."""
    return sa.not_(sa.func.coalesce(condition, sa.false()))


def holds(column: sa.ColumnElement[Any], text: str) -> Condition:
    """The text occurs in the column, A–Z like a–z."""
    return ContainsAnyCase(column, text.translate(_LOWER))


def _one(test: Test, column: sa.ColumnElement[Any], operand: Operand) -> Condition:
    match operand:
        case Present():
            return column.is_not(None) if test.field.is_number else column != ""
        case Within(low, high, strict):
            return _within(column, low, high, strict=strict)
        case Is(text):
            if not text:
                return sa.or_(column.is_(None), column == "")
            return holds(column, text) if test.field.kind == "holds" else column == text
        case Like(pieces):
            if test.field.kind == "holds":
                return matches(sa.func.lower(column), [piece.translate(_LOWER) for piece in pieces])
            return matches(column, pieces)


def _within(
    column: sa.ColumnElement[Any], low: int | float | None, high: int | float | None, *, strict: bool
) -> Condition:
    if low is not None and low == high:
        return column == _number(low)
    ends: list[Condition] = []
    if low is not None:
        ends.append(column > _number(low) if strict else column >= _number(low))
    if high is not None:
        ends.append(column < _number(high) if strict else column <= _number(high))
    return sa.and_(*ends)


def _number(value: int | float) -> sa.ColumnElement[Any]:
    # Typed by itself: as an operand of an integer column a fraction would be rounded.
    return sa.literal(value, sa.BigInteger() if isinstance(value, int) else sa.Double())
