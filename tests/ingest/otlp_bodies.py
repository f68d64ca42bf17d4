"""OTLP trace bodies for tests: built with the official messages, in protobuf and in the JSON of the same spans."""

import base64
import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

TRACE = bytes(range(1, 17))
SPAN = bytes(range(1, 9))
START = 1_795_209_773_772_000_001
END = 1_795_209_773_844_924_759


def any_value(value: Any) -> AnyValue:
    """A plain value as the official AnyValue."""
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(any_value(v) for v in value)
    elif isinstance(value, dict):
        made.kvlist_value.SetInParent()
        for key, inner in value.items():
            made.kvlist_value.values.add(key=key).value.CopyFrom(any_value(inner))
    return made


def fill(pairs: Any, attributes: dict[str, Any]) -> None:
    """Adds attributes to a repeated KeyValue."""
    for key, value in attributes.items():
        pairs.add(key=key).value.CopyFrom(any_value(value))


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> TracesData:
    """A request of spans under one resource and scope. A span takes name, attributes, status (code, message), events, and any field."""
    made = TracesData()
    group = made.resource_spans.add(schema_url="https://example.org/resource")
    fill(group.resource.attributes, resource or {"service.name": "shop"})
    scope = group.scope_spans.add(schema_url="https://example.org/scope")
    scope.scope.name, scope.scope.version = "tests", "1.2"
    for n, given in enumerate(spans):
        fields = dict(given)
        attributes, events = fields.pop("attributes", {}), fields.pop("events", [])
        code, message = fields.pop("status", (0, ""))
        fields = {
            "trace_id": TRACE,
            "span_id": (int.from_bytes(SPAN, "big") + n).to_bytes(8, "big"),
            "name": "step",
            "start_time_unix_nano": START,
            "end_time_unix_nano": END,
            **fields,
        }
        span = scope.spans.add(**fields)
        span.status.code, span.status.message = code, message
        fill(span.attributes, attributes)
        for name, held in events:
            fill(span.events.add(name=name, time_unix_nano=START).attributes, held)
    return made


def as_otlp_json(made: TracesData) -> bytes:
    """The request in OTLP/JSON: protobuf's JSON with ids in hex."""
    body = json_format.MessageToDict(made)
    for group in body.get("resourceSpans", []):
        for scope in group.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for holder in [span, *span.get("links", [])]:
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64decode(holder[key]).hex()
    return json.dumps(body).encode()
