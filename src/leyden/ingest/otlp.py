"""OTLP/HTTP bodies, protobuf and JSON → span records.

Each span is kept exactly as it came: its payload is a standalone TracesData of one resource, one scope and the span's own
bytes, spliced and never re-encoded. A bad span is refused alone; only a body that is no OTLP at all raises.
Refuses to know: HTTP, storage, and which rollouts exist.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import orjson

from leyden.errors import BadFormat
from leyden.ingest import wire
from leyden.ingest.derive import MAX_COUNT, NAME_CHARS, RULES_VERSION, EventView, derive, no_events
from leyden.ingest.nesting import refuse_deeper
from leyden.ingest.plain import Batch, derive_plain
from leyden.ingest.record import Decoded, Rejected, SpanRecord
from leyden.ingest.shapes import is_list, is_object
from leyden.ingest.text import column, scrubbed, without_surrogates

SOURCE = "otlp"
_STATUS = ("unset", "ok", "error")
_MAX_NS = 2**63 - 1
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


class Limits(NamedTuple):
    """How much is accepted: bytes of one span, characters of an id, nesting of a JSON body."""

    span_bytes: int = 8 * 2**20
    id_chars: int = 256
    depth: int = 64


DEFAULT_LIMITS = Limits()


class Owner(NamedTuple):
    """The rollout, attempt and sequence number that a resource or span names; None for each it does not."""

    rollout_id: str | None
    attempt_id: str | None
    sequence_id: int | None


_NOBODY = Owner(None, None, None)


class _Refused(Exception):
    """Why one span is refused."""


# ── Protobuf ─────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_protobuf(body: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """The spans of a protobuf ExportTraceServiceRequest, in its order.

    Raises BadFormat when the body is no such message. An empty body is an empty request.
    """
    try:
        traces = wire.Traces.FromString(body)
    except wire.DecodeError:
        raise BadFormat("The body is not an OTLP trace request in protobuf.") from None
    records: list[SpanRecord] = []
    rejected: list[Rejected] = []
    index = 0
    attributes = wire.Attributes()
    is_whole = wire.is_whole(body)
    for group in traces.resource_spans:
        owner, resource_error = _resource_owner(group.resource, attributes, limits)
        before_scope = _field(b"\x0a", group.resource) + _field(b"\x1a", group.schema_url)
        for scope in group.scope_spans:
            frame = _Frame(before_scope, _field(b"\x0a", scope.scope) + _field(b"\x1a", scope.schema_url))
            raws = scope.spans[:]
            found = _plain_records(raws, owner, frame, limits) if is_whole and not resource_error else {}
            for n, raw in enumerate(raws):
                try:
                    if resource_error:
                        raise _Refused(resource_error)
                    records.append(found.get(n) or _record(raw, owner, frame, limits, attributes))
                except _Refused as refused:
                    rejected.append(Rejected(index, str(refused)))
                index += 1
    return Decoded(records, rejected)


_Head = tuple[int, bytes, list[bytes], bytes, bytes, bytes, bytes, int, int, int]
"""Where a span stands in its scope, its bytes and its attributes' bytes; then trace, span and parent id, name, status code,
start and end as they came."""


def _plain_records(raws: list[bytes], owner: Owner, frame: "_Frame", limits: Limits) -> dict[int, SpanRecord]:
    """The records of those spans of a scope that can be read together, by where they stand: see `ingest/plain.py`.

    Only for a request of which `wire.is_whole` is true.
    """
    found: dict[int, SpanRecord] = {}
    for layout, heads in _by_layout(raws, limits).items():
        batch = Batch(layout, [head[2] for head in heads])
        names = list(map(wire.string, [head[6] for head in heads]))
        derived = derive_plain(batch, names)
        titles = {name: column(name, NAME_CHARS) or "" for name in set(names)}
        for head, columns, name, own in zip(heads, derived, names, _owners(batch, limits), strict=False):
            if columns is not None and own is not None:
                at, raw, _, trace_id, span_id, parent_id, _, code, start_ns, end_ns = head
                trace = trace_id.hex()
                rollout_id, attempt_id, sequence_id, source = _filed(owner, own, trace)
                record = (
                    rollout_id,
                    attempt_id,
                    sequence_id,
                    trace,
                    span_id.hex(),
                    parent_id.hex() if parent_id and parent_id != _NO_SPAN else None,
                    titles[name],
                    columns[0],
                    _STATUS[code] if 0 <= code <= 2 else "unset",
                    start_ns if 0 < start_ns <= _MAX_NS else None,
                    end_ns if 0 < end_ns <= _MAX_NS else None,
                    *columns[1:-1],
                    RULES_VERSION,
                    "otlp",
                    frame[len(raw)] + raw,
                    source,
                    columns[-1],
                )
                found[at] = tuple.__new__(SpanRecord, record)  # pyright: ignore[reportUnknownMemberType]
    return found


def _by_layout(raws: list[bytes], limits: Limits) -> dict[wire.Layout, list[_Head]]:
    """Valid spans without error status and events, by the layout of their attributes."""
    groups: dict[wire.Layout, list[_Head]] = {}
    for at, raw in enumerate(raws):
        try:
            span = wire.Span.FromString(raw)
        except wire.DecodeError:
            continue
        trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
        code, pairs = span.status.code, span.attributes[:]
        if len(trace_id) != 16 or len(span_id) != 8 or (parent_id and len(parent_id) != 8):
            continue
        if trace_id == _NO_TRACE or span_id == _NO_SPAN or len(raw) > limits.span_bytes:
            continue
        if code == 2 or span.events or (layout := wire.layout(pairs)) is None:
            continue
        head = (at, raw, pairs, trace_id, span_id, parent_id, span.name, code, span.start_ns, span.end_ns)
        if (group := groups.get(layout)) is None:
            group = groups[layout] = []
        group.append(head)
    return groups


_OWNER_KEYS: tuple[str, ...] = (
    "agentlightning.rollout_id",
    "agentlightning.attempt_id",
    "agentlightning.span_sequence_id",
)


def _owners(batch: Batch, limits: Limits) -> Iterable[Owner | None]:
    """What each span names itself; None for one that names something that no row may have."""
    if batch.layout.ends.keys().isdisjoint(_OWNER_KEYS):
        return repeat(_NOBODY)
    return [_owner_or_none(ids, limits) for ids in zip(*map(batch.values, _OWNER_KEYS), strict=True)]


def _owner_or_none(ids: tuple[Any, ...], limits: Limits) -> Owner | None:
    try:
        named: dict[str, Any] = dict(zip(_OWNER_KEYS, ids, strict=True))
        return _owner(named.get, limits)
    except _Refused:
        return None


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + wire.length(len(content)) + content if content else b""


class _Frame(dict[int, bytes]):
    """What stands before a span of a given length in its payload: the opened TracesData with resource and scope."""

    def __init__(self, before_scope: bytes, before_span: bytes) -> None:
        self._before_scope = before_scope
        self._before_span = before_span

    def __missing__(self, span_bytes: int) -> bytes:
        span_head = self._before_span + b"\x12" + wire.length(span_bytes)
        scope_head = self._before_scope + b"\x12" + wire.length(len(span_head) + span_bytes) + span_head
        frame = self[span_bytes] = b"\x0a" + wire.length(len(scope_head) + span_bytes) + scope_head
        return frame


def _resource_owner(raw: bytes, attributes: wire.Attributes, limits: Limits) -> tuple[Owner, str | None]:
    """Whose spans a resource holds, and why they must be refused if it does not decode."""
    try:
        return _owner(attributes.of(wire.Resource.FromString(raw).attributes).get, limits), None
    except wire.DecodeError:
        return _NOBODY, "its resource does not decode"
    except _Refused as refused:
        return _NOBODY, f"of its resource: {refused}"


def _record(
    raw: bytes, owner: Owner, frame: _Frame, limits: Limits, attributes: wire.Attributes
) -> SpanRecord:
    if len(raw) > limits.span_bytes:
        raise _Refused(f"it has {len(raw)} bytes; at most {limits.span_bytes} are accepted")
    try:
        span = wire.Span.FromString(raw)
        held = attributes.of(span.attributes)
    except wire.DecodeError:
        raise _Refused("it does not decode as a span") from None
    trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        raise _Refused("it has no valid trace id (16 bytes, not all zero)")
    if len(span_id) != 8 or span_id == _NO_SPAN:
        raise _Refused("it has no valid span id (8 bytes, not all zero)")
    if parent_id and len(parent_id) != 8:
        raise _Refused("its parent span id is not 8 bytes")
    status = span.status
    code: int = status.code
    return _assemble(
        held,
        owner,
        limits,
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        parent_id=parent_id.hex() if parent_id and parent_id != _NO_SPAN else None,
        name=wire.string(span.name),
        status=_STATUS[code] if 0 <= code <= 2 else "unset",
        message=wire.string(status.message) if code == 2 else "",
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        events=_events(raw_events, attributes) if (raw_events := span.events[:]) else no_events,
        encoding="otlp",
        payload=frame[len(raw)] + raw,
    )


def _events(raw_events: list[bytes], attributes: wire.Attributes) -> Callable[[], list[EventView]]:
    def events() -> list[EventView]:
        found: list[EventView] = []
        for raw in raw_events:
            try:
                event = wire.Event.FromString(raw)
                found.append(EventView(wire.string(event.name), attributes.of(event.attributes).get))
            except wire.DecodeError:
                raise _Refused("one of its events does not decode") from None
        return found

    return events


# ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _owner(get: Callable[[str], Any], limits: Limits) -> Owner:
    """What a span or resource names. Raises _Refused for an id that no row may have."""
    rollout_id, attempt_id = get("agentlightning.rollout_id"), get("agentlightning.attempt_id")
    sequence_id = get("agentlightning.span_sequence_id")
    if rollout_id is None and attempt_id is None and sequence_id is None:
        return _NOBODY
    return Owner(
        _id(rollout_id, "rollout", limits), _id(attempt_id, "attempt", limits), _sequence(sequence_id)
    )


def _id(value: Any, noun: str, limits: Limits) -> str | None:
    """An id as text; None for an empty one, which the published tracer writes when it names none."""
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > limits.id_chars:
        raise _Refused(f"its {noun} id has {len(text)} characters; at most {limits.id_chars} are accepted")
    if scrubbed(text) != text:
        raise _Refused(f"its {noun} id holds a character that no id may hold")
    return text


def _sequence(value: Any) -> int | None:
    """A sequence number; None, which asks for the next one, for anything that is none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 17 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None


def _filed(owner: Owner, own: Owner, trace_id: str) -> tuple[str, str, int | None, str | None]:
    """Rollout, attempt, sequence number and source of a span, of what its resource and itself name.

    Without both a rollout and an attempt it belongs to its trace's own rollout.
    """
    rollout_id, attempt_id, sequence_id = owner
    if own is not _NOBODY:
        rollout_id, attempt_id = own.rollout_id or rollout_id, own.attempt_id or attempt_id
        sequence_id = sequence_id if own.sequence_id is None else own.sequence_id
    if rollout_id is None or attempt_id is None:
        return f"ro-{trace_id}", f"at-{trace_id[:8]}", sequence_id, SOURCE
    return rollout_id, attempt_id, sequence_id, None


def _time(ns: int) -> int | None:
    """Unix nanoseconds; None for 0, which means unknown, and for a time past 2262, which no column holds."""
    return ns if 0 < ns <= _MAX_NS else None


def _assemble(
    attributes: dict[str, Any],
    owner: Owner,
    limits: Limits,
    *,
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    name: str,
    status: str,
    message: str,
    start_ns: int,
    end_ns: int,
    events: Callable[[], list[EventView]],
    encoding: str,
    payload: bytes,
) -> SpanRecord:
    """The record of one span."""
    rollout_id, attempt_id, sequence_id, source = _filed(owner, _owner(attributes.get, limits), trace_id)
    found = derive(attributes, name=name, status=status, message=message, events=events)
    columns = (
        rollout_id,
        attempt_id,
        sequence_id,
        trace_id,
        span_id,
        parent_id,
        column(name, NAME_CHARS) or "",
        found[0],
        status,
        _time(start_ns),
        _time(end_ns),
        *found[1:-1],
        RULES_VERSION,
        encoding,
        payload,
        source,
        found[-1],
    )
    # Twice as fast as calling the class, which unpacks every field by name.
    return tuple.__new__(SpanRecord, columns)  # pyright: ignore[reportUnknownMemberType]


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────

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
                        raise _Refused(resource_error)
                    records.append(_json_record(span, owner, frame, limits))
                except _Refused as refused:
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
        return _NOBODY, None
    try:
        return _owner(_json_attributes(_one(resource, "resource"), "resource").get, limits), None
    except _Refused as refused:
        return _NOBODY, f"of its resource: {refused}"


def _json_record(span: Any, owner: Owner, frame: tuple[bytes, bytes], limits: Limits) -> SpanRecord:
    raw = orjson.dumps(span)
    if len(raw) > limits.span_bytes:
        raise _Refused(f"it has {len(raw)} bytes; at most {limits.span_bytes} are accepted")
    span = _one(span, "span")
    trace_id = hex_id(_either(span, "traceId", "trace_id"), 16)
    span_id = hex_id(_either(span, "spanId", "span_id"), 8)
    if trace_id is None:
        raise _Refused("it has no valid trace id (16 bytes, not all zero)")
    if span_id is None:
        raise _Refused("it has no valid span id (8 bytes, not all zero)")
    parent = _either(span, "parentSpanId", "parent_span_id")
    parent_id = hex_id(parent, 8) if parent else None
    if parent and parent_id is None and str(parent).strip("0A="):
        raise _Refused("its parent span id is not 8 bytes")
    status = _one(span.get("status") or {}, "status")
    code = enum(status.get("code"), _CODES)
    return _assemble(
        _json_attributes(span, "span"),
        owner,
        limits,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=str(span.get("name") or ""),
        status=_STATUS[code] if 0 <= code <= 2 else "unset",
        message=str(status.get("message") or "") if code == 2 else "",
        start_ns=integer(_either(span, "startTimeUnixNano", "start_time_unix_nano")),
        end_ns=integer(_either(span, "endTimeUnixNano", "end_time_unix_nano")),
        events=_json_events(span["events"]) if span.get("events") else no_events,
        encoding="otlp-json",
        payload=frame[0] + raw + frame[1],
    )


def _one(value: Any, noun: str) -> dict[str, Any]:
    if not is_object(value):
        raise _Refused(f"the {noun} is not an object")
    return value


def _either(holder: _Object, name: str, other: str) -> Any:
    found = holder.get(name)
    return holder.get(other) if found is None else found


def _json_attributes(holder: _Object, noun: str) -> dict[str, Any]:
    """Attributes given as a list of key and value, as plain values."""
    listed: Any = holder.get("attributes") or []
    if not is_list(listed):
        raise _Refused(f"the attributes of the {noun} are not a list")
    attributes: dict[str, Any] = {}
    for item in listed:
        if not is_object(item) or not isinstance(item.get("key"), str):
            raise _Refused(f"an attribute of the {noun} has no key")
        attributes[item["key"]] = json_value(item.get("value"))
    return attributes


def _json_events(listed: Any) -> Callable[[], list[EventView]]:
    if not is_list(listed):
        raise _Refused("its events are not a list")

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


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

_REASONS_TOLD = 5


def response_protobuf(rejected: list[Rejected]) -> bytes:
    """An ExportTraceServiceResponse; with `partial_success` only when something was rejected."""
    if not rejected:
        return b""
    told = wire.ResponseMessage()
    told.partial_success.rejected_spans = len(rejected)
    told.partial_success.error_message = _why(rejected)
    return told.SerializeToString()


def response_json(rejected: list[Rejected]) -> bytes:
    """The same answer as JSON; the count is a string, as protobuf's JSON writes 64-bit integers."""
    if not rejected:
        return b"{}"
    return orjson.dumps(
        {"partialSuccess": {"rejectedSpans": str(len(rejected)), "errorMessage": _why(rejected)}}
    )


def _why(rejected: list[Rejected]) -> str:
    told = "; ".join(f"span {index}: {reason}" for index, reason in rejected[:_REASONS_TOLD])
    more = len(rejected) - _REASONS_TOLD
    return column(f"{told}; and {more} more" if more > 0 else told, 4000) or ""


def status_protobuf(message: str, code: int = 3) -> bytes:
    """A google.rpc.Status, the body of a refused protobuf request. Code 3 is INVALID_ARGUMENT."""
    return wire.StatusMessage(code=code, message=column(message, 4000) or "").SerializeToString()


def status_json(message: str, code: int = 3) -> bytes:
    """The same as JSON."""
    return orjson.dumps({"code": code, "message": message})


def warning_protobuf(message: str) -> bytes:
    """An export response that accepted everything and has something to say: nothing rejected, a message. Fits every signal."""
    text = message.encode()
    inner = b"\x12" + wire.length(len(text)) + text
    return b"\x0a" + wire.length(len(inner)) + inner


def warning_json(message: str) -> bytes:
    """The same as JSON."""
    return orjson.dumps({"partialSuccess": {"errorMessage": message}})
