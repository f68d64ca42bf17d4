"""Any Python value as bounded JSON.

Promises: never raises, never walks more than a bounded number of nodes, and what it cut says so in place
("…[+950 items]"). User code (`__repr__`, `model_dump`, properties) runs guarded. Refuses to know: spans.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

MAX_CHARS = 32_768
"""Longest captured value, in characters before JSON escaping."""

_MAX_DEPTH = 12
_MAX_ITEMS = 1_000
_MAX_NODES = 8_000


def _make_encoder() -> Callable[[Any], str]:
    """Compact JSON without NaN. The encoder is built once: json.dumps builds one per call, which costs more than encoding."""
    from json import encoder

    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
    default = json.JSONEncoder().default
    # No table of objects seen, so a circle ends in RecursionError: callers check depth first, or catch it.
    encode = make(None, default, encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


encode = _make_encoder()
"""A JSON-ready value as compact JSON. Raises on anything else, NaN and circles included."""


def bounded_json(value: Any, limit: int = MAX_CHARS) -> str:
    """`value` as JSON text of about `limit` characters at most; cut places carry a marker."""
    try:
        if _room_after(value, limit, 0) >= 0:
            return encode(value)
    except Exception:  # somebody changes it meanwhile; the walk below says what it can
        pass
    return _dumps(clip(value, limit))


def _room_after(value: Any, room: int, depth: int) -> int:
    """What is left of `room` characters after a value that JSON can hold as it is; negative when it is too large or something else.

    Most values are small and plain: then this is all the walking there is.
    """
    kind: Any = type(cast(object, value))
    if kind is str:
        return room - len(value) - 2
    if kind is dict:
        if depth >= _MAX_DEPTH or len(value) > _MAX_ITEMS:
            return -1
        for key, item in value.items():
            if type(key) is not str:
                return -1
            if type(item) is str:
                room -= len(item) + len(key) + 6
            else:
                room = _room_after(item, room - len(key) - 4, depth + 1)
            if room < 0:
                return -1
        return room
    if kind is list or kind is tuple:
        if depth >= _MAX_DEPTH or len(value) > _MAX_ITEMS:
            return -1
        for item in value:
            room = _room_after(item, room, depth + 1)
            if room < 0:
                return -1
        return room
    if value is None or kind is bool:
        return room - 8
    if kind is int:
        return room - 8 if -(2**63) <= value < 2**63 else -1
    if kind is float:
        return room - 8 if math.isfinite(value) else -1
    return -1


def bounded_text(value: Any, limit: int = MAX_CHARS) -> str:
    """Text as it is, anything else as JSON; cut at `limit` characters with a marker."""
    return _cut(value, limit) if isinstance(value, str) else bounded_json(value, limit)


def clip(value: Any, limit: int = MAX_CHARS) -> Any:
    """A JSON-ready snapshot of `value` that holds at most about `limit` characters of text."""
    if type(value) is str:
        return _cut(value, limit)
    try:
        return _Walk(limit).take(value, 0)
    except Exception:
        return f"<{type(value).__name__}: could not be read>"


def safe_str(value: Any, limit: int = 2_000) -> str:
    """`str(value)`, cut at `limit` characters; a placeholder when it raises."""
    return _guarded(str, value, limit)


def _dumps(value: Any) -> str:
    try:
        return encode(value)
    except Exception:
        return json.dumps(f"<{type(value).__name__}: could not be read>")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…[+{len(text) - limit} chars]"


def _guarded(render: Callable[[Any], str], value: Any, limit: int) -> str:
    try:
        text = render(value)
        return _cut(str.__str__(text), limit)
    except Exception:
        return f"<{type(value).__name__}: {render.__name__}() raised>"


class _Walk:
    """One pass over a value with a budget of characters and nodes."""

    def __init__(self, limit: int) -> None:
        self._chars = limit
        self._nodes = _MAX_NODES

    def take(self, value: Any, depth: int) -> Any:
        kind: Any = type(cast(object, value))
        if value is None or kind is bool:
            self._nodes -= 1
            return value
        if kind is int:
            self._nodes -= 1
            # More digits than this and int → str refuses (sys.set_int_max_str_digits).
            bits = cast(int, value).bit_length()
            return value if bits < 8_192 else f"<int of {bits} bits>"
        if kind is str:
            return self._text(value)
        if kind is float:
            self._nodes -= 1
            return value if math.isfinite(value) else str(value)
        if depth >= _MAX_DEPTH or self._nodes <= 0 or self._chars <= 0:
            return "…"
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list or kind is tuple:
            return self._items(value, len(value), depth)
        return self._object(value, depth)

    def _text(self, text: str) -> str:
        cut = _cut(text, max(self._chars, 0))
        self._nodes -= 1
        self._chars -= len(cut) + 2
        return cut

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for key, item in value.items():
            if len(taken) >= _MAX_ITEMS or self._nodes <= 0 or self._chars <= 0:
                taken["…"] = f"[+{len(value) - len(taken)} entries]"
                break
            name = self._text(key if type(key) is str else _guarded(str, key, 200))
            taken[name] = self.take(item, depth + 1)
        return taken

    def _items(self, value: Any, count: int, depth: int) -> list[Any]:
        taken: list[Any] = []
        for item in value:
            if len(taken) >= _MAX_ITEMS or self._nodes <= 0 or self._chars <= 0:
                taken.append(f"…[+{count - len(taken)} items]")
                break
            taken.append(self.take(item, depth + 1))
        return taken

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"<{len(cast(bytes, value))} bytes>"
        if isinstance(value, (int, float)):
            return self.take(float(value) if isinstance(value, float) else int(value), depth)
        plain = as_mapping(value)
        if plain is not None:
            return self._mapping(plain, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            some = cast(set[Any], value)
            return self._items(some, len(some), depth)
        return self._text(_guarded(repr, value, min(2_000, max(self._chars, 0))))


def as_mapping(value: Any) -> Mapping[str, Any] | None:
    """The fields of a mapping, dataclass, pydantic model or named tuple; None for anything else.

    One level deep, so a large object costs nothing that the budget does not see.
    """
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value)
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    names = getattr(cast(object, value), "_fields", None) if isinstance(value, tuple) else None
    if names is not None:
        return dict(zip(cast(tuple[str, ...], names), cast(tuple[Any, ...], value), strict=False))
    return _model_fields(cast(object, value))


def _model_fields(value: object) -> Mapping[str, Any] | None:
    """The fields of a pydantic model, with the extra ones that OpenAI's and Anthropic's objects carry."""
    declared = getattr(type(value), "model_fields", None)
    if not isinstance(declared, Mapping):
        return None
    extra = getattr(value, "__pydantic_extra__", None)
    more = cast(dict[str, Any], extra) if isinstance(extra, dict) else {}
    return {name: getattr(value, name, None) for name in [*cast(Mapping[str, Any], declared), *more]}
