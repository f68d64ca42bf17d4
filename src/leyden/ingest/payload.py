"""A stored payload → the span in the store protocol's JSON, whatever it came in as.

Lists of spans are the hot path, so what many of them share is decoded once per call. Times are float seconds, correctly
rounded from nanoseconds; bytes become hex; lists and maps nest as they came. `kind` and `scope`, which the published protocol loses,
ride along as extra fields.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from leyden.ingest import native, otlp_json, wire
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty
from leyden.ingest.text import as_json, without_surrogates

# Like "agl", and known to name the ids that its span was filed under: it is handed out as it is.
FILED = "agl-filed"

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
    """One span in the store protocol's JSON. Encodings: "otlp", "otlp-json", "agl", `FILED`."""
    return spans_json([StoredSpan(payload, encoding, rollout_id, attempt_id, sequence_id)])[0]


def spans_json(rows: Iterable[StoredSpan | tuple[bytes, str, str, str, int]]) -> list[bytes]:
    """Many spans in the store protocol's JSON, in order; rows as (payload, encoding, rollout, attempt, sequence).

    Several times faster per span than one by one.
    """
    protobuf = _FromProtobuf()
    out: list[bytes] = []
    held = list(rows)
    for row, json in zip(held, _natively(held), strict=True):
        payload, encoding, rollout_id, attempt_id, sequence_id = row
        if json is not None:
            out.append(json)
        elif encoding == FILED:
            out.append(payload)
        elif encoding == "agl":
            out.append(_agl(payload, rollout_id, attempt_id, sequence_id))
        else:
            read = protobuf.span if encoding == "otlp" else _from_json
            out.append(_json(read(payload, rollout_id, attempt_id, sequence_id)))
    return out


def _natively(rows: list[Any]) -> list[bytes | None]:
    """The JSON of those that the decoder in C reads."""
    if native.spans_json is None:
        return [None] * len(rows)
    if all(row[1] == "otlp" for row in rows):
        return native.spans_json(rows)
    found = iter(native.spans_json([row for row in rows if row[1] == "otlp"]))
    return [next(found) if row[1] == "otlp" else None for row in rows]


def _agl(payload: bytes, rollout_id: str, attempt_id: str, sequence_id: int) -> bytes:
    """The JSON as it came; encoded anew only when it was filed under other ids than it names."""
    if names_its_ids(payload, rollout_id, attempt_id, sequence_id):
        return payload
    filed = {"rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": sequence_id}
    return orjson.dumps({**orjson.loads(payload), **filed})


def names_its_ids(payload: bytes, rollout_id: str, attempt_id: str, sequence_id: int) -> bool:
    """Whether a payload in the store protocol's JSON names the ids that its span was filed under."""
    span = orjson.loads(payload)
    named = (span.get("rollout_id"), span.get("attempt_id"), span.get("sequence_id"))
    return named == (rollout_id, attempt_id, sequence_id)


# ── From protobuf ────────────────────────────────────────────────────────────────────────────────────────────────


_NO_ZEROS = bytes(8)


class _FromProtobuf:
    """Reads the protobuf payloads of one call. What many spans share is read once: attributes, resources, scopes."""

    def __init__(self) -> None:
        self._pairs = wire.Attributes()
        self._resources: dict[tuple[bytes, bytes], orjson.Fragment] = {}
        self._scopes: dict[bytes, orjson.Fragment] = {}

    def span(self, payload: bytes, rollout_id: str, attempt_id: str, sequence_id: int) -> dict[str, Any]:
        """The fields of the span in a payload."""
        group = wire.Stored.FromString(payload).group
        scoped = group.scoped
        span = scoped.span
        trace_id, span_id, parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id
        start_ns, end_ns, kind = span.start_ns, span.end_ns, span.kind
        status = span.status
        code, message = status.code, status.message
        events, links, trace_state = span.events, span.links, span.trace_state
        return {
            "rollout_id": rollout_id,
            "attempt_id": attempt_id,
            "sequence_id": sequence_id,
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_id": parent_id.hex() if parent_id and parent_id != _NO_ZEROS else None,
            "name": wire.string(span.name),
            "status": {
                "status_code": _CODES[code] if 0 <= code <= 2 else "UNSET",
                "description": wire.string(message) if message else None,
            },
            "attributes": self._attributes(span.attributes),
            "events": list(map(self._event, events)) if events else [],
            "links": list(map(self._link, links)) if links else [],
            # Dividing two integers rounds once; dividing by 1e9 would round twice and move some times by a unit in the last place.
            "start_time": start_ns / 1_000_000_000 if start_ns else None,
            "end_time": end_ns / 1_000_000_000 if end_ns else None,
            "context": {
                "trace_id": trace_id,
                "span_id": span_id,
                "is_remote": False,
                "trace_state": _trace_state(trace_state) if trace_state else {},
            },
            "parent": None,
            "resource": self._resource(group.resource, group.schema_url),
            "kind": _KINDS[kind] if 0 <= kind <= 5 else "UNSPECIFIED",
            "scope": self._scope(scoped.scope),
        }

    def _attributes(self, pairs: Any) -> dict[str, Any]:
        try:
            return self._pairs.of(pairs)
        except wire.DecodeError:
            return dict(map(self._pair, pairs))

    def _pair(self, raw: bytes) -> tuple[str, Any]:
        try:
            return self._pairs[raw]
        except wire.DecodeError:
            return "undecodable", raw.hex()

    def _read(self, message: Any, raw: bytes) -> tuple[Any, dict[str, Any]]:
        """A scope, event or link and its attributes: ingest reads none that it does not need, so some may not decode."""
        try:
            read = message.FromString(raw)
        except wire.DecodeError:
            return message(), {"undecodable": raw.hex()}
        return read, self._attributes(read.attributes)

    def _resource(self, raw: bytes, schema_url: bytes) -> orjson.Fragment:
        found = self._resources.get((raw, schema_url))
        if found is None:
            attributes = self._attributes(wire.Resource.FromString(raw).attributes)
            fields = {"attributes": attributes, "schema_url": wire.string(schema_url)}
            found = self._resources[raw, schema_url] = orjson.Fragment(_json(fields))
        return found

    def _scope(self, raw: bytes) -> orjson.Fragment:
        found = self._scopes.get(raw)
        if found is None:
            scope, attributes = self._read(wire.Scope, raw)
            name, version = wire.string(scope.name), wire.string(scope.version)
            fields = {"name": name, "version": version, "attributes": attributes}
            found = self._scopes[raw] = orjson.Fragment(_json(fields))
        return found

    def _event(self, raw: bytes) -> dict[str, Any]:
        event, attributes = self._read(wire.Event, raw)
        return {
            "name": wire.string(event.name),
            "attributes": attributes,
            "timestamp": event.time_ns / 1_000_000_000 if event.time_ns else None,
        }

    def _link(self, raw: bytes) -> dict[str, Any]:
        link, attributes = self._read(wire.Link, raw)
        context = {
            "trace_id": link.trace_id.hex(),
            "span_id": link.span_id.hex(),
            "is_remote": False,
            "trace_state": _trace_state(link.trace_state) if link.trace_state else {},
        }
        return {"context": context, "attributes": attributes}


def _trace_state(raw: bytes) -> dict[str, str]:
    """W3C trace state (`vendor=value,…`) as an object."""
    entries = (entry.partition("=") for entry in wire.string(raw).split(","))
    return {key.strip(): value.strip() for key, sign, value in entries if sign}


def _json(fields: dict[str, Any]) -> bytes:
    """JSON of plain values. NaN and the infinities, which JSON lacks, become null; bytes become hex."""
    try:
        return orjson.dumps(fields)
    except TypeError:
        return as_json(fields).encode()


# ── From OTLP/JSON ───────────────────────────────────────────────────────────────────────────────────────────────


def _from_json(payload: bytes, rollout_id: str, attempt_id: str, sequence_id: int) -> dict[str, Any]:
    group = orjson.loads(payload)["resourceSpans"][0]
    scope = group["scopeSpans"][0]
    span = scope["spans"][0]
    read = _Reading(span)
    trace_id = otlp_json.hex_id(read("traceId", "trace_id"), 16)
    span_id = otlp_json.hex_id(read("spanId", "span_id"), 8)
    status = object_or_empty(span.get("status"))
    code, kind = (
        otlp_json.enum(status.get("code"), _CODE_NAMES),
        otlp_json.enum(span.get("kind"), _KIND_NAMES),
    )
    resource = object_or_empty(group.get("resource"))
    instrumented_by = object_or_empty(scope.get("scope"))
    fields: dict[str, Any] = {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": sequence_id,
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_id": otlp_json.hex_id(read("parentSpanId", "parent_span_id"), 8),
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
    return without_surrogates(fields)


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
    return {str(item.get("key")): otlp_json.json_value(item.get("value")) for item in listed}


def _context(holder: dict[str, Any]) -> dict[str, Any]:
    read = _Reading(holder)
    entries = (entry.partition("=") for entry in str(read("traceState", "trace_state") or "").split(","))
    return {
        "trace_id": otlp_json.hex_id(read("traceId", "trace_id"), 16) or "0" * 32,
        "span_id": otlp_json.hex_id(read("spanId", "span_id"), 8) or "0" * 16,
        "is_remote": False,
        "trace_state": {key.strip(): value.strip() for key, sign, value in entries if sign},
    }


def _json_seconds(holder: dict[str, Any], name: str, other: str) -> float | None:
    ns = otlp_json.integer(_Reading(holder)(name, other))
    return ns / 1_000_000_000 if ns > 0 else None
