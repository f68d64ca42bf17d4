"""OTLP's protobuf messages as Leyden wants to read them: wire-compatible with the official ones, shaped for speed.

Three differences from the official descriptors, none visible on the wire:
spans stay `bytes`, so each is kept exactly as it came and a broken one is refused alone;
attributes stay `bytes` too, so that one that repeats in every span of a body is decoded once (`Attributes`);
names and texts are `bytes`, so a text cut in the middle of a character loses that character and not the whole request.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = [
    "AnyValue",
    "Attributes",
    "DecodeError",
    "Event",
    "Layout",
    "Link",
    "Resource",
    "ResponseMessage",
    "Scope",
    "Span",
    "StatusMessage",
    "Stored",
    "Traces",
    "is_whole",
    "layout",
    "length",
    "string",
    "value",
    "values",
]

_FIELD = descriptor_pb2.FieldDescriptorProto
_BYTES, _STRING, _MESSAGE = _FIELD.TYPE_BYTES, _FIELD.TYPE_STRING, _FIELD.TYPE_MESSAGE
_INT32, _INT64, _UINT32 = _FIELD.TYPE_INT32, _FIELD.TYPE_INT64, _FIELD.TYPE_UINT32
_FIXED32, _FIXED64 = _FIELD.TYPE_FIXED32, _FIELD.TYPE_FIXED64
_BOOL, _DOUBLE = _FIELD.TYPE_BOOL, _FIELD.TYPE_DOUBLE

# message → fields: (name, number, type). A type in [brackets] is repeated; a text names another message.
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "Traces": [("resource_spans", 1, ["ResourceSpans"])],
    "ResourceSpans": [("resource", 1, _BYTES), ("scope_spans", 2, ["ScopeSpans"]), ("schema_url", 3, _BYTES)],
    "ScopeSpans": [("scope", 1, _BYTES), ("spans", 2, [_BYTES]), ("schema_url", 3, _BYTES)],
    "Resource": [("attributes", 1, [_BYTES]), ("dropped_attributes", 2, _UINT32)],
    "Scope": [
        ("name", 1, _BYTES),
        ("version", 2, _BYTES),
        ("attributes", 3, [_BYTES]),
        ("dropped_attributes", 4, _UINT32),
    ],
    "Span": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("trace_state", 3, _BYTES),
        ("parent_span_id", 4, _BYTES),
        ("name", 5, _BYTES),
        ("kind", 6, _INT32),
        ("start_ns", 7, _FIXED64),
        ("end_ns", 8, _FIXED64),
        ("attributes", 9, [_BYTES]),
        ("dropped_attributes", 10, _UINT32),
        ("events", 11, [_BYTES]),
        ("dropped_events", 12, _UINT32),
        ("links", 13, [_BYTES]),
        ("dropped_links", 14, _UINT32),
        ("status", 15, "Status"),
        ("flags", 16, _FIXED32),
    ],
    "Status": [("message", 2, _BYTES), ("code", 3, _INT32)],
    "Event": [
        ("time_ns", 1, _FIXED64),
        ("name", 2, _BYTES),
        ("attributes", 3, [_BYTES]),
        ("dropped_attributes", 4, _UINT32),
    ],
    "Link": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("trace_state", 3, _BYTES),
        ("attributes", 4, [_BYTES]),
        ("dropped_attributes", 5, _UINT32),
        ("flags", 6, _FIXED32),
    ],
    "KeyValue": [("key", 1, _BYTES), ("value", 2, "AnyValue")],
    "AnyValue": [
        ("string_value", 1, _BYTES),
        ("bool_value", 2, _BOOL),
        ("int_value", 3, _INT64),
        ("double_value", 4, _DOUBLE),
        ("array_value", 5, "ArrayValue"),
        ("kvlist_value", 6, "KeyValueList"),
        ("bytes_value", 7, _BYTES),
    ],
    "ArrayValue": [("values", 1, ["AnyValue"])],
    "KeyValueList": [("values", 1, ["KeyValue"])],
    "WholeTraces": [("resource_spans", 1, ["WholeResourceSpans"])],
    "WholeResourceSpans": [("scope_spans", 2, ["WholeScopeSpans"])],
    "WholeScopeSpans": [("spans", 2, ["WholeSpan"])],
    "WholeSpan": [("attributes", 9, ["KeyValue"])],
    "Stored": [("group", 1, "StoredGroup")],
    "StoredGroup": [("resource", 1, _BYTES), ("scoped", 2, "StoredScope"), ("schema_url", 3, _BYTES)],
    "StoredScope": [("scope", 1, _BYTES), ("span", 2, "Span"), ("schema_url", 3, _BYTES)],
    "PartialSuccess": [("rejected_spans", 1, _INT64), ("error_message", 2, _STRING)],
    "ResponseMessage": [("partial_success", 1, "PartialSuccess")],
    "StatusMessage": [("code", 1, _INT32), ("message", 2, _STRING)],
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="leyden/otlp.proto", package="leyden", syntax="proto3")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        if message == "AnyValue":
            made.oneof_decl.add(name="value")
        for name, number, declared in fields:
            kind: Any = declared
            field = made.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
            if message == "AnyValue":
                field.oneof_index = 0
            if isinstance(declared, list):
                field.label, kind = _FIELD.LABEL_REPEATED, declared[0]  # pyright: ignore[reportUnknownVariableType]
            if isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".leyden.{kind}"
            else:
                field.type = kind
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def _class(message: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"leyden.{message}"))


Traces, Resource, Scope, Span = _class("Traces"), _class("Resource"), _class("Scope"), _class("Span")
Event, Link, AnyValue, KeyValue = _class("Event"), _class("Link"), _class("AnyValue"), _class("KeyValue")
ResponseMessage, StatusMessage = _class("ResponseMessage"), _class("StatusMessage")
_WholeTraces, Stored = _class("WholeTraces"), _class("Stored")


def is_whole(body: bytes) -> bool:
    """Whether every attribute of every span in a request decodes, so that those nobody asks for need not be looked at."""
    try:
        _WholeTraces.FromString(body)
    except DecodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def length(n: int) -> bytes:
    """`n` as a protobuf varint."""
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def string(raw: bytes) -> str:
    """Bytes as text; what is not UTF-8 becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


def value(raw: bytes) -> Any:
    """The plain value in the bytes of an AnyValue: str, bool, int, float, list, dict, bytes, or None for none.

    Raises DecodeError when the bytes are no AnyValue.
    """
    return _plain(AnyValue.FromString(raw)) if raw else None


class _TextHeads(dict[int, bytes]):
    """What stands before a text in an attribute's value, by the length of both: tags and lengths, as every encoder writes them."""

    def __missing__(self, size: int) -> bytes:
        head = _text_head(size)
        if len(self) < _KEPT_HEADS:
            self[size] = head
        return head


_KEPT_HEADS = 8192
_TEXT_HEADS = _TextHeads()
_NO_HEAD = b"\xff"  # starts no field


def _text_head(size: int) -> bytes:
    for spare in range(4, min(size, 12) + 1):
        inner = b"\x0a" + length(size - spare)
        head = b"\x12" + length(len(inner) + size - spare) + inner
        if len(head) == spare:
            return head
    return _NO_HEAD


_KEPT_KEYS = 2048
_keys: dict[bytes, str] = {}
"""Keys by the bytes that start their pairs. Agents write the same few; a client that invents many starts it over."""

_KEPT_PAIRS = 256


class Attributes(dict[bytes, tuple[str, Any]]):
    """The pairs of one body by their bytes: what every span repeats is decoded once, and a key is one string object throughout.

    What every span repeats stands in the first, so few are kept: a table that holds each value of a key that varies
    outgrows the processor's cache. Keep it no longer than the body.
    """

    def of(self, pairs: Any) -> dict[str, Any]:
        """Attributes by key, in the order sent; of a key sent twice the last value. Raises DecodeError for bytes that are none."""
        return dict(map(self.__getitem__, pairs[:]))

    def __missing__(self, raw: bytes) -> tuple[str, Any]:
        at = raw[1] + 2 if len(raw) > 1 else 0
        key = _keys.get(raw[:at])
        if key is None:
            read = _pair(raw)
        elif raw.startswith(head := _TEXT_HEADS[len(raw) - at], at):
            read = key, raw[at + len(head) :].decode("utf-8", "replace")
        else:
            read = key, _value(raw, at)
        if len(self) < _KEPT_PAIRS:
            self[raw] = read
        return read


def _value(raw: bytes, at: int) -> Any:
    """The plain value in the bytes of a KeyValue whose key ends before `at`.

    Texts, integers of one or two bytes and floats are read by hand where they stand as every encoder writes them: asking
    the message for its parts costs three times as much.
    """
    head = _TEXT_HEADS[len(raw) - at]
    if raw.startswith(head, at):
        return raw[at + len(head) :].decode("utf-8", "replace")
    size = len(raw) - at
    if size == 5 and raw.startswith(b"\x12\x03\x18", at) and raw[-2] > 0x7F and raw[-1] < 0x80:
        return raw[-2] & 0x7F | raw[-1] << 7
    if size == 4 and raw.startswith(b"\x12\x02\x18", at) and raw[-1] < 0x80:
        return raw[-1]
    if size == 11 and raw.startswith(b"\x12\x09\x21", at):
        return _FLOAT.unpack_from(raw, at + 3)[0]
    return _pair(raw)[1]


_FLOAT = struct.Struct("<d")


def _pair(raw: bytes) -> tuple[str, Any]:
    """The same by protobuf. Remembers the key when it stands first and its length is one byte."""
    message = KeyValue.FromString(raw)
    name = message.key
    key = string(name)
    start = b"\x0a" + length(len(name)) + name
    if 0 < len(name) < 0x80 and raw.startswith(start):
        if len(_keys) >= _KEPT_KEYS:
            _keys.clear()
        key = _keys.setdefault(start, key)
    return key, _plain(message.value)


# ── Spans of one layout ──────────────────────────────────────────────────────────────────────────────────────────

_KEPT_LAYOUTS, _LAYOUT_PAIRS = 8, 48
_layouts: dict[int, list["Layout"]] = {}
_NONE_MET: list["Layout"] = []
_starts = bytes.startswith


class Layout:
    """Which keys a span's attributes have, in the order sent. An agent writes the same few layouts again and again.

    `starts` are the bytes that hold each key; what follows them in a pair is its value. `ends` says where a key's start ends.
    """

    def __init__(self, keys: tuple[str, ...], starts: tuple[bytes, ...]) -> None:
        self.keys = keys
        self.starts = starts
        self.ends = {key: len(start) for key, start in zip(keys, starts, strict=True)}


def values(raws: Sequence[bytes], at: int) -> list[Any]:
    """The plain values in the pairs of one key, of many spans: `_value` of each. Raises DecodeError for a pair that is none."""
    if len(raws) == 1:
        return [_value(raws[0], at)]
    if raws[0] == raws[1]:  # neighbours that agree: few values, each decoded once
        return list(map({raw: _value(raw, at) for raw in set(raws)}.__getitem__, raws))
    if raws[0][at + 2 : at + 3] == _INTEGER:
        return [
            raw[-2] & 0x7F | raw[-1] << 7
            if raw[at:-2] == _TWO_BYTES and raw[-2] > 0x7F and raw[-1] < 0x80
            else _value(raw, at)
            for raw in raws
        ]
    return [
        raw[at + len(head) :].decode("utf-8", "replace")
        if raw.startswith(head := _TEXT_HEADS[len(raw) - at], at)
        else _value(raw, at)
        for raw in raws
    ]


_INTEGER, _TWO_BYTES = b"\x18", b"\x12\x03\x18"


def layout(pairs: list[bytes]) -> Layout | None:
    """The layout of a span's attributes; None when it has too many, one key twice, or bytes as no encoder writes them."""
    met = _layouts.get(len(pairs), _NONE_MET)
    for n, known in enumerate(met):
        if all(map(_starts, pairs, known.starts)):
            if n:  # the frequent ones move to the front
                met[n - 1], met[n] = known, met[n - 1]
            return known
    return _new_layout(pairs) if len(pairs) <= _LAYOUT_PAIRS else None


def _new_layout(pairs: list[bytes]) -> Layout | None:
    starts = tuple(raw[: raw[1] + 2] if raw[:1] == b"\x0a" and len(raw) > 2 else b"" for raw in pairs)
    if any(len(start) < 3 or start[1] > 0x7F or len(start) != start[1] + 2 for start in starts):
        return None
    keys = tuple(string(start[2:]) for start in starts)
    if len(set(keys)) < len(keys):
        return None
    made = Layout(keys, starts)
    _layouts[len(pairs)] = [made, *_layouts.get(len(pairs), ())][:_KEPT_LAYOUTS]
    return made


def _plain(any_value: Any) -> Any:
    field = any_value.WhichOneof("value")
    if field is None:
        return None
    held = getattr(any_value, field)
    if field == "string_value":
        return string(held)
    if field == "array_value":
        return [_plain(item) for item in held.values]
    if field == "kvlist_value":
        return {string(item.key): _plain(item.value) for item in held.values}
    return held
