import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from ingest.otlp_bodies import END, SPAN, START, TRACE, as_otlp_json, request
from leyden.errors import BadFormat, LeydenError, TooLarge
from leyden.ingest import otlp_answers
from leyden.ingest.filing import Limits
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.otlp_json import decode_json
from leyden.ingest.record import Rejected

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4.1",
    "gen_ai.response.model": "gpt-4.1-2025-04-14",
    "gen_ai.usage.input_tokens": 70_000,
    "gen_ai.usage.output_tokens": 12,
    "gen_ai.usage.cache_read.input_tokens": 300,
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Where is it?"}]}]',
    "gen_ai.response.finish_reasons": ["stop"],
    "score": 0.25,
    "nested": {"a": [1, {"b": b"\x00\xff"}], "empty": {}},
    "raw": b"\x01\x02",
    "big": 2**62,
    "minus": -5,
    "text": "ä" * 300,
}


def only(decoded):
    assert decoded.rejected == []
    (record,) = decoded.records
    return record


def test_spans_of_the_opentelemetry_sdk_come_in_whole():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests", "1.0")
    with tracer.start_as_current_span("invoke_agent planner") as parent:
        parent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"})
        child = tracer.start_span("execute_tool search")
        child.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"})
        child.record_exception(ValueError("no index 'orders'"))
        child.set_status(Status(StatusCode.ERROR, "ValueError: no index 'orders'"))
        child.end()
    finished = exporter.get_finished_spans()
    body = encode_spans(finished).SerializeToString()
    tool, agent = decode_protobuf(body).records
    assert (tool.kind, tool.tool, tool.status, tool.error_type) == ("tool", "search", "error", "ValueError")
    assert tool.error_message == "no index 'orders'"
    assert (agent.kind, agent.agent, agent.parent_id, tool.parent_id) == (
        "agent",
        "planner",
        None,
        agent.span_id,
    )
    assert tool.start_ns == finished[0].start_time
    assert tool.end_ns == finished[0].end_time
    assert tool.trace_id == format(finished[0].context.trace_id, "032x")


def test_a_payload_is_a_trace_request_of_exactly_the_span_that_was_sent():
    sent = request(
        {
            "attributes": CHAT,
            "status": (2, "boom"),
            "events": [("e", {"k": 1})],
            "trace_state": "a=b",
            "kind": 3,
        },
        {"name": "second", "attributes": {"long": "x" * 40_000}},
    )
    for n, record in enumerate(decode_protobuf(sent.SerializeToString()).records):
        kept = TracesData.FromString(record.payload)
        group = kept.resource_spans[0]
        wanted = sent.resource_spans[0]
        assert (len(kept.resource_spans), len(group.scope_spans), len(group.scope_spans[0].spans)) == (
            1,
            1,
            1,
        )
        assert group.scope_spans[0].spans[0] == wanted.scope_spans[0].spans[n]
        assert (group.resource, group.schema_url) == (wanted.resource, wanted.schema_url)
        assert group.scope_spans[0].scope == wanted.scope_spans[0].scope
        assert group.scope_spans[0].schema_url == wanted.scope_spans[0].schema_url


def test_fields_nobody_knows_yet_survive_in_the_payload():
    raw = Span(trace_id=TRACE, span_id=SPAN, name="n").SerializeToString() + b"\xaa\x06\x03new"
    body = (
        b"\x0a" + bytes([len(raw) + 4]) + b"\x12" + bytes([len(raw) + 2]) + b"\x12" + bytes([len(raw)]) + raw
    )
    assert only(decode_protobuf(body)).payload.endswith(raw)


def test_protobuf_and_json_of_the_same_spans_fill_the_same_columns():
    sent = request(
        {"attributes": CHAT, "kind": 3, "parent_span_id": bytes([9] * 8)},
        {"name": "t", "attributes": {"gen_ai.tool.name": "f", "gen_ai.tool.call.arguments": '{"b":1,"a":2}'}},
        {"status": (2, "TypeError: f() missing 1 argument"), "end_time_unix_nano": START - 5},
        {
            "start_time_unix_nano": 0,
            "end_time_unix_nano": 0,
            "events": [("gen_ai.choice", {"message": "hi"})],
        },
        {
            "attributes": {
                "gen_ai.input.messages": [{"role": "user", "content": "structured"}],
                "gen_ai.system": "x",
            }
        },
        {"name": "agentlightning.annotation", "attributes": {"agentlightning.reward.0.value": 0.5}},
        resource={"agentlightning.rollout_id": "ro-1", "agentlightning.attempt_id": "at-1"},
    )
    from_protobuf = decode_protobuf(sent.SerializeToString())
    from_json = decode_json(as_otlp_json(sent))
    assert from_protobuf.rejected == from_json.rejected == []
    assert len(from_protobuf.records) == 6
    for a, b in zip(from_protobuf.records, from_json.records, strict=True):
        assert a._replace(payload=b"", encoding="") == b._replace(payload=b"", encoding="")


def test_a_json_payload_holds_resource_scope_and_span_as_they_came():
    sent = json.loads(as_otlp_json(request({"attributes": CHAT}, {"name": "second"})))
    for n, record in enumerate(decode_json(json.dumps(sent).encode()).records):
        group, kept = sent["resourceSpans"][0], json.loads(record.payload)["resourceSpans"][0]
        assert record.encoding == "otlp-json"
        assert kept["resource"] == group["resource"]
        assert kept["scopeSpans"][0]["scope"] == group["scopeSpans"][0]["scope"]
        assert kept["scopeSpans"][0]["spans"] == [group["scopeSpans"][0]["spans"][n]]


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
@pytest.mark.parametrize(
    ("resource", "span", "expected"),
    [
        ({}, {}, (f"ro-{TRACE.hex()}", f"at-{TRACE.hex()[:8]}", None, "otlp")),
        ({"rollout_id": "r", "attempt_id": "a", "span_sequence_id": 4}, {}, ("r", "a", 4, None)),
        ({"rollout_id": "r", "attempt_id": "a"}, {"rollout_id": "r2"}, ("r2", "a", None, None)),
        ({"rollout_id": "r", "attempt_id": "a"}, {"span_sequence_id": "7"}, ("r", "a", 7, None)),
        ({"rollout_id": "r", "attempt_id": "a"}, {"span_sequence_id": -1}, ("r", "a", None, None)),
        ({"rollout_id": "r", "attempt_id": "a", "span_sequence_id": "x"}, {}, ("r", "a", None, None)),
        (
            {"rollout_id": "", "attempt_id": ""},
            {},
            (f"ro-{TRACE.hex()}", f"at-{TRACE.hex()[:8]}", None, "otlp"),
        ),
        ({"rollout_id": "r"}, {}, (f"ro-{TRACE.hex()}", f"at-{TRACE.hex()[:8]}", None, "otlp")),
        ({"rollout_id": 5, "attempt_id": 6}, {}, ("5", "6", None, None)),
    ],
)
def test_a_span_belongs_to_what_it_names_else_its_resource_else_its_trace(decode, resource, span, expected):
    sent = request(
        {"attributes": {f"agentlightning.{k}": v for k, v in span.items()}},
        resource={f"agentlightning.{k}": v for k, v in resource.items()} or {"service.name": "x"},
    )
    record = only(decode(sent.SerializeToString() if decode is decode_protobuf else as_otlp_json(sent)))
    assert (record.rollout_id, record.attempt_id, record.sequence_id, record.source) == expected


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"trace_id": b""}, "trace id"),
        ({"trace_id": bytes(16)}, "trace id"),
        ({"trace_id": b"\x01\x02"}, "trace id"),
        ({"span_id": b""}, "span id"),
        ({"span_id": bytes(8)}, "span id"),
        ({"parent_span_id": b"\x01"}, "parent span id"),
        (
            {"attributes": {"agentlightning.rollout_id": "a\0b", "agentlightning.attempt_id": "x"}},
            "rollout id",
        ),
        (
            {"attributes": {"agentlightning.rollout_id": "r", "agentlightning.attempt_id": "x" * 300}},
            "attempt id",
        ),
        ({"attributes": {"big": "x" * 5000}}, "bytes"),
    ],
)
def test_one_bad_span_is_refused_alone_and_says_why(decode, bad, why):
    sent = request({"name": "before"}, bad, {"name": "after"})
    body = sent.SerializeToString() if decode is decode_protobuf else as_otlp_json(sent)
    decoded = decode(body, limits=Limits(span_bytes=3000))
    assert [record.name for record in decoded.records] == ["before", "after"]
    ((index, reason),) = decoded.rejected
    assert index == 1
    assert why in reason


def test_a_span_whose_bytes_do_not_decode_is_refused_alone():
    good = Span(trace_id=TRACE, span_id=SPAN, name="ok").SerializeToString()
    bad = b"\x0a\x7fshort"
    spans = b"".join(b"\x12" + bytes([len(s)]) + s for s in (bad, good))
    scope = b"\x12" + bytes([len(spans)]) + spans
    decoded = decode_protobuf(b"\x0a" + bytes([len(scope)]) + scope)
    assert [record.name for record in decoded.records] == ["ok"]
    assert decoded.rejected[0].index == 0


def test_logs_posted_as_traces_are_refused_span_by_span():
    logs = LogsData()
    scope = logs.resource_logs.add().scope_logs.add()
    for n in range(3):
        scope.log_records.add(time_unix_nano=n + 1, severity_text="INFO").body.string_value = "hello"
    decoded = decode_protobuf(logs.SerializeToString())
    assert decoded.records == []
    assert len(decoded.rejected) == 3


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"not protobuf", b"{}{}"])
def test_a_body_that_is_no_protobuf_is_bad_format(body):
    with pytest.raises(BadFormat):
        decode_protobuf(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b"\xff",
        b'{"a":"\\ud800',
    ],
)
def test_a_body_that_is_no_trace_request_in_json_is_bad_format(body):
    with pytest.raises(BadFormat):
        decode_json(body)


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
def test_an_empty_body_is_an_empty_request(decode):
    assert decode(b"") == ([], [])


@pytest.mark.parametrize("opened", [b"[", b'{"a":', b'[{"a":'])
def test_json_nested_too_deep_is_refused_before_it_is_parsed(opened):
    with pytest.raises(TooLarge):
        decode_json(b'{"resourceSpans":' + opened * 200_000)


def test_brackets_inside_text_do_not_count_as_nesting():
    sent = request({"name": '[{"' * 200 + "\\"})
    assert only(decode_json(as_otlp_json(sent))).name.startswith('[{"[{"')


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
def test_nul_never_reaches_a_column(decode):
    sent = request(
        {
            "name": "a\0b",
            "status": (2, "bad\0news"),
            "attributes": {
                "gen_ai.operation.name": "chat",
                "gen_ai.agent.name": "x\0",
                "gen_ai.request.model": "\0m",
                "gen_ai.input.messages": "hi\0",
                "session.id": "\0",
            },
        }
    )
    record = only(decode(sent.SerializeToString() if decode is decode_protobuf else as_otlp_json(sent)))
    assert record.name == "a\ufffdb"
    assert not any("\0" in field for field in record if isinstance(field, str))
    assert record.error_message == "bad\ufffdnews"


def test_a_lone_surrogate_in_json_becomes_a_replacement_character():
    body = as_otlp_json(request({"name": "NAME"}, {"name": "fine"})).replace(b"NAME", b"a\\ud800b")
    first, second = decode_json(body).records
    assert (first.name, second.name) == ("a\ufffdb", "fine")
    assert json.loads(first.payload)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "a\ufffdb"


def test_text_cut_in_the_middle_of_a_character_loses_only_that_character():
    sent = request(
        {"name": "NAMEx", "attributes": {"gen_ai.operation.name": "chat", "gen_ai.agent.name": "AGNTx"}}
    )
    body = sent.SerializeToString().replace(b"NAMEx", b"NAME\xc3").replace(b"AGNTx", b"AGNT\xc3")
    record = only(decode_protobuf(body))
    assert (record.name, record.agent) == ("NAME\ufffd", "AGNT\ufffd")


@pytest.mark.parametrize("decode", [decode_protobuf, decode_json])
def test_times_are_kept_as_they_came_and_zero_means_unknown(decode):
    sent = request(
        {"start_time_unix_nano": END, "end_time_unix_nano": START},
        {"start_time_unix_nano": 0, "end_time_unix_nano": 0},
        {"start_time_unix_nano": 2**64 - 1},
    )
    records = decode(sent.SerializeToString() if decode is decode_protobuf else as_otlp_json(sent)).records
    assert [(r.start_ns, r.end_ns) for r in records] == [(END, START), (None, None), (None, END)]


def test_json_accepts_numbers_for_int64_names_for_enums_base64_ids_and_protobuf_field_names():
    span = {
        "trace_id": base64.b64encode(TRACE).decode(),
        "spanId": SPAN.hex().upper(),
        "parentSpanId": "",
        "name": "n",
        "startTimeUnixNano": START,
        "end_time_unix_nano": str(END),
        "status": {"code": "STATUS_CODE_ERROR", "message": "m"},
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 5}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "6"}},
            {"key": "none", "value": None},
        ],
    }
    record = only(
        decode_json(json.dumps({"resource_spans": [{"scope_spans": [{"spans": [span]}]}]}).encode())
    )
    assert (record.trace_id, record.span_id, record.parent_id) == (TRACE.hex(), SPAN.hex(), None)
    assert (record.start_ns, record.end_ns, record.status) == (START, END, "error")
    assert (record.input_tokens, record.output_tokens) == (5, 6)


def test_columns_are_bounded_whatever_is_sent():
    long = "x" * 10_000
    sent = request(
        {
            "name": long,
            "status": (2, long),
            "attributes": {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": long,
                "gen_ai.agent.name": long,
                "error.type": long,
                "gen_ai.tool.call.arguments": long,
                "gen_ai.tool.call.result": long,
            },
        }
    )
    record = only(decode_protobuf(sent.SerializeToString()))
    assert [len(f or "") for f in (record.name, record.tool, record.agent, record.error_type)] == [256] * 4
    assert (len(record.error_message), len(record.input_preview), len(record.output_preview)) == (
        500,
        200,
        200,
    )


def test_an_answer_names_a_partial_success_only_when_something_was_refused():
    assert otlp_answers.response_protobuf([]) == b""
    assert otlp_answers.response_json([]) == b"{}"
    rejected = [Rejected(n, "it is bad") for n in range(7)]
    told = ExportTraceServiceResponse.FromString(otlp_answers.response_protobuf(rejected)).partial_success
    assert told.rejected_spans == 7
    assert told.error_message.startswith("span 0: it is bad; span 1")
    said = json.loads(otlp_answers.response_json(rejected))["partialSuccess"]
    assert said == {"rejectedSpans": "7", "errorMessage": told.error_message}


def test_a_refused_body_is_answered_with_a_google_rpc_status():
    from google.rpc.status_pb2 import Status

    told = Status.FromString(otlp_answers.status_protobuf("no protobuf"))
    assert (told.code, told.message) == (3, "no protobuf")


def _refuses_politely(decode, body):
    try:
        decoded = decode(body)
    except LeydenError:
        return
    for record in decoded.records:
        assert record.trace_id
        assert record.span_id
        assert not any("\0" in field for field in record if isinstance(field, str))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_anything_but_our_own_errors(body):
    _refuses_politely(decode_protobuf, body)
    _refuses_politely(decode_json, body)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_request_never_raises_anything_but_our_own_errors(data):
    body = bytearray(request({"attributes": CHAT, "events": [("e", {"k": "v"})]}).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _refuses_politely(decode_protobuf, bytes(body))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["stringValue", "intValue", "arrayValue", "kvlistValue", "values", "key"]), inner
        )
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "status": JSON | st.fixed_dictionaries({"code": JSON, "message": JSON}),
            "name": JSON,
            "startTimeUnixNano": JSON,
            "parentSpanId": JSON,
            "kind": JSON,
            "events": JSON | st.lists(st.fixed_dictionaries({"name": JSON, "attributes": JSON}), max_size=2),
            "attributes": JSON
            | st.lists(
                st.fixed_dictionaries(
                    {
                        "key": st.sampled_from(
                            [
                                *CHAT,
                                "error.type",
                                "gen_ai.tool.name",
                                "agentlightning.reward.0.value",
                                "span.type",
                            ]
                        ),
                        "value": JSON,
                    }
                ),
                max_size=4,
            ),
        },
    )
)
def test_a_span_of_any_json_shape_is_kept_or_refused_alone(shape):
    span = {"traceId": TRACE.hex(), "spanId": SPAN.hex(), **shape}
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span]}]}]}
    decoded = decode_json(json.dumps(body).encode())
    assert len(decoded.records) + len(decoded.rejected) == 1


def _recorded(name: str) -> Path:
    folder = Path(os.environ.get("LEYDEN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / name).exists():
        if os.environ.get("LEYDEN_REQUIRE_ALL") == "1":
            pytest.fail(f"recorded runs are missing: {folder / name}")
        pytest.skip("recorded runs are not here")
    return folder / name


def test_recorded_spans_of_claude_code_come_in_whole():
    records = []
    for name in ("otlp.jsonl", "otlp2.jsonl"):
        for line in _recorded("claude-code-offline").joinpath(name).read_text().splitlines():
            sent = json.loads(line)
            if sent["path"] == "/v1/traces":
                decoded = decode_json(json.dumps(sent["body"]).encode())
                assert decoded.rejected == []
                records += decoded.records
    kinds = {record.name: record.kind for record in records}
    assert {record.dialect for record in records} == {"claude_code"}
    assert kinds["claude_code.interaction"] == "agent"
    assert kinds["claude_code.llm_request"] == "llm"
    assert kinds["claude_code.tool"] == "tool"
    failed = [record for record in records if record.fingerprint]
    assert {(record.name, record.error_type) for record in failed} == {
        ("claude_code.tool.execution", "tool_error")
    }
    calls = [record for record in records if record.kind == "llm"]
    assert all(call.input_tokens >= call.cache_read_tokens + 1000 for call in calls)
    assert all(call.model and call.provider == "anthropic" and call.ttft_ms for call in calls)


def test_recorded_spans_of_agentrx_fill_the_same_columns_through_otlp():
    for file in sorted(_recorded("agentrx-otel").joinpath("otel").glob("*.json"))[:3]:
        run = json.loads(file.read_text())
        spans = [
            {
                "name": span["name"],
                "trace_id": bytes.fromhex(span["trace_id"]),
                "span_id": bytes.fromhex(span["span_id"]),
                "attributes": {k: v for k, v in span["attributes"].items() if v is not None},
                "status": (
                    2 if span["status"]["status_code"] == "ERROR" else 1,
                    span["status"]["description"] or "",
                ),
            }
            for span in run["spans"]
        ]
        decoded = decode_protobuf(request(*spans).SerializeToString())
        assert decoded.rejected == []
        assert [r.name for r in decoded.records] == [s["name"] for s in run["spans"]]
        assert all((r.fingerprint is not None) >= (r.status == "error") for r in decoded.records)
