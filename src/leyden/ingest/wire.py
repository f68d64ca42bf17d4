"""OTLP's protobuf messages as Leyden wants to read them: wire-compatible with the official ones, shaped for speed.

Three differences from the official descriptors, none visible on the wire:
spans stay `bytes`, so each is kept exactly as it came and a broken one is refused alone;
attributes are a map from key to the bytes of their value (a KeyValue is a map entry), so only values that are read are decoded;
names and texts are `bytes`, so a text cut in the middle of a character loses that character and not the whole request.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = [
    "AnyValue",
    "DecodeError",
    "Event",
    "Link",
    "Resource",
    "ResponseMessage",
    "Scope",
    "Span",
    "SpanOrdered",
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

# message → fields: (name, number, type). A type in [brackets] is repeated; a name is another message; {} is a map to bytes.
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "Traces": [("resource_spans", 1, ["ResourceSpans"])],
    "ResourceSpans": [("resource", 1, _BYTES), ("scope_spans", 2, ["ScopeSpans"]), ("schema_url", 3, _BYTES)],
    "ScopeSpans": [("scope", 1, _BYTES), ("spans", 2, [_BYTES]), ("schema_url", 3, _BYTES)],
    "Resource": [("attributes", 1, {})],
    "Scope": [("name", 1, _BYTES), ("version", 2, _BYTES), ("attributes", 3, {})],
    "Span": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("parent_span_id", 4, _BYTES),
        ("name", 5, _BYTES),
        ("start_ns", 7, _FIXED64),
        ("end_ns", 8, _FIXED64),
        ("attributes", 9, {}),
        ("events", 11, [_BYTES]),
        ("status", 15, "Status"),
    ],
    # The same span as the reading side wants it: everything, attributes in the order they were sent.
    "SpanOrdered": [
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
    "Event": [("time_ns", 1, _FIXED64), ("name", 2, _BYTES), ("attributes", 3, {})],
    "Link": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("trace_state", 3, _BYTES),
        ("attributes", 4, {}),
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
        for name, number, kind in fields:
            field = made.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
            if message == "AnyValue":
                field.oneof_index = 0
            if isinstance(kind, list | dict):
                field.label = _FIELD.LABEL_REPEATED
            if isinstance(kind, dict):
                _add_map_entry(made, name)
                kind = f"{message}.{name.capitalize()}Entry"
            elif isinstance(kind, list):
                kind = kind[0]
            if isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".leyden.{kind}"
            else:
                field.type = kind
    return file


def _add_map_entry(message: descriptor_pb2.DescriptorProto, field: str) -> None:
    entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_STRING, label=_FIELD.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=_BYTES, label=_FIELD.LABEL_OPTIONAL)


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def _class(message: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"leyden.{message}"))


Traces, Resource, Scope, Span = _class("Traces"), _class("Resource"), _class("Scope"), _class("Span")
SpanOrdered, Event, Link, AnyValue = (
    _class("SpanOrdered"),
    _class("Event"),
    _class("Link"),
    _class("AnyValue"),
)
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
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def value(raw: bytes) -> Any:
    """The plain value in the bytes of an AnyValue: str, bool, int, float, list, dict, bytes, or None for none.

    Raises DecodeError when the bytes are no AnyValue.
    """
    if not raw:
        return None
    size = len(raw)
    if raw[0] == 0x0A:  # a string: by far the most common, worth its shortcuts
        if size < 130:
            if raw[1:2] and raw[1] == size - 2:
                return string(raw[2:])
        elif size < 16387 and (raw[1] & 0x7F | raw[2] << 7) == size - 3 and raw[2] < 0x80:
            return string(raw[3:])
    elif raw[0] == 0x18:  # an integer below 2**14
        if size == 2 and raw[1] < 0x80:
            return raw[1]
        if size == 3 and raw[1] >= 0x80 and raw[2] < 0x80:
            return raw[1] & 0x7F | raw[2] << 7
    return _plain(AnyValue.FromString(raw))


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
