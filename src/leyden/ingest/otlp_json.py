"""OTLP/HTTP trace bodies in JSON → span records, and the values of OTLP/JSON read as plain ones.

A span's payload is a valid request of one span, spliced from what came. Bytes, 64-bit integers and enums are taken in every form
that exporters write. Refuses to know: HTTP, storage, and which rollouts exist.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from leyden.errors import BadFormat
from leyden.ingest.derive import EventView, no_events
from leyden.ingest.filing import DEFAULT_LIMITS, NOBODY, STATUS, Limits, Owner, Refused, assemble, owner_of
from leyden.ingest.nesting import refuse_deeper
from leyden.ingest.record import Decoded, Rejected, SpanRecord
from leyden.ingest.shapes import is_list, is_object
from leyden.ingest.text import without_surrogates

_KINDS = {
    "SPAN_KIND_UNSPECIFIED": 0,
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_CODES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_Object = Mapping[str, Any]


def decode_json(body: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """The spans of an OTLP/JSON trace request, in its order; a payload holds resource, scope and span as JSON came in.

    Raises TooLarge when the JSON nests deeper than the limit, BadFormat when it is no JSON or no trace request.
    """
    refuse_deeper(body, limits.depth)
    request = parse_json(body)
    for other in ("resourceLogs", "resourceMetrics"):
        if other in request:
            raise BadFormat(f"The body is not an OTLP trace request: it holds {other!r}.")
    records: list[SpanRecord] = []
    rejected: list[Rejected] = []
    index = 0
    for group in _objects(request, "resourceSpans", "resource_spans"):
        resource = group.get("resource")
        owner, resource_error = _json_resource_owner(resource, limits)
        for scope in _objects(group, "scopeSpans", "scope_spans"):
            frame = _json_frame(group, scope)
            for span in _items(scope, "spans", "spans"):
                try:
                    if resource_error:
                        raise Refused(resource_error)
                    records.append(_json_record(span, owner, frame, limits))
                except Refused as refused:
                    rejected.append(Rejected(index, str(refused)))
                index += 1
    return Decoded(records, rejected)


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object; {} for an empty body. Lone surrogates, which some exporters write, become U+FFFD.

    Call `refuse_deeper` first. Raises BadFormat when it is no JSON object.
    """
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in body:
            raise BadFormat(f"The body is not JSON: {error}.") from None
        value = _parse_surrogates(body)
    if not is_object(value):
        raise BadFormat("The body is not a JSON object.")
    return value


def _parse_surrogates(body: bytes) -> Any:
    """JSON that orjson refuses for a lone surrogate."""
    try:
        return without_surrogates(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise BadFormat(f"The body is not JSON: {error}.") from None


def _items(holder: _Object, name: str, other: str) -> list[Any]:
    found = holder.get(name)
    if found is None:
        found = holder.get(other)
    if found is None:
        return []
    if not is_list(found):
        raise BadFormat(f"The body is not an OTLP trace request: {name!r} is not a list.")
    return found


def _objects(holder: _Object, name: str, other: str) -> list[_Object]:
    found = _items(holder, name, other)
    if not all(is_object(item) for item in found):
        raise BadFormat(f"The body is not an OTLP trace request: {name!r} holds something that is no object.")
    return found


def _json_frame(group: _Object, scope: _Object) -> tuple[bytes, bytes]:
    """What stands before and after one span in its payload, a trace request of one resource and one scope."""
    outer = {key: group[key] for key in ("resource", "schemaUrl") if key in group}
    inner = {key: scope[key] for key in ("scope", "schemaUrl") if key in scope}
    before = b'{"resourceSpans":[' + _opened(outer) + b'"scopeSpans":[' + _opened(inner) + b'"spans":['
    return before, b"]}]}]}"


def _opened(value: _Object) -> bytes:
    """An object's JSON, left open for one more member."""
    text = orjson.dumps(value)[:-1]
    return text + b"," if value else text


def _json_resource_owner(resource: Any, limits: Limits) -> tuple[Owner, str | None]:
    if resource is None:
        return NOBODY, None
    try:
        return owner_of(_json_attributes(_one(resource, "resource"), "resource").get, limits), None
    except Refused as refused:
        return NOBODY, f"of its resource: {refused}"


def _json_record(span: Any, owner: Owner, frame: tuple[bytes, bytes], limits: Limits) -> SpanRecord:
    raw = orjson.dumps(span)
    if len(raw) > limits.span_bytes:
        raise Refused(f"it has {len(raw)} bytes; at most {limits.span_bytes} are accepted")
    span = _one(span, "span")
    trace_id = hex_id(_either(span, "traceId", "trace_id"), 16)
    span_id = hex_id(_either(span, "spanId", "span_id"), 8)
    if trace_id is None:
        raise Refused("it has no valid trace id (16 bytes, not all zero)")
    if span_id is None:
        raise Refused("it has no valid span id (8 bytes, not all zero)")
    parent = _either(span, "parentSpanId", "parent_span_id")
    parent_id = hex_id(parent, 8) if parent else None
    if parent and parent_id is None and str(parent).strip("0A="):
        raise Refused("its parent span id is not 8 bytes")
    status = _one(span.get("status") or {}, "status")
    code = enum(status.get("code"), _CODES)
    return assemble(
        _json_attributes(span, "span"),
        owner,
        limits,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=str(span.get("name") or ""),
        status=STATUS[code] if 0 <= code <= 2 else "unset",
        message=str(status.get("message") or "") if code == 2 else "",
        start_ns=integer(_either(span, "startTimeUnixNano", "start_time_unix_nano")),
        end_ns=integer(_either(span, "endTimeUnixNano", "end_time_unix_nano")),
        events=_json_events(span["events"]) if span.get("events") else no_events,
        encoding="otlp-json",
        payload=frame[0] + raw + frame[1],
    )


def _one(value: Any, noun: str) -> dict[str, Any]:
    if not is_object(value):
        raise Refused(f"the {noun} is not an object")
    return value


def _either(holder: _Object, name: str, other: str) -> Any:
    found = holder.get(name)
    return holder.get(other) if found is None else found


def _json_attributes(holder: _Object, noun: str) -> dict[str, Any]:
    """Attributes given as a list of key and value, as plain values."""
    listed: Any = holder.get("attributes") or []
    if not is_list(listed):
        raise Refused(f"the attributes of the {noun} are not a list")
    attributes: dict[str, Any] = {}
    for item in listed:
        if not is_object(item) or not isinstance(item.get("key"), str):
            raise Refused(f"an attribute of the {noun} has no key")
        attributes[item["key"]] = json_value(item.get("value"))
    return attributes


def _json_events(listed: Any) -> Callable[[], list[EventView]]:
    if not is_list(listed):
        raise Refused("its events are not a list")

    def events() -> list[EventView]:
        found: list[EventView] = []
        for item in listed:
            event = _one(item, "event")
            found.append(EventView(str(event.get("name") or ""), _json_attributes(event, "event").get))
        return found

    return events


def json_value(held: Any) -> Any:
    """The plain value of an AnyValue in OTLP/JSON; None for an empty one and for what is none."""
    if not is_object(held):
        return None
    for field, inner in held.items():
        read = _JSON_VALUES.get(field)
        if read is not None and inner is not None:
            return read(inner)
    return None


def _json_array(inner: Any) -> list[Any]:
    values = inner.get("values") if is_object(inner) else None
    return [json_value(item) for item in values] if is_list(values) else []


def _json_pairs(inner: Any) -> dict[str, Any]:
    values = inner.get("values") if is_object(inner) else None
    if not is_list(values):
        return {}
    return {str(item.get("key")): json_value(item.get("value")) for item in values if is_object(item)}


def _json_int(inner: Any) -> int | None:
    try:
        return int(inner) if not isinstance(inner, str) or len(inner) < 25 else None
    except (TypeError, ValueError, OverflowError):
        return None


def _json_float(inner: Any) -> float | None:
    try:
        return float(inner)  # "NaN" and "Infinity" are how JSON spells them
    except (TypeError, ValueError, OverflowError):
        return None


def _json_bytes(inner: Any) -> bytes | None:
    return _base64(inner) if isinstance(inner, str) else None


_JSON_VALUES: dict[str, Callable[[Any], Any]] = {
    "stringValue": str,
    "string_value": str,
    "boolValue": bool,
    "bool_value": bool,
    "intValue": _json_int,
    "int_value": _json_int,
    "doubleValue": _json_float,
    "double_value": _json_float,
    "arrayValue": _json_array,
    "array_value": _json_array,
    "kvlistValue": _json_pairs,
    "kvlist_value": _json_pairs,
    "bytesValue": _json_bytes,
    "bytes_value": _json_bytes,
}


def integer(value: Any) -> int:
    """A 64-bit integer given as number or text; 0 for anything else."""
    return _json_int(value) or 0 if value is not None else 0


def enum(value: Any, names: Mapping[str, int]) -> int:
    """An enum given by number or by name; 0 for one nobody knows."""
    if isinstance(value, str):
        return names[value] if value in names else integer(value)
    return value if isinstance(value, int) else 0


def hex_id(value: Any, size: int) -> str | None:
    """An id of `size` bytes as lower-case hex, from hex or, as protobuf's own JSON writes it, base64; None for none or zeros."""
    if not isinstance(value, str):
        return None
    if len(value) == 2 * size:
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            return None
    else:
        raw = _base64(value) if len(value) <= 2 * size else None
    return raw.hex() if raw is not None and len(raw) == size and any(raw) else None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
