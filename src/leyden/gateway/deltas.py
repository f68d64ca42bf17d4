"""Chunks of OpenAI's streams put together, field by field.

Owns: which fields of a delta continue the field before and which replace it. Promises: work linear in what arrives, and fields
that nobody has heard of kept. Refuses to know: events, requests and answers.

A text continues the text before it, except for names of things. A text field nobody knows continues too, unless it only says
again what it said at first. Lists grow; entries with an `index` continue the entry with that index.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

from leyden.ingest.shapes import is_list, is_object

_MAX_DEPTH = 16

_TEXTS = frozenset(
    (
        "content",
        "reasoning_content",
        "reasoning",
        "refusal",
        "text",
        "thinking",
        "arguments",
        "transcript",
        "data",
    )
)
_NAMES = frozenset(
    ("id", "type", "role", "object", "model", "format", "severity", "finish_reason", "stop_reason")
)


class Pieces(list[str]):
    """A text that is still arriving."""

    __slots__ = ()


class Growing(dict[str, Any]):
    """An object that is still arriving; a plain dict came whole."""

    __slots__ = ()


def grow(grown: Growing, delta: Mapping[str, Any], depth: int = 0) -> None:
    """Continue an object by a delta of it. null changes nothing, and is kept where nothing else comes."""
    for key, value in delta.items():
        # Nearly every chunk continues one text and nothing else.
        if key in _TEXTS and type(value) is str and type(old := grown.get(key)) is Pieces:
            old.append(value)
        else:
            grow_field(grown, key, value, depth)


def grow_field(grown: Growing, key: str, value: Any, depth: int = 0) -> None:
    """Continue one field of an object."""
    if value is None:
        grown.setdefault(key, None)
    elif isinstance(value, str) and key not in _NAMES:
        _grow_text(grown, key, value)
    elif depth >= _MAX_DEPTH:
        grown[key] = value
    elif is_list(value):
        old = grown.get(key)
        if type(old) is not list:
            old = grown[key] = []
        _grow_list(cast(list[Any], old), value, key, depth)
    elif is_object(value):
        old = grown.get(key)
        if not isinstance(old, Growing):
            old = grown[key] = Growing()
        grow(old, value, depth + 1)
    elif value != "" or key not in grown:
        grown[key] = value


def whole(value: Any) -> Any:
    """A grown value with its texts joined. What came whole is not copied."""
    if isinstance(value, Pieces):
        return "".join(value)
    if isinstance(value, Growing):
        return {key: whole(entry) for key, entry in value.items()}
    if is_list(value):
        return [whole(entry) if isinstance(entry, Growing) else entry for entry in value]
    return value


def _grow_text(grown: Growing, key: str, value: str) -> None:
    old = grown.get(key)
    if type(old) is not Pieces:
        grown[key] = Pieces((value,))
    elif key in _TEXTS or len(old) > 1 or old[0] != value:
        old.append(value)


def _grow_list(old: list[Any], new: list[Any], key: str, depth: int) -> None:
    is_calls = key == "tool_calls"
    for entry in new:
        if not is_object(entry) or not (is_calls or "index" in entry):
            old.append(entry)
            continue
        found = _continued(old, entry)
        if found is None:
            old.append(found := Growing())
        grow(found, entry, depth + 1)


def _continued(old: list[Any], entry: Mapping[str, Any]) -> Growing | None:
    """The entry that this one continues; None when it begins a new one."""
    index = entry.get("index")
    if index is None:
        return _continued_call(old, entry)
    found = next((entry for entry in _newest(old) if entry.get("index") == index), None)
    if found is None:
        return None
    # Gemini gives each of several calls, which come whole, the index 0.
    is_other = any(entry.get(k) and found.get(k) and entry[k] != found[k] for k in ("id", "type"))
    return None if is_other else found


def _continued_call(old: list[Any], entry: Mapping[str, Any]) -> Growing | None:
    """Without an index: by its id; without an id too, the last call, unless a function is named again."""
    if id := entry.get("id"):
        return next((call for call in _newest(old) if call.get("id") == id), None)
    function = entry.get("function")
    is_named = is_object(function) and bool(function.get("name"))
    return None if is_named else next(_newest(old), None)


def _newest(old: list[Any]) -> Iterator[Growing]:
    """The entries that may continue, the newest first; more than 256 at a time would cost the square of their number."""
    return (entry for entry in islice(reversed(old), 256) if isinstance(entry, Growing))
