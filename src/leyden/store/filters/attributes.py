"""Tests of attributes, decided on a decoded span: text with text, numbers with numbers."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from leyden.store.filters.fields import Every, Is, Like, No, Operand, Present, Some, Test, Tests, Within
from leyden.store.filters.spans import joined


def known_of(span: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a span in the store protocol's JSON form, and those of its resource where it has none of the name."""
    return {**span["resource"]["attributes"], **span["attributes"]}


def passes(tests: Tests, known: Mapping[str, Any]) -> bool:
    """Whether attributes pass. A missing one fails every test but the one for nothing."""
    match tests:
        case No(item):
            return not passes(item, known)
        case Every(items):
            return all(passes(item, known) for item in items)
        case Some(items):
            return any(passes(item, known) for item in items)
        case Test():
            return any(_is(operand, known.get(tests.key)) for operand in tests.operands)
        case _:
            return False


def must_hold(tests: Tests) -> list[bytes]:
    """Bytes without which a payload cannot pass: the names that have to be there."""
    return [
        part.key.encode()
        for part in joined(tests)
        if isinstance(part, Test) and part.key.isascii() and Is("") not in part.operands
    ]


def _is(operand: Operand, value: Any) -> bool:
    if isinstance(operand, Within):
        return _is_within(operand, value)
    text = _as_text(value)
    match operand:
        case Is(wanted):
            return text == wanted
        case Like(pieces):
            return bool(text) and re.fullmatch(".*?".join(map(re.escape, pieces)), text, re.S) is not None
        case Present():
            return text != ""


def _is_within(wanted: Within, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if wanted.low is not None and (value < wanted.low or (wanted.strict and value == wanted.low)):
        return False
    return wanted.high is None or value < wanted.high or (not wanted.strict and value == wanted.high)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
