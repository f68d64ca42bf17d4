"""Payloads → OTLP/JSON, against protobuf's own JSON printer and against what our own collector makes of it."""

import base64
import json
import math
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ingest.otlp_bodies import as_otlp_json, fill, request
from leyden.ingest import agl_json
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.otlp_json import decode_json
from leyden.ingest.otlp_out import otlp_json_line
from leyden.ingest.payload import StoredSpan
from leyden.ingest.record import SpanRecord

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(texts, values, max_size=5)
counts = st.integers(0, 2**32 - 1)
nanoseconds = st.integers(0, 2**64 - 1)


@st.composite
def traces(draw: st.DrawFn) -> TracesData:
    """A request with every field of a span that OTLP has."""
    number = draw(st.integers(1, 3))
    spans: list[dict[str, Any]] = [
        {
            "attributes": draw(attributes),
            "trace_state": draw(st.sampled_from(["", "a=b,c=d"])),
            "parent_span_id": draw(st.sampled_from([b"", bytes(range(2, 10))])),
            "kind": draw(st.integers(0, 5)),
            "name": draw(texts),
            "start_time_unix_nano": draw(nanoseconds),
            "end_time_unix_nano": draw(nanoseconds),
            "flags": draw(counts),
            "dropped_attributes_count": draw(counts),
            "dropped_events_count": draw(counts),
            "dropped_links_count": draw(counts),
            "events": [(draw(texts), draw(attributes))] * draw(st.integers(0, 2)),
            "status": (draw(st.integers(0, 2)), draw(texts)),
        }
        for _ in range(number)
    ]
    made = request(*spans, resource=draw(attributes) or None)
    made.resource_spans[0].resource.dropped_attributes_count = draw(counts)
    scope = made.resource_spans[0].scope_spans[0]
    fill(scope.scope.attributes, draw(attributes))
    for span in scope.spans:
        link = span.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)), trace_state="x=y", flags=1)
        fill(link.attributes, draw(attributes))
    return made


def rows(records: list[SpanRecord]) -> list[StoredSpan]:
    return [
        StoredSpan(r.payload, r.encoding, r.rollout_id, r.attempt_id, r.sequence_id or n)
        for n, r in enumerate(records, 1)
    ]


def official(made: TracesData) -> dict[str, Any]:
    """The JSON of protobuf's own printer, with ids in hex and enums as numbers."""
    body = json_format.MessageToDict(made, use_integers_for_enums=True)
    for group in body["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for holder in [span, *span.get("links", [])]:
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64decode(holder[key]).hex()
    return keyed(body)


def keyed(value: Any) -> Any:
    """With the keys of attributes spelt out where they are empty; the printer leaves them out, and readers refuse that."""
    if isinstance(value, list):
        return [keyed(item) for item in value]
    if not isinstance(value, dict):
        return value
    members = {name: keyed(item) for name, item in value.items()}
    is_pairs = [name for name in ("attributes", "values") if isinstance(members.get(name), list)]
    for name in is_pairs:
        members[name] = [
            {"key": "", **item} if name == "attributes" or "value" in item else item for item in members[name]
        ]
    return members


@given(traces())
def test_what_came_as_protobuf_leaves_as_protobufs_own_json_has_it(made: TracesData) -> None:
    decoded = decode_protobuf(made.SerializeToString())
    assert decoded.rejected == []
    assert json.loads(otlp_json_line(rows(decoded.records))) == official(made)


@given(traces())
def test_what_came_as_json_leaves_as_it_came(made: TracesData) -> None:
    body = keyed(orjson.loads(as_otlp_json(made)))
    decoded = decode_json(orjson.dumps(body))
    assert json.loads(otlp_json_line(rows(decoded.records))) == body


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_floats_that_json_lacks_are_texts(odd: float) -> None:
    made = request({"attributes": {"x": odd, "list": [odd]}})
    records = decode_protobuf(made.SerializeToString()).records
    assert json.loads(otlp_json_line(rows(records))) == official(made)


def test_spans_of_one_resource_and_scope_are_written_together_in_order() -> None:
    made = request({"name": "a"}, {"name": "b"}, {"name": "c"})
    other = request({"name": "d", "span_id": bytes(range(5, 13))}, resource={"service.name": "other"})
    records = [r for m in (made, other) for r in decode_protobuf(m.SerializeToString()).records]
    groups = json.loads(otlp_json_line(rows(records)))["resourceSpans"]
    assert [[s["name"] for s in g["scopeSpans"][0]["spans"]] for g in groups] == [["a", "b", "c"], ["d"]]


def agl(**over: Any) -> bytes:
    span = {
        "rollout_id": "ro-1", "attempt_id": "at-1", "sequence_id": 7, "trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "2",
        "parent_id": "0" * 15 + "3", "name": "step", "status": {"status_code": "ERROR", "description": "broke"},
        "attributes": {"a": 1, "b": 1.5, "c": True, "d": "é", "e": [1, {"x": None}], "f": None, "g": 2**63},
        "events": [{"name": "e", "attributes": {"k": "v"}, "timestamp": 1.5}],
        "links": [{"context": {"trace_id": "0" * 31 + "9", "span_id": "0" * 15 + "9", "is_remote": False, "trace_state": {}},
                   "attributes": {}}],
        "start_time": 1_800_000_000.25, "end_time": None, "context": None, "parent": None,
        "resource": {"attributes": {"service.name": "shop"}, "schema_url": "https://example.org"},
    }  # fmt: skip
    return orjson.dumps(span | over)


def test_a_span_of_the_store_protocol_is_filed_where_it_was() -> None:
    payload = agl()
    line = otlp_json_line([StoredSpan(payload, "agl", "ro-1", "at-1", 7)])
    (again,) = decode_json(line).records
    before = agl_json.record(payload, orjson.loads(payload))
    kept = [name for name in SpanRecord._fields if name not in ("payload", "encoding")]
    assert {n: getattr(again, n) for n in kept} == {n: getattr(before, n) for n in kept}


def test_a_span_filed_under_other_ids_than_it_names_leads_to_those() -> None:
    resource = {"agentlightning.rollout_id": "ro-a", "agentlightning.attempt_id": "at-a"}
    body = request({"attributes": resource}, resource=resource)
    for record in (
        *decode_protobuf(body.SerializeToString()).records,
        *decode_json(as_otlp_json(body)).records,
    ):
        line = otlp_json_line([StoredSpan(record.payload, record.encoding, "ro-b", "at-b", 1)])
        assert decode_json(line).records[0][:2] == ("ro-b", "at-b")


def test_ids_that_are_none_of_opentelemetry_become_some() -> None:
    rows = [StoredSpan(agl(span_id="step 1", trace_id="t"), "agl", "ro-1", "at-1", 1)] * 2
    first, again = decode_json(otlp_json_line(rows)).records
    assert first.trace_id == again.trace_id
    assert len(first.span_id) == 16


def test_no_spans_are_an_empty_request() -> None:
    assert otlp_json_line([]) == b'{"resourceSpans":[]}'
