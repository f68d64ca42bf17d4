"""The three shapes in which traces lie on disk as JSON, each read into the same `RawSpan`.

* nested: {trace_id, spans: [{span_name, …, child_spans: […]}]}, ISO timestamps and durations, capitalised event keys;
* flat: {run_id, spans: [{name, start_time_unix_ns, …}]};
* OTLP/JSON: {resourceSpans: […]}, alone or as {path, body}; bodies of logs and metrics hold no spans.

Attributes stay as they came, whatever convention they follow, less the keys that hold the answer a run was marked against.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from leyden.ingest.readers.files import Malformed, is_list, is_map
from leyden.ingest.readers.spans import context, in_64_bits, iso_ns, json_text, period_ns, seconds, status

# What graders know and agents must not; a run that kept them would explain its own failure.
_LABELS = frozenset({"true_answer", "example.true_answer", "Annotator Metadata", "task.expected_result"})
_ID_CHARS = 256
_NOT_SPANS = frozenset({"resourceLogs", "resourceMetrics", "resourceProfiles"})
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_CODES = {
    "0": "UNSET",
    "1": "OK",
    "2": "ERROR",
    "STATUS_CODE_UNSET": "UNSET",
    "STATUS_CODE_OK": "OK",
    "STATUS_CODE_ERROR": "ERROR",
}


class RawSpan(NamedTuple):
    """One span of any shape. Times are unix nanoseconds, None when the file has none; events and links are in the
    store protocol's form; `extra` holds the kind and scope, which that form has no field for."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    status: dict[str, object]
    attributes: dict[str, Any]
    events: list[dict[str, object]]
    links: list[dict[str, object]]
    start_ns: int | None
    end_ns: int | None
    resource: dict[str, object]
    trace_state: dict[str, str]
    extra: dict[str, object]


class BadSpan(NamedTuple):
    """A span that was refused: its place in the body, counted as the body lists them, and why."""

    place: int
    why: str


def is_otlp(value: dict[str, Any]) -> bool:
    return "resourceSpans" in value or bool(_NOT_SPANS & value.keys())


def unwrapped(value: object) -> object:
    """The body of {path, body}, the form in which a recording sink keeps requests; anything else as it is."""
    return value["body"] if is_map(value) and "body" in value and "path" in value else value


def spans_of(value: dict[str, Any]) -> Iterator[RawSpan | BadSpan]:
    """The spans of one body of any shape, in its own order. Raises Malformed when the body has none of the shapes."""
    if is_otlp(value):
        listed, build = _otlp_spans(value), _otlp_span
    elif _is_nested(value):
        listed, build = _nested_spans(value), _nested_span
    else:
        listed, build = _flat_spans(value), _flat_span
    return _built(listed, build)


def _built(
    listed: Iterator[dict[str, Any]], build: Callable[[dict[str, Any]], RawSpan]
) -> Iterator[RawSpan | BadSpan]:
    for index, span in enumerate(listed):
        try:
            yield build(span)
        except Malformed as error:
            yield BadSpan(index, str(error))


# ── Nested ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_nested(value: dict[str, Any]) -> bool:
    spans = value.get("spans")
    return is_list(spans) and any(is_map(span) and "span_name" in span for span in spans)


def _nested_spans(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every span, parents before children, with the ids it takes from where it stands."""
    inherited = {"trace_id": value.get("trace_id"), "parent_span_id": None}
    waiting = [(span, inherited) for span in reversed(_list(value.get("spans"), "spans"))]
    while waiting:
        span, above = waiting.pop()
        own = {**above, **{k: v for k, v in _map(span, "span").items() if v is not None}}
        yield own
        below = {"trace_id": own["trace_id"], "parent_span_id": own.get("span_id")}
        waiting.extend((child, below) for child in reversed(_list(own.get("child_spans"), "child_spans")))


def _nested_span(span: dict[str, Any]) -> RawSpan:
    start_ns, length_ns = iso_ns(span.get("timestamp")), period_ns(span.get("duration"))
    events = [_nested_event(_map(event, "event")) for event in _list(span.get("events"), "events")]
    logs = [_log_event(_map(log, "log")) for log in _list(span.get("logs"), "logs")]
    return RawSpan(
        trace_id=_id(span, "trace_id"),
        span_id=_id(span, "span_id"),
        parent_id=_optional_id(span.get("parent_span_id")),
        name=_name(span.get("span_name")),
        status=_status(span.get("status_code"), span.get("status_message")),
        attributes=_without_labels(_map(span.get("span_attributes") or {}, "span_attributes")),
        events=events + logs,
        links=[],
        start_ns=start_ns,
        end_ns=None if start_ns is None or length_ns is None else in_64_bits(start_ns + length_ns),
        resource=_resource(span.get("resource_attributes"), service=span.get("service_name")),
        trace_state=_trace_state(span.get("trace_state")),
        extra=_extra(span.get("span_kind"), span.get("scope_name"), span.get("scope_version")),
    )


def _nested_event(event: dict[str, Any]) -> dict[str, object]:
    attributes = _map(event.get("Attributes") or {}, "event attributes")
    return _event(event.get("Name"), attributes, iso_ns(event.get("Timestamp")))


def _log_event(log: dict[str, Any]) -> dict[str, object]:
    """A log record of the span, as an event named "log" with the fields of its body as attributes."""
    body = log.get("body")
    fields = body if is_map(body) else {"body": body}
    scalars = {key: _scalar(_without_labels(value)) for key, value in fields.items()}
    return _event("log", scalars, iso_ns(log.get("timestamp")))


# ── Flat ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _flat_spans(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for span in _list(value.get("spans"), "spans"):
        own = _map(span, "span")
        yield own if own.get("trace_id") is not None else {**own, "trace_id": value.get("trace_id")}


def _flat_span(span: dict[str, Any]) -> RawSpan:
    state = _map(span.get("status") or {}, "status")
    return RawSpan(
        trace_id=_id(span, "trace_id"),
        span_id=_id(span, "span_id"),
        parent_id=_optional_id(span.get("parent_span_id")),
        name=_name(span.get("name")),
        status=_status(state.get("status_code"), state.get("description")),
        attributes=_without_labels(_map(span.get("attributes") or {}, "attributes")),
        events=[_flat_event(_map(event, "event")) for event in _list(span.get("events"), "events")],
        links=[],
        start_ns=_ns(span.get("start_time_unix_ns")),
        end_ns=_ns(span.get("end_time_unix_ns")),
        resource=_resource(span.get("resource"), service=None),
        trace_state={},
        extra=_extra(span.get("kind"), None, None),
    )


def _flat_event(event: dict[str, Any]) -> dict[str, object]:
    attributes = _map(event.get("attributes") or {}, "event attributes")
    return _event(event.get("name"), attributes, _ns(event.get("timestamp_unix_ns")))


# ── OTLP/JSON ────────────────────────────────────────────────────────────────────────────────────────────────────


def _otlp_spans(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every span of every resource and scope, with the two added under "_resource" and "_scope"."""
    for group in _list(value.get("resourceSpans"), "resourceSpans"):
        group = _map(group, "resourceSpans entry")
        for scoped in _list(group.get("scopeSpans"), "scopeSpans"):
            scoped = _map(scoped, "scopeSpans entry")
            for span in _list(scoped.get("spans"), "spans"):
                yield {**_map(span, "span"), "_resource": group, "_scope": scoped.get("scope")}


def _otlp_span(span: dict[str, Any]) -> RawSpan:
    state = _map(span.get("status") or {}, "status")
    scope = _map(span["_scope"] or {}, "scope")
    group = span["_resource"]
    resource = _attributes(_map(group.get("resource") or {}, "resource").get("attributes"))
    return RawSpan(
        trace_id=_hex(span.get("traceId"), 32, "traceId"),
        span_id=_hex(span.get("spanId"), 16, "spanId"),
        parent_id=_hex(span["parentSpanId"], 16, "parentSpanId") if span.get("parentSpanId") else None,
        name=_name(span.get("name")),
        status=_status(state.get("code", 0), state.get("message")),
        attributes=_without_labels(_attributes(span.get("attributes"))),
        events=[_otlp_event(_map(event, "event")) for event in _list(span.get("events"), "events")],
        links=[_otlp_link(_map(link, "link")) for link in _list(span.get("links"), "links")],
        start_ns=_ns(span.get("startTimeUnixNano")),
        end_ns=_ns(span.get("endTimeUnixNano")),
        resource={"attributes": resource, "schema_url": _text(group.get("schemaUrl")) or ""},
        trace_state=_trace_state(span.get("traceState")),
        extra=_extra(_otlp_kind(span.get("kind")), scope.get("name"), scope.get("version")),
    )


def _otlp_event(event: dict[str, Any]) -> dict[str, object]:
    return _event(event.get("name"), _attributes(event.get("attributes")), _ns(event.get("timeUnixNano")))


def _otlp_link(link: dict[str, Any]) -> dict[str, object]:
    trace_id, span_id = _hex(link.get("traceId"), 32, "link"), _hex(link.get("spanId"), 16, "link")
    state = _trace_state(link.get("traceState"))
    return {"context": context(trace_id, span_id, state), "attributes": _attributes(link.get("attributes"))}


def _otlp_kind(kind: object) -> object:
    return _KINDS[kind] if isinstance(kind, int) and 0 <= kind < len(_KINDS) else kind


def _attributes(pairs: object) -> dict[str, Any]:
    """OTLP's list of {key, value: {stringValue: …}} as a map."""
    found: dict[str, Any] = {}
    for pair in _list(pairs, "attributes"):
        pair = _map(pair, "attribute")
        if not isinstance(pair.get("key"), str):
            raise Malformed("has an attribute without a key")
        found[pair["key"]] = _any_value(pair.get("value"))
    return found


def _any_value(value: object) -> Any:
    """OTLP's AnyValue. Integers arrive as strings; an empty value is null; bytes stay in base64."""
    if not is_map(value) or not value:
        return None
    kind, held = next(iter(value.items()))
    if kind == "intValue":
        return _integer(held)
    if kind == "arrayValue":
        return [_any_value(item) for item in _list(_map(held, "arrayValue").get("values"), "arrayValue")]
    if kind == "kvlistValue":
        return _attributes(_map(held, "kvlistValue").get("values"))
    return held


def _hex(value: object, digits: int, name: str) -> str:
    text = _text(value) or ""
    if len(text) != digits or not set(text) <= set("0123456789abcdefABCDEF") or not text.strip("0"):
        raise Malformed(f"has no valid {name}: expected {digits} hexadecimal digits, not all zero")
    return text.lower()


# ── What the shapes share ────────────────────────────────────────────────────────────────────────────────────────


def _map(value: object, name: str) -> dict[str, Any]:
    if not is_map(value):
        raise Malformed(f"has {name} that is no object")
    return value


def _list(value: object, name: str) -> list[Any]:
    if value is None:
        return []
    if not is_list(value):
        raise Malformed(f"has {name} that is no list")
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _id(span: dict[str, Any], key: str) -> str:
    text = _text(span.get(key))
    if text is None or len(text) > _ID_CHARS:
        raise Malformed(f"has no valid {key}: expected text of 1 to {_ID_CHARS} characters")
    return text


def _optional_id(value: object) -> str | None:
    return _id({"parent_span_id": value}, "parent_span_id") if value else None


def _name(value: object) -> str:
    text = _text(value)
    if text is None:
        raise Malformed("has no name")
    return text


def _status(code: object, description: object) -> dict[str, object]:
    name = str("UNSET" if code is None else code).upper()
    name = _CODES.get(name, name)
    if name not in ("UNSET", "OK", "ERROR"):
        raise Malformed(f"has an unknown status: {str(code)[:40]!r}")
    return status(name, _text(description))


def _event(name: object, attributes: dict[str, Any], time_ns: int | None) -> dict[str, object]:
    kept = _without_labels(attributes)
    return {"name": _text(name) or "event", "attributes": kept, "timestamp": seconds(time_ns)}


def _resource(attributes: object, *, service: object) -> dict[str, object]:
    own = attributes if is_map(attributes) else {}
    named = {"service.name": service} if _text(service) else {}
    return {"attributes": {**named, **own}, "schema_url": ""}


def _extra(kind: object, scope: object, version: object) -> dict[str, object]:
    extra: dict[str, object] = {"kind": str(kind).upper()} if kind else {}
    if _text(scope):
        extra["instrumentation_scope"] = {"name": scope, "version": version}
    return extra


def _trace_state(text: object) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in (_text(text) or "").split(","))
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}


def _ns(value: object) -> int | None:
    """Unix nanoseconds as a number or, as OTLP spells 64-bit integers, a string; 0 and null mean unknown."""
    if value is None or value == "":
        return None
    ns = _integer(value)
    if not 0 <= ns < 2**63:
        raise Malformed(f"has a time outside what 64 bits hold: {str(value)[:40]}")
    return ns or None


def _integer(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or len(text) > 20 or not text.removeprefix("-").isdecimal():
        raise Malformed(f"has a number that is no integer: {text[:40]!r}")
    return int(text)


def _scalar(value: object) -> object:
    return json_text(value) if is_map(value) or is_list(value) else value


def _without_labels(value: Any) -> Any:
    """`value` less every label, at any depth; text is not searched."""
    if is_map(value):
        return {key: _without_labels(held) for key, held in value.items() if key not in _LABELS}
    return [_without_labels(held) for held in value] if is_list(value) else value
