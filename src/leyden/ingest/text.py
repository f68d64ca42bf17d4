"""Text that every database takes: bounded, without NUL and without half characters."""

import re
from typing import Any

import orjson

from leyden.ingest.shapes import is_list, is_object

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def scrubbed(text: str) -> str:
    """The text with U+FFFD for NUL and for lone surrogates.

    PostgreSQL refuses NUL in TEXT and no encoder takes a lone surrogate; unscrubbed, one odd span would lose its whole batch.
    """
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def column(value: Any, limit: int) -> str | None:
    """A value as the text of a column, at most `limit` characters; None for nothing and for empty text."""
    if isinstance(value, str):
        text = value if len(value) <= limit else value[:limit]
        if text.isascii() and "\0" not in text:
            return text or None
    elif value is None:
        return None
    elif isinstance(value, list | dict | tuple):
        text = as_json(value)[:limit]
    else:
        text = str(value)[:limit]
    return scrubbed(text) or None


def as_json(value: Any) -> str:
    """A plain value as JSON text; bytes as hex, anything else JSON lacks as its text."""
    return orjson.dumps(without_surrogates(value), default=_default, option=orjson.OPT_NON_STR_KEYS).decode()


def without_surrogates(value: Any) -> Any:
    """A plain JSON value with every text scrubbed; the same object when it holds none to scrub."""
    try:
        orjson.dumps(value, default=_default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return _rebuilt(value)
    return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, str):
        return scrubbed(value)
    if is_object(value):
        return {scrubbed(str(k)): _rebuilt(v) for k, v in value.items()}
    if is_list(value):
        return [_rebuilt(v) for v in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 2**1000 else str(value)
    return value


def _default(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object given as such or as its text; {} for anything else."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = orjson.loads(value)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return {}
    return value if is_object(value) else {}
