"""Spans read together are read as one by one: `derive` on the official decoder's attributes is the oracle."""

import string

import pytest
from bench import spans as bench_spans
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ingest.otlp_bodies import TRACE, request
from leyden.ingest import wire
from leyden.ingest.derive import EventView, derive, no_events
from leyden.ingest.dialects import DIALECTS
from leyden.ingest.dialects.dialect import COLUMNS
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.subject import decide, subject

KEYS = sorted(
    {key for dialect in DIALECTS for column in COLUMNS for key in getattr(dialect, column)}
    | {mark for dialect in DIALECTS for mark in dialect.marks}
    | {key for dialect in DIALECTS for key, _ in dialect.ttft}
    | {"error.type", "exception.type", "exception.message", "reward", "agentlightning.span_sequence_id"}
    | {"gen_ai.evaluation.score.value", "gen_ai.evaluation.name", "agentops.entity.output", "span.type"}
    | {"agentlightning.rollout_id", "agentlightning.attempt_id", "gen_ai.prompt.0.content", "ä" * 70}
)
TEXTS = [
    "",
    "chat",
    "execute_tool",
    "invoke_agent",
    "tool",
    "gpt-4.1",
    "openai.chat",
    "é" * 150,
    "a\0b",
    "<REDACTED>",
    '[{"role":"user","content":"where \\u00e9"}]',
    '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
    '{"role":"user","content":"x"}',
    '{"b":1,"a":[2]}',
    '{"error":"no such order"}',
    '{"is_error":true,"content":"bad"}',
    '{"\\u0065rror":"hidden"}',
    "Error: it broke",
    "x" * 20_000,
]
VALUES = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=8),
    st.sampled_from([True, False, 0, 1, 1.0, 127, 128, 300, 16383, 16384, -1, 2**53, 2**62]),
    st.floats(),
    st.sampled_from([b"\x00", [], ["a", 1], {"type": "reward", "value": 0.5}]),
)
NAMES = st.sampled_from(
    [
        "step",
        "chat gpt-4.1",
        "execute_tool search",
        "invoke_agent planner",
        "ai.toolCall",
        "claude_code.tool",
        "agentlightning.annotation",
        "agentlightning.operation",
        "",
        "é" * 300,
    ]
)
SPANS = st.fixed_dictionaries(
    {"name": NAMES, "attributes": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=9)},
    optional={
        "status": st.sampled_from([(1, ""), (2, "ValueError: bad")]),
        "events": st.sampled_from(
            [[("exception", {"exception.type": "KeyError"})], [("gen_ai.choice", {"message": "hi"})]]
        ),
        "parent_span_id": st.just(bytes([7] * 8)),
    },
)
# Spans of the same layouts with other values, so that what is kept of one is put to the test by the next.
BODIES = st.lists(SPANS, min_size=1, max_size=4).flatmap(
    lambda drawn: st.lists(
        st.sampled_from(drawn).flatmap(
            lambda span: st.fixed_dictionaries(
                {
                    **{key: st.just(value) for key, value in span.items()},
                    "attributes": st.fixed_dictionaries(dict.fromkeys(span["attributes"], VALUES)),
                    "name": NAMES,
                }
            )
        ),
        min_size=1,
        max_size=8,
    )
)


def plain(any_value):
    """The plain value of an official AnyValue."""
    field = any_value.WhichOneof("value")
    held = getattr(any_value, field) if field else None
    if field == "array_value":
        return [plain(item) for item in held.values]
    if field == "kvlist_value":
        return {item.key: plain(item.value) for item in held.values}
    return held


# Of so many attributes nothing is kept, and the dialect is not cut down to them.
FILLER = {f"filler.{n}": n for n in range(60)}


def slowly(sent):
    """The derived columns of each span, one by one, with nothing kept from another."""
    for span in sent.resource_spans[0].scope_spans[0].spans:
        events = [
            EventView(event.name, {a.key: plain(a.value) for a in event.attributes}.get)
            for event in span.events
        ]
        yield derive(
            {item.key: plain(item.value) for item in span.attributes} | FILLER,
            name=span.name,
            status=("unset", "ok", "error")[span.status.code],
            message=span.status.message if span.status.code == 2 else "",
            events=(lambda events=events: events) if events else no_events,
        )


def check_equal(sent):
    decoded = decode_protobuf(sent.SerializeToString())
    refused = {index for index, _ in decoded.rejected}
    wanted = [columns for n, columns in enumerate(slowly(sent)) if n not in refused]
    for record, columns in zip(decoded.records, wanted, strict=True):
        found = {field: getattr(record, field) for field in columns._fields}
        # repr: `nan` equals itself, and True is not 1.
        assert repr(found) == repr(columns._asdict())


@settings(max_examples=400, deadline=None)
@given(BODIES)
def test_spans_read_together_fill_the_columns_they_fill_one_by_one(drawn):
    check_equal(request(*drawn))


def test_the_load_generators_spans_fill_the_columns_they_fill_one_by_one():
    for body in bench_spans.bodies(100):
        check_equal(TracesData.FromString(body.fresh(b"ro-000000000001", b"at-00000001")))


@settings(max_examples=300, deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=6))
def test_what_is_kept_about_a_span_never_changes_what_the_rules_say(drawn):
    for span in [*drawn, *reversed(drawn)]:
        kept = subject(span["attributes"], span["name"])
        told = decide(span["attributes"].get, span["name"])
        assert kept._replace(dialect=told.dialect) == told


def test_an_attribute_without_a_value_is_not_taken_for_the_one_that_had_it():
    empty = request({"attributes": {"gen_ai.operation.name": "chat", "gen_ai.tool.name": "f"}})
    empty.resource_spans[0].scope_spans[0].spans[0].attributes[0].ClearField("value")
    full = request({"attributes": {"gen_ai.operation.name": "chat", "gen_ai.tool.name": "f"}})
    for sent in (empty, full, empty):
        check_equal(sent)


def test_spans_that_name_their_rollout_are_filed_there_and_a_bad_name_is_refused_alone():
    named = {"agentlightning.rollout_id": "ro-1", "agentlightning.attempt_id": "at-1"}
    sent = request(
        {"attributes": {**named, "agentlightning.span_sequence_id": 3}},
        {"attributes": {**named, "agentlightning.rollout_id": "a\0"}},
        {"attributes": {**named, "agentlightning.attempt_id": ""}},
        {"attributes": named},
    )
    decoded = decode_protobuf(sent.SerializeToString())
    assert [refused.index for refused in decoded.rejected] == [1]
    assert [(r.rollout_id, r.attempt_id, r.sequence_id, r.source) for r in decoded.records] == [
        ("ro-1", "at-1", 3, None),
        ("ro-" + TRACE.hex(), "at-" + TRACE.hex()[:8], None, "otlp"),
        ("ro-1", "at-1", None, None),
    ]


def test_a_span_with_an_attribute_that_does_not_decode_is_refused_though_no_column_needs_it():
    sent = request({"attributes": {"k": "ordinary"}}, {"attributes": {"k": "X" * 8}})
    body = sent.SerializeToString().replace(b"\x0a\x08" + b"X" * 8, b"\x0a\x7f" + b"X" * 8)
    decoded = decode_protobuf(body)
    assert [refused.index for refused in decoded.rejected] == [1]
    assert len(decoded.records) == 1


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(string.ascii_letters + "é.", max_size=140), VALUES, max_size=6), st.binary())
def test_attributes_read_by_hand_are_what_protobuf_reads(attributes, noise):
    table = wire.Attributes()
    pairs = request({"attributes": attributes}).resource_spans[0].scope_spans[0].spans[0].attributes
    raws = [pair.SerializeToString() for pair in pairs]
    for _ in range(2):
        assert repr(table.of(raws)) == repr({pair.key: plain(pair.value) for pair in pairs})
    for raw in [noise, *(raw + noise for raw in raws), *(raw[:-1] for raw in raws)]:
        try:
            wanted = wire.KeyValue.FromString(raw)
        except DecodeError:
            with pytest.raises(DecodeError):
                wire.Attributes().of([raw])
        else:
            field = wanted.value.WhichOneof("value")
            if field in (None, "int_value", "double_value", "bool_value"):
                held = getattr(wanted.value, field) if field else None
                assert repr(wire.Attributes().of([raw])) == repr({wire.string(wanted.key): held})
