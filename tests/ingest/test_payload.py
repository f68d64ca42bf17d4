import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.otlp_bodies import END, SPAN, START, TRACE, as_otlp_json, request
from leyden.errors import BadInput
from leyden.ingest import agl_json
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.otlp_json import decode_json
from leyden.ingest.payload import span_json, spans_json
from leyden.types import Span

IDS = {"rollout_id": "ro-1", "attempt_id": "at-1", "sequence_id": 7}
RICH = {
    "name": 'chat ä \u2028 "q"',
    "kind": 3,
    "parent_span_id": bytes([9] * 8),
    "trace_state": "vendor=x, other=y=z",
    "status": (2, "bröken"),
    "attributes": {
        "text": 'say "hi"\n',
        "long": "é" * 9000,
        "flag": True,
        "n": -3,
        "big": 2**63 - 1,
        "small": 300,
        "x": 1.5,
        "raw": b"\x00\xff",
        "list": ["a", "b"],
        "empty": "",
        "map": {"a": {"b": [1, 2]}, "bytes": b"\x01"},
        "key with ü" * 20: 1,
    },
    "events": [("exception", {"exception.type": "ValueError"})],
    "links": [{"trace_id": TRACE, "span_id": SPAN}],
}


def stored(sent, decode=decode_protobuf):
    (record,) = decode(sent.SerializeToString() if decode is decode_protobuf else as_otlp_json(sent)).records
    return record.payload, record.encoding


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
def test_an_otlp_span_reads_back_in_the_store_protocols_json(decode):
    payload, encoding = stored(request(RICH, resource={"service.name": "shop", "pid": 5}), decode)
    span = json.loads(span_json(payload, encoding, **IDS))
    Span.model_validate(span)
    context = {"trace_id": TRACE.hex(), "span_id": SPAN.hex(), "is_remote": False}
    assert span == {
        **IDS,
        "trace_id": TRACE.hex(),
        "span_id": SPAN.hex(),
        "parent_id": "09" * 8,
        "name": RICH["name"],
        "status": {"status_code": "ERROR", "description": "bröken"},
        "attributes": {
            **RICH["attributes"],
            "raw": "00ff",
            "map": {"a": {"b": [1, 2]}, "bytes": "01"},
        },
        "events": [
            {"name": "exception", "attributes": {"exception.type": "ValueError"}, "timestamp": START / 10**9}
        ],
        "links": [{"context": {**context, "trace_state": {}}, "attributes": {}}],
        "start_time": START / 10**9,
        "end_time": END / 10**9,
        "context": {**context, "trace_state": {"vendor": "x", "other": "y=z"}},
        "parent": None,
        "resource": {
            "attributes": {"service.name": "shop", "pid": 5},
            "schema_url": "https://example.org/resource",
        },
        "kind": "CLIENT",
        "scope": {"name": "tests", "version": "1.2", "attributes": {}},
    }


def test_protobuf_and_json_of_the_same_span_read_back_equal():
    sent = request(RICH)
    read = [json.loads(span_json(*stored(sent, decode), **IDS)) for decode in (decode_protobuf, decode_json)]
    assert read[0] == read[1]


def test_a_bare_span_reads_back_with_unset_status_and_null_times():
    sent = request({"start_time_unix_nano": 0, "end_time_unix_nano": 0})
    span = json.loads(span_json(*stored(sent), **IDS))
    assert (span["status"], span["start_time"], span["end_time"], span["parent_id"]) == (
        {"status_code": "UNSET", "description": None},
        None,
        None,
        None,
    )


def test_attributes_keep_the_order_they_were_sent_in():
    sent = request({"attributes": {f"k{n}": n for n in (5, 3, 9, 1)}})
    assert list(json.loads(span_json(*stored(sent), **IDS))["attributes"]) == ["k5", "k3", "k9", "k1"]


def test_numbers_that_json_lacks_become_null():
    sent = request({"attributes": {"nan": float("nan"), "inf": float("inf")}})
    assert json.loads(span_json(*stored(sent), **IDS))["attributes"] == {"nan": None, "inf": None}


@given(st.integers(1, 2**63 - 1))
def test_a_time_is_the_double_nearest_to_its_nanoseconds(ns):
    sent = request({"start_time_unix_nano": ns})
    read = json.loads(span_json(*stored(sent), **IDS))["start_time"]
    from fractions import Fraction

    assert read == float(Fraction(ns, 10**9))


def test_many_spans_read_back_as_one_by_one():
    sent = request(*({"name": f"s{n}", "attributes": {"same": "x", "n": n}} for n in range(5)))
    rows = [
        (r.payload, r.encoding, "ro-1", "at-1", n)
        for n, r in enumerate(decode_protobuf(sent.SerializeToString()).records)
    ]
    ids = {"rollout_id": "ro-1", "attempt_id": "at-1"}
    assert spans_json(rows) == [span_json(row[0], row[1], **ids, sequence_id=n) for n, row in enumerate(rows)]
    assert [json.loads(one)["name"] for one in spans_json(rows)] == ["s0", "s1", "s2", "s3", "s4"]


def test_a_scope_event_or_link_that_does_not_decode_reads_back_as_its_bytes():
    sent = request(
        {
            "attributes": {"reward": 1.0},
            "name": "agentlightning.annotation",
            "links": [{"span_id": b"other id"}],
        }
    )
    broken = sent.resource_spans[0].scope_spans[0].spans[0].links[0].SerializeToString()
    scope = sent.resource_spans[0].scope_spans[0].scope.SerializeToString()
    damaged = bytes([broken[0], 0x7F]) + broken[2:], bytes([scope[0], 0x7F]) + scope[2:]
    body = sent.SerializeToString().replace(broken, damaged[0]).replace(scope, damaged[1])
    (record,) = decode_protobuf(body).records
    span = json.loads(span_json(record.payload, record.encoding, **IDS))
    assert span["links"][0]["attributes"] == {"undecodable": damaged[0].hex()}
    assert span["scope"] == {"name": "", "version": "", "attributes": {"undecodable": damaged[1].hex()}}


def agl_span(**overrides):
    return {
        "rollout_id": "ro-1",
        "attempt_id": "at-1",
        "sequence_id": 7,
        "trace_id": "t",
        "span_id": "s",
        "parent_id": None,
        "name": "openai.chat.completion",
        "status": {"status_code": "OK", "description": None},
        "attributes": {"gen_ai.request.model": "gpt-4.1", "gen_ai.usage.prompt_tokens": 9},
        "events": [],
        "links": [],
        "start_time": 1795209773.25,
        "end_time": 1795209773.5,
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
        "extra": {"kept": [1]},
        **overrides,
    }


def record_of(span):
    return agl_json.record(orjson.dumps(span), span)


def test_a_span_of_the_store_protocol_is_kept_exactly_as_it_came():
    raw = json.dumps(agl_span(), indent=1).encode()
    record = agl_json.record(raw, json.loads(raw))
    assert (record.payload, record.encoding, record.sequence_id, record.source) == (raw, "agl", 7, None)
    assert (record.kind, record.model, record.provider, record.input_tokens) == (
        "llm",
        "gpt-4.1",
        "openai",
        9,
    )
    assert (record.start_ns, record.end_ns) == (1795209773250000000, 1795209773500000000)
    assert span_json(record.payload, "agl", **IDS) == raw


def test_a_span_filed_under_another_sequence_number_reads_back_with_it():
    record = record_of(agl_span(sequence_id=0))
    read = json.loads(span_json(record.payload, "agl", **IDS))
    assert read == agl_span(sequence_id=7)


def test_a_failed_store_protocol_span_names_its_exception():
    record = record_of(
        agl_span(
            status={"status_code": "ERROR", "description": "ValueError: bad"},
            events=[
                {
                    "name": "exception",
                    "attributes": {"exception.type": "ValueError", "exception.message": "bad"},
                }
            ],
        )
    )
    assert (record.status, record.error_type, record.error_message) == ("error", "ValueError", "bad")


@pytest.mark.parametrize(
    "bad", [{"rollout_id": "a\0"}, {"span_id": ""}, {"trace_id": "x" * 999}, {"attempt_id": None}]
)
def test_an_id_that_no_row_may_have_is_bad_input(bad):
    with pytest.raises(BadInput, match=next(iter(bad))):
        record_of(agl_span(**bad))


@pytest.mark.parametrize("time", [0, None, float("nan"), float("inf"), -5.0, 1e300, True, "x"])
def test_a_time_that_is_none_becomes_null(time):
    assert agl_json.nanoseconds(time) is None


@given(st.integers(1, 2**62))
def test_a_float_time_becomes_the_nearest_nanosecond(ns):
    from fractions import Fraction

    assert abs(Fraction(ns / 10**9) * 10**9 - agl_json.nanoseconds(ns / 10**9)) <= Fraction(1, 2)
