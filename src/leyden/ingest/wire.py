"""OTLP's protobuf messages as Leyden wants to read them: wire-compatible with the official ones, shaped for speed.

Three differences from the official descriptors, none visible on the wire:
spans stay `bytes`, so each is kept exactly as it came and a broken one is refused alone;
attributes stay `bytes` too, so that one that repeats in every span of a body is decoded once (`Attributes`);
names and texts are `bytes`, so a text cut in the middle of a character loses that character and not the whole request.
"""

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = [
    "AnyValue",
    "Attributes",
    "DecodeError",
    "Event",
    "Link",
    "Resource",
    "ResponseMessage",
    "Scope",
    "Span",
    "StatusMessage",
    "Traces",
    "length",
    "string",
    "value",
]

_FIELD = descriptor_pb2.FieldDescriptorProto
_BYTES, _STRING, _MESSAGE = _FIELD.TYPE_BYTES, _FIELD.TYPE_STRING, _FIELD.TYPE_MESSAGE
_INT32, _INT64, _UINT32 = _FIELD.TYPE_INT32, _FIELD.TYPE_INT64, _FIELD.TYPE_UINT32
_FIXED64, _BOOL, _DOUBLE = _FIELD.TYPE_FIXED64, _FIELD.TYPE_BOOL, _FIELD.TYPE_DOUBLE

# message → fields: (name, number, type). A type in [brackets] is repeated; a text names another message.
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "Traces": [("resource_spans", 1, ["ResourceSpans"])],
    "ResourceSpans": [("resource", 1, _BYTES), ("scope_spans", 2, ["ScopeSpans"]), ("schema_url", 3, _BYTES)],
    "ScopeSpans": [("scope", 1, _BYTES), ("spans", 2, [_BYTES]), ("schema_url", 3, _BYTES)],
    "Resource": [("attributes", 1, [_BYTES])],
    "Scope": [("name", 1, _BYTES), ("version", 2, _BYTES), ("attributes", 3, [_BYTES])],
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
        ("events", 11, [_BYTES]),
        ("links", 13, [_BYTES]),
        ("status", 15, "Status"),
    ],
    "Status": [("message", 2, _BYTES), ("code", 3, _INT32)],
    "Event": [("time_ns", 1, _FIXED64), ("name", 2, _BYTES), ("attributes", 3, [_BYTES])],
    "Link": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("trace_state", 3, _BYTES),
        ("attributes", 4, [_BYTES]),
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


# Shapes kept per length; a body with more keys of one length than this reads the rest the long way.
_SHAPES = 8

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def _class(message: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"leyden.{message}"))


Traces, Resource, Scope, Span = _class("Traces"), _class("Resource"), _class("Scope"), _class("Span")
Event, Link, AnyValue, KeyValue = _class("Event"), _class("Link"), _class("AnyValue"), _class("KeyValue")
ResponseMessage, StatusMessage = _class("ResponseMessage"), _class("StatusMessage")


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


class _Shape(NamedTuple):
    """How pairs of one key and one length start, so that the next one is told by its first bytes alone."""

    head: bytes
    key: str
    is_text: bool


class Attributes(dict[bytes, tuple[str, Any]]):
    """The pairs of one body by their bytes: what every span repeats is decoded once, and a key is one string object throughout.

    A pair not seen before, but of a key and length that were, is read by hand: its first bytes hold the key and every
    length, so what follows them is the value. Keep it no longer than the body.
    """

    def __init__(self) -> None:
        self._shapes: dict[int, list[_Shape]] = {}
        self._keys: dict[bytes, str] = {}

    def of(self, pairs: Any) -> dict[str, Any]:
        """Attributes by key, in the order sent; of a key sent twice the last value. Raises DecodeError for bytes that are none."""
        return dict(map(self.__getitem__, pairs[:]))

    def __missing__(self, raw: bytes) -> tuple[str, Any]:
        size = len(raw)
        for head, key, is_text in self._shapes.get(size, ()):
            if not raw.startswith(head):
                continue
            if is_text:
                read = key, raw[len(head) :].decode("utf-8", "replace")
            elif (low := raw[-2]) > 0x7F and (high := raw[-1]) < 0x80:
                read = key, low & 0x7F | high << 7
            else:
                continue
            # Not kept: of a key that varies every value would be, and the table outgrow the processor's cache.
            return read
        message = KeyValue.FromString(raw)
        name = message.key
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = string(name)
        read = key, _plain(message.value)
        self[raw] = read
        self._remember(raw, name, read)
        return read

    def _remember(self, raw: bytes, name: bytes, read: tuple[str, Any]) -> None:
        """Keeps the shape of a pair whose value is a text or an integer of two bytes, and that is encoded as usual."""
        key, held = read
        if isinstance(held, str):
            text = held.encode()
            inner = b"\x0a" + length(len(text))
            rest = len(text)
        elif isinstance(held, int) and not isinstance(held, bool) and 0x80 <= held < 0x4000:
            inner, rest = b"\x18", 2
        else:
            return
        head = b"\x0a" + length(len(name)) + name + b"\x12" + length(len(inner) + rest) + inner
        shapes = self._shapes.setdefault(len(raw), [])
        if len(head) + rest == len(raw) and raw.startswith(head) and len(shapes) < _SHAPES:
            shapes.append(_Shape(head, key, isinstance(held, str)))


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
