"""Stored payloads → OTLP/JSON: what the OpenTelemetry collector's file exporter writes, one trace request a line.

Owns: the proto3 JSON of spans, written by hand (protobuf's own JSON printer takes four to seven times as long). Ids are hex, enums
numbers, 64-bit integers and times texts, bytes base64, NaN and the infinities texts.
Promises: a span that came as OTLP leaves as it came, field for field. A span of the store protocol keeps its ids, times,
attributes, events, links and status. Sent to `/v1/traces` each is filed under the rollout and attempt it has now; where a
span does not lead there by itself, its resource is given `agentlightning.rollout_id` and `.attempt_id`.
Refuses to know: files and where the payloads come from.
"""

import base64
import hashlib
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from leyden.ingest import otlp_json, wire
from leyden.ingest.agl_json import nanoseconds
from leyden.ingest.filing import DEFAULT_LIMITS, NOBODY, Owner, Refused, filed, owner_of
from leyden.ingest.payload import StoredSpan
from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty
from leyden.ingest.text import scrubbed

ROLLOUT, ATTEMPT, SEQUENCE = (
    "agentlightning.rollout_id",
    "agentlightning.attempt_id",
    "agentlightning.span_sequence_id",
)
_OURS = b"agentlightning."
_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_CODES = {"OK": 1, "ERROR": 2}
_KEPT = 256
UNDECODABLE = "undecodable"

_Row = StoredSpan | tuple[bytes, str, str, str, int | None]
_Object = dict[str, Any]


class _Piece(NamedTuple):
    """A span with what stands around it, each as JSON: neighbours of one resource and scope are written together."""

    resource: bytes
    scope: bytes
    span: bytes


def otlp_json_line(rows: Iterable[_Row]) -> bytes:
    """Spans as one OTLP/JSON trace request without a line break, in order; rows as (payload, encoding, rollout, attempt, sequence).

    A span of the store protocol whose trace or span id is no OpenTelemetry id gets one made from it, the same each time.
    """
    protobuf = _FromProtobuf()
    groups: list[bytes] = []
    scopes: list[bytes] = []
    spans: list[bytes] = []
    last: _Piece | None = None
    for payload, encoding, rollout_id, attempt_id, sequence_id in rows:
        here = Owner(rollout_id, attempt_id, sequence_id)
        if encoding == "otlp":
            piece = protobuf.piece(payload, here)
        else:
            piece = (_from_otlp_json if encoding == "otlp-json" else _from_agl)(orjson.loads(payload), here)
        if last is not None and piece.resource != last.resource:
            scopes.append(_closed(last.scope, b"spans", spans))
            groups.append(_closed(last.resource, b"scopeSpans", scopes))
            scopes, spans = [], []
        elif last is not None and piece.scope != last.scope:
            scopes.append(_closed(last.scope, b"spans", spans))
            spans = []
        spans.append(piece.span)
        last = piece
    if last is not None:
        scopes.append(_closed(last.scope, b"spans", spans))
        groups.append(_closed(last.resource, b"scopeSpans", scopes))
    return b'{"resourceSpans":[%b]}' % b",".join(groups)


def _closed(head: bytes, name: bytes, items: list[bytes]) -> bytes:
    """An object's JSON with one more member, a list."""
    return b'%b%b"%b":[%b]}' % (head[:-1], b"," if len(head) > 2 else b"", name, b",".join(items))


def _leads_to(resource: Owner, own: Owner, trace_id: str, here: Owner) -> bool:
    """Whether a span that names these is filed where it is now."""
    return filed(resource, own, trace_id)[:2] == here[:2]


def _with_ids(resource: _Object, here: Owner) -> _Object:
    """A resource whose attributes name this rollout and attempt."""
    kept = [
        item
        for item in list_or_empty(resource.get("attributes"))
        if not (is_object(item) and item.get("key") in (ROLLOUT, ATTEMPT))
    ]
    named = [_text_pair(ROLLOUT, here.rollout_id), _text_pair(ATTEMPT, here.attempt_id)]
    return {**resource, "attributes": kept + named}


def _text_pair(key: str, text: str | None) -> _Object:
    return {"key": key, "value": {"stringValue": text}}


# ── From protobuf ────────────────────────────────────────────────────────────────────────────────────────────────


class _FromProtobuf:
    """Reads the protobuf payloads of one call. What many spans share is written once: attributes, resources, scopes."""

    def __init__(self) -> None:
        self._read = wire.Attributes()
        self._pairs = _Pairs(self._read)
        self._resources: dict[tuple[bytes, bytes], tuple[_Object, bytes, Owner]] = {}
        self._scopes: dict[tuple[bytes, bytes], bytes] = {}

    def piece(self, payload: bytes, here: Owner) -> _Piece:
        """The span in a payload."""
        group = wire.Stored.FromString(payload).group
        scoped = group.scoped
        span = scoped.span
        trace_id = span.trace_id.hex()
        pairs = span.attributes[:]
        names, resource, owner = self._resource(group.resource, group.schema_url)
        is_named = any(_OURS in raw for raw in pairs)
        own = _owner(self._read.of(pairs)) if is_named else NOBODY
        if not _leads_to(owner, own, trace_id, here):
            resource = orjson.dumps({**names, "resource": _with_ids(names.get("resource", {}), here)})
            pairs = [raw for raw in pairs if self._read[raw][0] not in (ROLLOUT, ATTEMPT)]
        return _Piece(resource, self._scope(scoped.scope, scoped.schema_url), self._span(span, pairs))

    def _span(self, span: Any, pairs: list[bytes]) -> bytes:
        made: _Object = {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
        if trace_state := span.trace_state:
            made["traceState"] = wire.string(trace_state)
        if parent := span.parent_span_id:
            made["parentSpanId"] = parent.hex()
        if flags := span.flags:
            made["flags"] = flags
        if name := span.name:
            made["name"] = wire.string(name)
        if kind := span.kind:
            made["kind"] = kind
        if start_ns := span.start_ns:
            made["startTimeUnixNano"] = str(start_ns)
        if end_ns := span.end_ns:
            made["endTimeUnixNano"] = str(end_ns)
        if pairs:
            made["attributes"] = list(map(self._pairs.__getitem__, pairs))
        if dropped := span.dropped_attributes:
            made["droppedAttributesCount"] = dropped
        if events := span.events:
            made["events"] = list(map(self._event, events))
        if dropped := span.dropped_events:
            made["droppedEventsCount"] = dropped
        if links := span.links:
            made["links"] = list(map(self._link, links))
        if dropped := span.dropped_links:
            made["droppedLinksCount"] = dropped
        if span.HasField("status"):
            status = span.status
            made["status"] = _present(message=wire.string(status.message), code=status.code)
        return orjson.dumps(made)

    def _event(self, raw: bytes) -> _Object:
        try:
            event = wire.Event.FromString(raw)
        except wire.DecodeError:  # only what a span's columns need was looked at when it came
            return {"name": UNDECODABLE}
        return _present(
            timeUnixNano=_number(event.time_ns),
            name=wire.string(event.name),
            attributes=self._listed(event.attributes),
            droppedAttributesCount=event.dropped_attributes,
        )

    def _link(self, raw: bytes) -> _Object:
        try:
            link = wire.Link.FromString(raw)
        except wire.DecodeError:
            return {}
        return _present(
            traceId=link.trace_id.hex(),
            spanId=link.span_id.hex(),
            traceState=wire.string(link.trace_state),
            attributes=self._listed(link.attributes),
            droppedAttributesCount=link.dropped_attributes,
            flags=link.flags,
        )

    def _resource(self, raw: bytes, schema_url: bytes) -> tuple[_Object, bytes, Owner]:
        """What stands around the scopes of a resource, as an object and as JSON, and whose spans it holds."""
        found = self._resources.get((raw, schema_url))
        if found is None:
            resource = wire.Resource.FromString(raw)
            owner = _owner(self._read.of(resource.attributes))
            members = _present(
                resource=_present(
                    attributes=[_exact(pair) for pair in resource.attributes],
                    droppedAttributesCount=resource.dropped_attributes,
                ),
                schemaUrl=wire.string(schema_url),
            )
            found = self._resources[raw, schema_url] = members, orjson.dumps(members), owner
        return found

    def _scope(self, raw: bytes, schema_url: bytes) -> bytes:
        found = self._scopes.get((raw, schema_url))
        if found is None:
            scope = wire.Scope.FromString(raw)
            held = _present(
                name=wire.string(scope.name),
                version=wire.string(scope.version),
                attributes=self._listed(scope.attributes),
                droppedAttributesCount=scope.dropped_attributes,
            )
            found = orjson.dumps(_present(scope=held, schemaUrl=wire.string(schema_url)))
            self._scopes[raw, schema_url] = found
        return found

    def _listed(self, pairs: Any) -> list[orjson.Fragment | _Object]:
        return list(map(self._pairs.__getitem__, pairs))


def _present(**members: Any) -> _Object:
    """The members that are not their default: proto3 JSON leaves those out."""
    return {name: value for name, value in members.items() if value}


def _number(value: int) -> str | None:
    """A 64-bit integer as proto3 JSON has it."""
    return str(value) if value else None


class _Pairs(dict[bytes, "orjson.Fragment | _Object"]):
    """Attributes by their bytes, as JSON. What every span repeats is written once."""

    def __init__(self, read: wire.Attributes) -> None:
        self._read = read

    def __missing__(self, raw: bytes) -> "orjson.Fragment | _Object":
        try:
            key, value = self._read[raw]
        except wire.DecodeError:
            return {"key": UNDECODABLE, "value": {"bytesValue": base64.b64encode(raw).decode()}}
        if isinstance(value, str):
            pair: _Object = {"key": key, "value": {"stringValue": value}}
        elif isinstance(value, bool):
            pair = {"key": key, "value": {"boolValue": value}}
        elif isinstance(value, int):
            pair = {"key": key, "value": {"intValue": str(value)}}
        else:
            pair = _exact(raw)
        if len(self) >= _KEPT:
            return pair
        made = self[raw] = orjson.Fragment(orjson.dumps(pair))
        return made


def _exact(raw: bytes) -> _Object:
    """An attribute of any type, by protobuf."""
    return _key_value(wire.KeyValue.FromString(raw))


def _key_value(pair: Any) -> _Object:
    # Also when it is empty: readers refuse an attribute without one.
    made: _Object = {"key": wire.string(pair.key)}
    if pair.HasField("value"):
        made["value"] = _any(pair.value)
    return made


def _any(held: Any) -> _Object:
    field = held.WhichOneof("value")
    if field is None:
        return {}
    value = getattr(held, field)
    if field == "string_value":
        return {"stringValue": wire.string(value)}
    if field == "array_value":
        return {"arrayValue": _present(values=[_any(item) for item in value.values])}
    if field == "kvlist_value":
        return {"kvlistValue": _present(values=[_key_value(item) for item in value.values])}
    if field == "bytes_value":
        return {"bytesValue": base64.b64encode(value).decode()}
    return plain_value(value)


# ── From OTLP/JSON ───────────────────────────────────────────────────────────────────────────────────────────────


def _from_otlp_json(request: _Object, here: Owner) -> _Piece:
    """As it came, but for ids that came as base64."""
    group = dict(request["resourceSpans"][0])
    scope = dict(group.pop("scopeSpans")[0])
    span = _hex_ids(scope.pop("spans")[0])
    resource = object_or_empty(group.get("resource"))
    own, owner = _named(span), _named(resource)
    if not _leads_to(owner, own, str(span.get("traceId")), here):
        group["resource"] = _with_ids(resource, here)
        if own is not NOBODY:
            span = {**_with_ids(span, here)}
    return _Piece(orjson.dumps(group), orjson.dumps(scope), orjson.dumps(span))


def _hex_ids(span: _Object) -> _Object:
    made = dict(span)
    for name, other, size in (
        ("traceId", "trace_id", 16),
        ("spanId", "span_id", 8),
        ("parentSpanId", "parent_span_id", 8),
    ):
        given = made.pop(other, None) if made.get(name) is None else made[name]
        if isinstance(given, str) and (hexed := otlp_json.hex_id(given, size)) is not None:
            made[name] = hexed
    return made


def _named(holder: _Object) -> Owner:
    listed = list_or_empty(holder.get("attributes"))
    return _owner({str(i.get("key")): otlp_json.json_value(i.get("value")) for i in listed if is_object(i)})


# ── From the store protocol's JSON ───────────────────────────────────────────────────────────────────────────────


def _from_agl(span: _Object, here: Owner) -> _Piece:
    trace_id = _hex_id(span.get("trace_id"), 16)
    resource = object_or_empty(span.get("resource"))
    attributes = dict(object_or_empty(span.get("attributes")))
    named = dict(object_or_empty(resource.get("attributes")))
    owner, own = _owner(named), _owner(attributes)
    if not _leads_to(owner, own, trace_id, here):
        named |= {ROLLOUT: here.rollout_id, ATTEMPT: here.attempt_id}
        for key in (ROLLOUT, ATTEMPT):
            attributes.pop(key, None)
    if here.sequence_id != (owner.sequence_id if own.sequence_id is None else own.sequence_id):
        attributes[SEQUENCE] = here.sequence_id
    group = _present(
        resource=_present(attributes=_from_plain(named)), schemaUrl=_text(resource.get("schema_url"))
    )
    scope = object_or_empty(span.get("scope"))
    held = _present(
        name=_text(scope.get("name")),
        version=_text(scope.get("version")),
        attributes=_from_plain(object_or_empty(scope.get("attributes"))),
    )
    made = {"traceId": trace_id, "spanId": _hex_id(span.get("span_id"), 8), **_agl_members(span, attributes)}
    return _Piece(orjson.dumps(group), orjson.dumps(_present(scope=held)), orjson.dumps(made))


def _agl_members(span: _Object, attributes: _Object) -> _Object:
    status = object_or_empty(span.get("status"))
    state = _present(
        message=_text(status.get("description")), code=_CODES.get(str(status.get("status_code")))
    )
    parent_id = span.get("parent_id")
    return _present(
        traceState=_trace_state(span.get("context")),
        parentSpanId=_hex_id(parent_id, 8) if parent_id else None,
        name=_text(span.get("name")),
        kind=_KINDS.get(str(span.get("kind"))),
        startTimeUnixNano=_number(nanoseconds(span.get("start_time")) or 0),
        endTimeUnixNano=_number(nanoseconds(span.get("end_time")) or 0),
        attributes=_from_plain(attributes),
        events=[_agl_event(item) for item in list_or_empty(span.get("events")) if is_object(item)],
        links=[_agl_link(item) for item in list_or_empty(span.get("links")) if is_object(item)],
    ) | {"status": state}


def _agl_event(event: _Object) -> _Object:
    return _present(
        timeUnixNano=_number(nanoseconds(event.get("timestamp")) or 0),
        name=_text(event.get("name")),
        attributes=_from_plain(object_or_empty(event.get("attributes"))),
    )


def _agl_link(link: _Object) -> _Object:
    context = object_or_empty(link.get("context"))
    return _present(
        traceId=_hex_id(context.get("trace_id"), 16),
        spanId=_hex_id(context.get("span_id"), 8),
        traceState=_trace_state(context),
        attributes=_from_plain(object_or_empty(link.get("attributes"))),
    )


def _owner(attributes: _Object) -> Owner:
    try:
        return owner_of(attributes.get, DEFAULT_LIMITS)
    except Refused:
        return NOBODY


def _hex_id(value: Any, size: int) -> str:
    """An id of OpenTelemetry: the given one, or one made from what is none."""
    found = otlp_json.hex_id(value, size) if isinstance(value, str) and len(value) == 2 * size else None
    return found or hashlib.blake2b(scrubbed(str(value)).encode(), digest_size=size).hexdigest()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _trace_state(context: Any) -> str:
    entries = object_or_empty(object_or_empty(context).get("trace_state"))
    return ",".join(f"{key}={value}" for key, value in entries.items())


def _from_plain(values: _Object) -> list[_Object]:
    return [{"key": key, "value": plain_value(value)} for key, value in values.items()]


def plain_value(value: Any) -> _Object:
    """A plain JSON value as an AnyValue in OTLP/JSON; an integer of more than 64 bits becomes its text."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _ODD_FLOATS.get(value, "NaN")}
    if is_list(value):
        return {"arrayValue": _present(values=[plain_value(item) for item in value])}
    if is_object(value):
        return {"kvlistValue": _present(values=_from_plain(value))}
    return {}


_ODD_FLOATS = {math.inf: "Infinity", -math.inf: "-Infinity"}
