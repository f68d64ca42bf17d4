"""A stored payload → the span in the store protocol's JSON, whatever it came in as.

Lists of spans are the hot path, so JSON is spliced from fragments: an attribute that every span repeats is encoded once per
call. Times are float seconds, correctly rounded from nanoseconds; bytes become hex; lists and maps nest as they came.
`kind` and `scope`, which the published protocol loses, ride along as extra fields.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from leyden.ingest import otlp, wire
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty
from leyden.ingest.text import as_json, without_surrogates

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_CODES = ("UNSET", "OK", "ERROR")
_KIND_NAMES = {f"SPAN_KIND_{name}": n for n, name in enumerate(_KINDS)}
_CODE_NAMES = {f"STATUS_CODE_{name}": n for n, name in enumerate(_CODES)}


class StoredSpan(NamedTuple):
    """What the store keeps of a span: its payload, and the ids it was filed under."""

    payload: bytes
    encoding: str
    rollout_id: str
    attempt_id: str
    sequence_id: int


def span_json(payload: bytes, encoding: str, *, rollout_id: str, attempt_id: str, sequence_id: int) -> bytes:
    """One span in the store protocol's JSON. Encodings: "otlp", "otlp-json", "agl"."""
    return spans_json([StoredSpan(payload, encoding, rollout_id, attempt_id, sequence_id)])[0]


def spans_json(rows: Iterable[StoredSpan | tuple[bytes, str, str, str, int]]) -> list[bytes]:
    """Many spans in the store protocol's JSON, in order; rows as (payload, encoding, rollout, attempt, sequence).

    Several times faster per span than one by one.
    """
    fragments = _Fragments()
    heads: dict[tuple[str, str], bytes] = {}
    out: list[bytes] = []
    for payload, encoding, rollout_id, attempt_id, sequence_id in rows:
        if encoding == "agl":
            out.append(_agl(payload, rollout_id, attempt_id, sequence_id))
            continue
        head = heads.get((rollout_id, attempt_id))
        if head is None:
            head = heads[rollout_id, attempt_id] = b'{"rollout_id":%b,"attempt_id":%b,"sequence_id":' % (
                _text(rollout_id),
                _text(attempt_id),
            )
        read = _from_protobuf(payload, fragments) if encoding == "otlp" else _from_json(payload)
        out.append(b"%b%d,%b" % (head, sequence_id, read))
    return out


def _agl(payload: bytes, rollout_id: str, attempt_id: str, sequence_id: int) -> bytes:
    """The JSON as it came; encoded anew only when it was filed under other ids than it names."""
    span = orjson.loads(payload)
    filed = {"rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": sequence_id}
    if all(span.get(key) == value for key, value in filed.items()):
        return payload
    return orjson.dumps({**span, **filed})


# ── From protobuf ────────────────────────────────────────────────────────────────────────────────────────────────


def _text(value: str) -> bytes:
    return orjson.dumps(value)


def _any(value: Any) -> bytes:
    """JSON of a plain attribute value. NaN and the infinities, which JSON lacks, become null."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return as_json(value).encode()


# What every span repeats stands in the first; keeping more costs more than it saves.
_KEPT_FRAGMENTS = 256


class _Fragments(dict[bytes, bytes]):
    """`"key":value` for the bytes of a KeyValue, each encoded once."""

    def __init__(self) -> None:
        self._pairs = wire.Attributes()
        self._names: dict[str, bytes] = {}
        self.resources: dict[tuple[bytes, bytes], bytes] = {}
        self.scopes: dict[bytes, bytes] = {}

    def __missing__(self, raw: bytes) -> bytes:
        try:
            # Not by index: the bytes would be hashed and looked up a second time.
            key, value = self._pairs.__missing__(raw)
        except wire.DecodeError:
            key, value = "undecodable", raw.hex()
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = orjson.dumps(key) + b":"
        fragment = name + (orjson.dumps(value) if type(value) is str else _any(value))
        if len(self) < _KEPT_FRAGMENTS:
            self[raw] = fragment
        return fragment

    def object(self, pairs: Any) -> bytes:
        """A JSON object of attributes."""
        return b"{%b}" % b",".join(map(self.__getitem__, pairs[:]))

    def resource(self, raw: bytes, schema_url: bytes) -> bytes:
        """The fields `resource` of a span."""
        found = self.resources.get((raw, schema_url))
        if found is None:
            found = self.resources[raw, schema_url] = b'"resource":{"attributes":%b,"schema_url":%b}' % (
                self.object(wire.Resource.FromString(raw).attributes),
                _text(wire.string(schema_url)),
            )
        return found

    def scope(self, raw: bytes) -> bytes:
        """The field `scope` of a span."""
        found = self.scopes.get(raw)
        if found is None:
            scope = wire.Scope.FromString(raw)
            found = self.scopes[raw] = b'"scope":{"name":%b,"version":%b,"attributes":%b}' % (
                _text(wire.string(scope.name)),
                _text(wire.string(scope.version)),
                self.object(scope.attributes),
            )
        return found


_NO_ZEROS = bytes(8)
_SPAN = (
    b'"trace_id":"%b","span_id":"%b","parent_id":%b,"name":%b,"status":{"status_code":"%b","description":%b},'
    b'"attributes":%b,"events":%b,"links":%b,"start_time":%b,"end_time":%b,'
    b'"context":{"trace_id":"%b","span_id":"%b","is_remote":false,"trace_state":%b},"parent":null,%b,"kind":"%b",%b}'
)
_CODE_BYTES = tuple(code.encode() for code in _CODES)
_KIND_BYTES = tuple(kind.encode() for kind in _KINDS)


def _from_protobuf(payload: bytes, fragments: _Fragments) -> bytes:
    group = wire.Traces.FromString(payload).resource_spans[0]
    scope = group.scope_spans[0]
    span = wire.Span.FromString(scope.spans[0])
    trace_id, span_id, parent_id = (
        span.trace_id.hex().encode(),
        span.span_id.hex().encode(),
        span.parent_span_id,
    )
    events, links, trace_state = span.events[:], span.links[:], span.trace_state
    status = span.status
    code, message, kind = status.code, status.message, span.kind
    return _SPAN % (
        trace_id,
        span_id,
        b'"%b"' % parent_id.hex().encode() if parent_id and parent_id != _NO_ZEROS else b"null",
        _text(wire.string(span.name)),
        _CODE_BYTES[code] if 0 <= code <= 2 else b"UNSET",
        _text(wire.string(message)) if message else b"null",
        fragments.object(span.attributes),
        b"[%b]" % b",".join(_event(raw, fragments) for raw in events) if events else b"[]",
        b"[%b]" % b",".join(_link(raw, fragments) for raw in links) if links else b"[]",
        _seconds(span.start_ns),
        _seconds(span.end_ns),
        trace_id,
        span_id,
        _trace_state(trace_state) if trace_state else b"{}",
        fragments.resource(group.resource, group.schema_url),
        _KIND_BYTES[kind] if 0 <= kind <= 5 else b"UNSPECIFIED",
        fragments.scope(scope.scope),
    )


def _seconds(ns: int) -> bytes:
    # Dividing two integers rounds once; dividing by 1e9 would round twice and move some times by a unit in the last place.
    return orjson.dumps(ns / 1_000_000_000) if ns else b"null"


def _trace_state(raw: bytes) -> bytes:
    """W3C trace state (`vendor=value,…`) as an object."""
    entries = (entry.partition("=") for entry in wire.string(raw).split(","))
    return orjson.dumps({key.strip(): value.strip() for key, sign, value in entries if sign})


def _event(raw: bytes, fragments: _Fragments) -> bytes:
    event = wire.Event.FromString(raw)
    return b'{"name":%b,"attributes":%b,"timestamp":%b}' % (
        _text(wire.string(event.name)),
        fragments.object(event.attributes),
        _seconds(event.time_ns),
    )


def _link(raw: bytes, fragments: _Fragments) -> bytes:
    link = wire.Link.FromString(raw)
    return (
        b'{"context":{"trace_id":"%b","span_id":"%b","is_remote":false,"trace_state":%b},"attributes":%b}'
        % (
            link.trace_id.hex().encode(),
            link.span_id.hex().encode(),
            _trace_state(link.trace_state) if link.trace_state else b"{}",
            fragments.object(link.attributes),
        )
    )


# ── From OTLP/JSON ───────────────────────────────────────────────────────────────────────────────────────────────


def _from_json(payload: bytes) -> bytes:
    group = orjson.loads(payload)["resourceSpans"][0]
    scope = group["scopeSpans"][0]
    span = scope["spans"][0]
    read = _Reading(span)
    trace_id = otlp.hex_id(read("traceId", "trace_id"), 16)
    span_id = otlp.hex_id(read("spanId", "span_id"), 8)
    status = object_or_empty(span.get("status"))
    code, kind = otlp.enum(status.get("code"), _CODE_NAMES), otlp.enum(span.get("kind"), _KIND_NAMES)
    resource = object_or_empty(group.get("resource"))
    instrumented_by = object_or_empty(scope.get("scope"))
    fields: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_id": otlp.hex_id(read("parentSpanId", "parent_span_id"), 8),
        "name": str(span.get("name") or ""),
        "status": {
            "status_code": _CODES[code] if 0 <= code <= 2 else "UNSET",
            "description": str(status["message"]) if status.get("message") else None,
        },
        "attributes": _attributes(span),
        "events": [
            {
                "name": str(event.get("name") or ""),
                "attributes": _attributes(event),
                "timestamp": _json_seconds(event, "timeUnixNano", "time_unix_nano"),
            }
            for event in _dicts(span.get("events"))
        ],
        "links": [
            {"context": _context(link), "attributes": _attributes(link)} for link in _dicts(span.get("links"))
        ],
        "start_time": _json_seconds(span, "startTimeUnixNano", "start_time_unix_nano"),
        "end_time": _json_seconds(span, "endTimeUnixNano", "end_time_unix_nano"),
        "context": _context(span),
        "parent": None,
        "resource": {
            "attributes": _attributes(resource),
            "schema_url": str(group.get("schemaUrl") or ""),
        },
        "kind": _KINDS[kind] if 0 <= kind <= 5 else "UNSPECIFIED",
        "scope": {
            "name": str(instrumented_by.get("name") or ""),
            "version": str(instrumented_by.get("version") or ""),
            "attributes": _attributes(instrumented_by),
        },
    }
    return _any(without_surrogates(fields))[1:]


class _Reading:
    """Reads a field by its JSON name or its protobuf name; both are legal."""

    def __init__(self, holder: dict[str, Any]) -> None:
        self._holder = holder

    def __call__(self, name: str, other: str) -> Any:
        found = self._holder.get(name)
        return self._holder.get(other) if found is None else found


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in list_or_empty(value) if is_object(item)]


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    listed = _dicts(holder.get("attributes"))
    return {str(item.get("key")): otlp.json_value(item.get("value")) for item in listed}


def _context(holder: dict[str, Any]) -> dict[str, Any]:
    read = _Reading(holder)
    entries = (entry.partition("=") for entry in str(read("traceState", "trace_state") or "").split(","))
    return {
        "trace_id": otlp.hex_id(read("traceId", "trace_id"), 16) or "0" * 32,
        "span_id": otlp.hex_id(read("spanId", "span_id"), 8) or "0" * 16,
        "is_remote": False,
        "trace_state": {key.strip(): value.strip() for key, sign, value in entries if sign},
    }


def _json_seconds(holder: dict[str, Any], name: str, other: str) -> float | None:
    ns = otlp.integer(_Reading(holder)(name, other))
    return ns / 1_000_000_000 if ns > 0 else None
