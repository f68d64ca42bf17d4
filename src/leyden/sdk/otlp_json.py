"""OpenTelemetry spans as an OTLP/JSON request body. Pure; runs in the export thread.

Promises: one span that cannot be encoded is left out alone and counted; text that is no valid Unicode is mended.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, StatusCode

from leyden.sdk.capture import encode as encode_json

_STATUS = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}


def encode(spans: Iterable[ReadableSpan]) -> tuple[bytes, int, int]:
    """The body, how many spans it holds, and how many could not be encoded."""
    resources: dict[int, tuple[Resource, dict[InstrumentationScope | None, list[str]]]] = {}
    held = failed = 0
    for span in spans:
        try:
            text = encode_json(_span(span))
        except Exception:
            failed += 1
            continue
        _, scopes = resources.setdefault(id(span.resource), (span.resource, {}))
        scopes.setdefault(span.instrumentation_scope, []).append(text)
        held += 1
    parts = [
        f'{{"resource":{encode_json({"attributes": _attributes(resource.attributes)})},"scopeSpans":['
        + ",".join(
            f'{{"scope":{encode_json(_scope(scope))},"spans":[{",".join(texts)}]}}'
            for scope, texts in scopes.items()
        )
        + f'],"schemaUrl":{encode_json(resource.schema_url)}}}'
        for resource, scopes in resources.values()
    ]
    body = '{"resourceSpans":[' + ",".join(parts) + "]}"
    # A lone surrogate cannot be encoded; replaced, it costs one character instead of the batch.
    return body.encode("utf-8", "replace"), held, failed


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = cast(SpanContext, span.context)
    out: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes),
        "flags": int(context.trace_flags),
    }
    if span.parent is not None:
        out["parentSpanId"] = f"{span.parent.span_id:016x}"
    if context.trace_state:
        out["traceState"] = context.trace_state.to_header()
    if span.status.status_code is not StatusCode.UNSET:
        out["status"] = {"code": _STATUS[span.status.status_code], "message": span.status.description or ""}
    if span.events:
        out["events"] = [
            {"name": e.name, "timeUnixNano": str(e.timestamp), "attributes": _attributes(e.attributes)}
            for e in span.events
        ]
    if span.links:
        out["links"] = [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _attributes(link.attributes),
            }
            for link in span.links
        ]
    if span.dropped_attributes:
        out["droppedAttributesCount"] = span.dropped_attributes
    return out


def _scope(scope: InstrumentationScope | None) -> dict[str, Any]:
    return {"name": scope.name, "version": scope.version or ""} if scope else {}


def _attributes(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in (attributes or {}).items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        # OTLP has 64-bit integers; a longer one would have the whole request refused.
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": hex(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(cast(Mapping[str, Any], value))}}
    if isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(item) for item in cast(Sequence[Any], value)]}}
    return {} if value is None else {"stringValue": str(value)}


def _not_finite(value: float) -> str:
    """The spelling protobuf's JSON mapping has for what JSON cannot say."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
