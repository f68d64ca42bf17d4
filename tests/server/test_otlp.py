"""OpenTelemetry in over HTTP, as the stock SDK sends it to a real server on a real port."""

import base64
import gzip
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode
from starlette.testclient import TestClient

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def wire(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url) as client:
        yield client


def start_rollout(wire: Any) -> dict[str, Any]:
    answer = wire.post("/v1/agl/rollouts", json={"input": "book a flight"})
    assert answer.status_code == 201
    return answer.json()


def named(rollout: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Resource attributes that name a rollout and its attempt."""
    ids = {"rollout_id": rollout["rollout_id"], "attempt_id": rollout["attempt"]["attempt_id"], **more}
    return {f"agentlightning.{name}": value for name, value in ids.items()}


def agent_spans(resource: dict[str, Any], *, fail: bool = False) -> list[ReadableSpan]:
    """Finished spans of one agent: a root with a model call and a tool call under it, in the order they ended."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "desk", **resource}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("desk-agent", "1.2")
    with tracer.start_as_current_span("invoke_agent desk", attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"}) as root:  # fmt: skip
        chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 3}  # fmt: skip
        with tracer.start_as_current_span("chat gpt-4o", attributes=chat):
            pass
        tool = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "error.type": "KeyError",
        }
        with tracer.start_as_current_span("execute_tool lookup", attributes=tool) as span:
            span.add_event("exception", {"exception.type": "KeyError", "exception.message": "no flight 7"})
            span.set_status(Status(StatusCode.ERROR, "no flight 7"))
        if fail:
            root.set_status(Status(StatusCode.ERROR, "gave up"))
    return list(kept.get_finished_spans())


def body_of(spans: list[ReadableSpan]) -> ExportTraceServiceRequest:
    return encode_spans(spans)


def export(url: str, spans: list[ReadableSpan], **options: Any) -> None:
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", **options)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    exporter.shutdown()


def summaries(wire: Any, rollout_id: str) -> list[dict[str, Any]]:
    return wire.get(f"/api/rollouts/{rollout_id}/spans").json()["items"]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_the_stock_exporter_delivers_into_the_rollout_that_its_resource_names(
    server_url: str, wire: httpx.Client, compression: Compression
) -> None:
    rollout = start_rollout(wire)
    export(server_url, agent_spans(named(rollout)), compression=compression)
    rows = summaries(wire, rollout["rollout_id"])
    assert [(row["sequence_id"], row["kind"], row["name"]) for row in rows] == [
        (1, "llm", "chat gpt-4o"), (2, "tool", "execute_tool lookup"), (3, "agent", "invoke_agent desk"),
    ]  # fmt: skip
    model, tool, _ = rows
    assert (model["model"], model["input_tokens"], model["output_tokens"]) == ("gpt-4o", 12, 3)
    assert (tool["tool"], tool["status"], tool["error_message"]) == ("lookup", "error", "no flight 7")
    seen = wire.get(f"/v1/agl/rollouts/{rollout['rollout_id']}").json()
    assert (seen["status"], seen["attempt"]["status"]) == ("running", "running")


def test_a_sequence_number_of_the_resource_is_kept_and_the_next_free_one_follows_it(
    server_url: str, wire: httpx.Client
) -> None:
    rollout = start_rollout(wire)
    export(server_url, agent_spans(named(rollout, span_sequence_id=41))[:1])
    export(server_url, agent_spans(named(rollout))[:1])
    assert [row["sequence_id"] for row in summaries(wire, rollout["rollout_id"])] == [41, 42]
    body = {"rollout_id": rollout["rollout_id"], "attempt_id": rollout["attempt"]["attempt_id"]}
    assert wire.post("/v1/agl/spans/next", json=body).json() == {"sequence_id": 43}


def test_an_empty_rollout_id_counts_as_none(server_url: str, wire: httpx.Client) -> None:
    empty = {"agentlightning.rollout_id": "", "agentlightning.attempt_id": ""}
    spans = agent_spans(empty)
    export(server_url, spans)
    trace_id = f"{spans[0].context.trace_id:032x}"
    assert len(summaries(wire, f"ro-{trace_id}")) == 3


@pytest.mark.parametrize(("fail", "status"), [(False, "succeeded"), (True, "failed")])
def test_a_trace_that_names_no_rollout_gets_one_that_ends_with_its_root_span(
    server_url: str, wire: httpx.Client, fail: bool, status: str
) -> None:
    spans = agent_spans({}, fail=fail)
    rollout_id = f"ro-{spans[0].context.trace_id:032x}"
    export(server_url, spans[:2])
    open_ = wire.get(f"/api/rollouts/{rollout_id}").json()
    assert (open_["status"], open_["source"], open_["end_time"]) == ("running", "otlp", None)
    export(server_url, spans[2:])
    ended = wire.get(f"/v1/agl/rollouts/{rollout_id}").json()
    root = spans[2]
    assert root.start_time is not None
    assert root.end_time is not None
    assert (ended["status"], ended["attempt"]["status"]) == (status, status)
    assert (ended["start_time"], ended["end_time"]) == (root.start_time / 1e9, root.end_time / 1e9)


def test_a_span_that_comes_after_its_root_is_kept_and_reopens_nothing(
    server_url: str, wire: httpx.Client
) -> None:
    first, second, root = agent_spans({})
    export(server_url, [first, root])
    export(server_url, [second])
    rollout_id = f"ro-{root.context.trace_id:032x}"
    assert len(summaries(wire, rollout_id)) == 3
    assert wire.get(f"/v1/agl/rollouts/{rollout_id}").json()["status"] == "succeeded"


def test_exporting_the_same_spans_again_changes_nothing(server_url: str, wire: httpx.Client) -> None:
    rollout = start_rollout(wire)
    spans = agent_spans(named(rollout))
    export(server_url, spans)
    before = summaries(wire, rollout["rollout_id"])
    export(server_url, spans)
    export(server_url, spans[::-1])
    assert summaries(wire, rollout["rollout_id"]) == before


def test_bad_spans_are_counted_and_refused_alone(wire: httpx.Client) -> None:
    rollout = start_rollout(wire)
    good = body_of(agent_spans(named(rollout)))
    unknown = body_of(
        agent_spans({"agentlightning.rollout_id": "ro-nobody", "agentlightning.attempt_id": "at-x"})[:2]
    )
    broken = body_of(agent_spans(named(rollout))[:1])
    broken.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    whole = ExportTraceServiceRequest()
    for part in (unknown, good, broken):
        whole.resource_spans.extend(part.resource_spans)
    answer = wire.post("/v1/traces", content=whole.SerializeToString(), headers=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_spans) == (200, 3)
    assert "trace id" in told.error_message or "ro-nobody" in told.error_message
    assert len(summaries(wire, rollout["rollout_id"])) == 3


def test_a_batch_without_a_bad_span_is_answered_without_partial_success(wire: httpx.Client) -> None:
    body = body_of(agent_spans(named(start_rollout(wire)))).SerializeToString()
    answer = wire.post("/v1/traces", content=body, headers=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (
        200,
        "application/x-protobuf",
        b"",
    )
    assert wire.post("/v1/traces", content=b"", headers=PROTOBUF).status_code == 200


def as_otlp_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """The JSON encoding of OTLP: protobuf's, but with ids in hex."""

    def with_hex(value: Any) -> Any:
        if isinstance(value, list):
            return [with_hex(item) for item in value]
        if not isinstance(value, dict):
            return value
        ids = ("traceId", "spanId", "parentSpanId")
        return {k: base64.b64decode(v).hex() if k in ids else with_hex(v) for k, v in value.items()}

    return with_hex(MessageToDict(request))


@pytest.mark.parametrize("zipped", [False, True])
def test_json_and_protobuf_fill_the_same_columns(wire: httpx.Client, zipped: bool) -> None:
    rollouts = [start_rollout(wire) for _ in range(2)]
    request = body_of(agent_spans({}))

    def owned(rollout: dict[str, Any]) -> ExportTraceServiceRequest:
        copy = ExportTraceServiceRequest.FromString(request.SerializeToString())
        for key, value in named(rollout).items():
            copy.resource_spans[0].resource.attributes.add(key=key).value.string_value = value
        return copy

    assert (
        wire.post("/v1/traces", content=owned(rollouts[0]).SerializeToString(), headers=PROTOBUF).status_code
        == 200
    )
    content = httpx.Request("POST", "http://x", json=as_otlp_json(owned(rollouts[1]))).content
    headers = {"Content-Type": "application/json; charset=utf-8"} | (
        {"Content-Encoding": "gzip"} if zipped else {}
    )
    answer = wire.post("/v1/traces", content=gzip.compress(content) if zipped else content, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})
    by_wire = [
        [
            {k: v for k, v in row.items() if k not in ("rollout_id", "attempt_id")}
            for row in summaries(wire, r["rollout_id"])
        ]
        for r in rollouts
    ]
    assert len(by_wire[0]) == 3
    assert by_wire[0] == by_wire[1]
    full = [
        wire.get(f"/api/rollouts/{r['rollout_id']}/attempts/{r['attempt']['attempt_id']}/spans/{row['span_id']}").json()
        for r in rollouts for row in by_wire[0][:1]
    ]  # fmt: skip
    assert full[0]["attributes"] == full[1]["attributes"]
    assert full[0]["events"] == full[1]["events"]


def test_a_body_that_is_no_trace_request_is_refused_in_the_format_it_came(wire: httpx.Client) -> None:
    answer = wire.post("/v1/traces", content=b"\xff\xff\xff", headers=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/x-protobuf")
    answer = wire.post("/v1/traces", content=b"[1]", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert "message" in answer.json()
    assert wire.post("/v1/traces", content=b"", headers={"Content-Type": "text/plain"}).status_code == 400
    half = gzip.compress(b"x" * 1000)[:-20]
    assert (
        wire.post("/v1/traces", content=half, headers={**PROTOBUF, "Content-Encoding": "gzip"}).status_code
        == 400
    )


def test_logs_sent_to_the_traces_address_leave_nothing_behind(wire: httpx.Client) -> None:
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(severity_text="INFO", time_unix_nano=1)
    record.body.string_value = "hello"
    answer = wire.post("/v1/traces", content=logs.SerializeToString(), headers=PROTOBUF)
    told = (
        ExportTraceServiceResponse.FromString(answer.content).partial_success
        if answer.status_code == 200
        else None
    )
    assert answer.status_code == 400 or (told is not None and told.rejected_spans > 0)
    as_json = wire.post(
        "/v1/traces",
        json={"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]},
    )
    assert as_json.status_code == 400
    assert wire.get("/api/info").json()["counts"] == {"rollouts": 0, "attempts": 0, "spans": 0}


@pytest.mark.parametrize(
    ("path", "request_type", "response_type"),
    [
        ("/v1/logs", ExportLogsServiceRequest, ExportLogsServiceResponse),
        ("/v1/metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    ],
)
def test_logs_and_metrics_are_answered_with_a_warning_that_they_are_not_kept(
    wire: httpx.Client, path: str, request_type: Any, response_type: Any
) -> None:
    answer = wire.post(path, content=request_type().SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200
    assert "not kept" in response_type.FromString(answer.content).partial_success.error_message
    answer = wire.post(path, json={})
    assert (answer.status_code, "not kept" in answer.json()["partialSuccess"]["errorMessage"]) == (200, True)


def test_spans_are_stored_alike_on_both_databases(http: TestClient) -> None:
    rollout = start_rollout(http)
    body = body_of(agent_spans(named(rollout)) * 40).SerializeToString()
    assert http.post("/v1/traces", content=body, headers=PROTOBUF).status_code == 200
    many = ExportTraceServiceRequest()
    for _ in range(40):
        many.resource_spans.extend(body_of(agent_spans(named(rollout))).resource_spans)
    assert http.post("/v1/traces", content=many.SerializeToString(), headers=PROTOBUF).status_code == 200
    rows = summaries(http, rollout["rollout_id"])
    assert len(rows) == 3 + 120
    assert len({row["sequence_id"] for row in rows}) == len(rows)
    assert sum(row["input_tokens"] or 0 for row in rows) == 12 * 41
