import json
from collections import Counter
from pathlib import Path

import pytest

from ingest.readers.reading import named, read, recorded, write
from leyden.ingest.record import RecordedRun

TRACE = "0af7651916cd43dd8448eb211c80319c"


def statuses(runs: list[RecordedRun]) -> Counter[str]:
    return Counter(span.status.status_code for run in runs for span in named(run, ""))


def nested(id: str, *children: object, **changes: object) -> dict[str, object]:
    return {
        "timestamp": "2025-03-19T16:48:09.190915Z",
        "trace_id": TRACE,
        "span_id": id,
        "parent_span_id": None,
        "span_name": f"step {id}",
        "span_kind": "Internal",
        "span_attributes": {"openinference.span.kind": "CHAIN"},
        "duration": "PT1M48.7S",
        "status_code": "Unset",
        "status_message": "",
        "events": [],
        "logs": [],
        "child_spans": list(children),
        **changes,
    }


def otlp(*spans: object) -> dict[str, object]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    scope = {"name": "my.scope", "version": "2"}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def otlp_span(span_id: str, parent: str = "", **changes: object) -> dict[str, object]:
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": f"op {span_id[-1]}",
        "kind": 1,
        "startTimeUnixNano": "1700000000123456789",
        "endTimeUnixNano": "1700000001000000000",
        **changes,
    }


# ── Recorded traces ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_span_of_the_recorded_gaia_traces_is_read() -> None:
    runs, bad = read("otel-json", recorded("trail") / "data" / "GAIA")
    assert (len(runs), bad) == (35, [])
    assert statuses(runs) == {"OK": 729, "UNSET": 140, "ERROR": 119}
    kinds = Counter(s.attributes.get("openinference.span.kind") for run in runs for s in named(run, ""))
    assert kinds == {"LLM": 416, "CHAIN": 218, "TOOL": 161, "AGENT": 53, None: 140}
    assert all(run.rollout_id == f"ro-{named(run, '')[0].trace_id}" for run in runs)


def test_every_span_of_the_recorded_swe_bench_traces_is_read_once() -> None:
    runs, bad = read("otel-json", recorded("trail") / "data" / "SWE_Bench")
    assert (len(runs), bad) == (8, [])
    # The files list 255 spans; one of them stands twice in its file, with the same id and the same content.
    assert statuses(runs) == {"OK": 220, "UNSET": 12, "ERROR": 22}
    assert sum(run.status == "failed" for run in runs) == 3


def test_no_answer_of_the_recorded_gaia_traces_reaches_a_run() -> None:
    runs, _ = read("otel-json", recorded("trail") / "data" / "GAIA")
    text = json.dumps([run._asdict() for run in runs])
    assert '\\"true_answer\\":' not in text
    assert '\\"Annotator Metadata\\":' not in text
    logs = [event for run in runs for span in named(run, "") for event in span.events if event.name == "log"]
    assert len(logs) == 140


def test_the_recorded_single_fault_runs_are_read_without_what_was_injected() -> None:
    runs, bad = read("otel-json", recorded("agentrx-otel") / "otel")
    assert bad == []
    assert [len(run.spans) for run in runs] == [6] * 10
    text = json.dumps([run._asdict() for run in runs])
    for label in ("expected_result", "target_fault_category", "injection_node", "expected_answer"):
        assert label not in text
    assert all(run.spans[0]["name"] == "run.experiment" and run.input for run in runs)
    assert {run.status for run in runs} == {"succeeded"}


@pytest.mark.parametrize(("name", "spans", "errors"), [("otlp.jsonl", 14, 2), ("otlp2.jsonl", 13, 1)])
def test_recorded_otlp_bodies_are_one_run_per_trace_and_logs_and_metrics_are_passed_over(
    name: str, spans: int, errors: int
) -> None:
    (run,), bad = read("otel-json", recorded("claude-code-offline") / name)
    assert bad == []
    assert len(run.spans) == spans
    assert statuses([run])["ERROR"] == errors
    assert run.metadata["service"] == "claude-code"


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nested_spans_keep_parent_times_and_attributes(tmp_path: Path) -> None:
    inner = nested("b", parent_span_id=None, timestamp="2025-03-19T16:48:10", duration="PT0.5S")
    trace = {"trace_id": TRACE, "spans": [nested("a", inner)]}
    (run,), bad = read("otel-json", write(tmp_path / "t.json", json.dumps(trace, indent=1)))
    outer, child = named(run, "")
    assert bad == []
    assert (outer.start_time, outer.end_time) == (1742402889.190915, 1742402997.890915)
    assert (child.parent_id, child.start_time, child.end_time) == ("a", 1742402890.0, 1742402890.5)
    assert child.attributes == {"openinference.span.kind": "CHAIN"}
    assert (run.rollout_id, run.attempt_id) == (f"ro-{TRACE}", f"at-{TRACE[:8]}")
    assert (run.start_time, run.end_time) == (outer.start_time, outer.end_time)


def test_an_event_of_a_nested_span_is_kept_and_an_answer_in_its_log_is_not(tmp_path: Path) -> None:
    event = {"Timestamp": "2025-03-19T16:48:09.5", "Name": "exception", "Attributes": {"exception.type": "E"}}
    example = {"question": "why?", "true_answer": "SECRET", "Annotator Metadata": {"Steps": "SECRET"}}
    log = {"timestamp": "2025-03-19T16:48:11", "body": {"function.arguments": {"example": example}}}
    trace = {"trace_id": TRACE, "spans": [nested("a", events=[event], logs=[log])]}
    (run,), _ = read("otel-json", write(tmp_path / "t.json", json.dumps(trace)))
    exception, logged = named(run, "")[0].events
    assert (exception.name, exception.timestamp, exception.attributes) == (
        "exception",
        1742402889.5,
        {"exception.type": "E"},
    )
    assert json.loads(logged.attributes["function.arguments"]) == {"example": {"question": "why?"}}
    assert "SECRET" not in json.dumps(run._asdict())


@pytest.mark.parametrize(
    ("code", "status"), [("Error", "failed"), ("Ok", "succeeded"), ("Unset", "succeeded")]
)
def test_the_status_of_the_root_span_is_the_status_of_the_run(tmp_path: Path, code: str, status: str) -> None:
    inner = nested("b", status_code="Error")
    root = nested("a", inner, status_code=code, status_message="it broke" if code == "Error" else "")
    (run,), _ = read(
        "otel-json", write(tmp_path / "t.json", json.dumps({"trace_id": TRACE, "spans": [root]}))
    )
    assert (run.status, run.failure_reason) == (status, "it broke" if status == "failed" else None)


def test_one_bad_span_is_named_and_the_other_spans_are_read(tmp_path: Path) -> None:
    spans = [nested("a", nested("b", duration="3 minutes"), nested("c")), nested("d", span_id=None)]
    path = write(tmp_path / "t.json", json.dumps({"trace_id": TRACE, "spans": spans}))
    (run,), bad = read("otel-json", path)
    assert [span["span_id"] for span in run.spans] == ["a", "c"]
    assert [(record.where, record.why) for record in bad] == [
        ("span 1", "has a duration that is no ISO 8601 period: '3 minutes'"),
        ("span 3", "has no valid span_id: expected text of 1 to 256 characters"),
    ]


def test_otlp_values_of_every_kind_are_read(tmp_path: Path) -> None:
    value = {
        "kvlistValue": {"values": [{"key": "n", "value": {"arrayValue": {"values": [{"intValue": "7"}]}}}]}
    }
    attributes = [
        {"key": "text", "value": {"stringValue": "x"}},
        {"key": "count", "value": {"intValue": "42"}},
        {"key": "ratio", "value": {"doubleValue": 0.5}},
        {"key": "yes", "value": {"boolValue": True}},
        {"key": "nothing", "value": {}},
        {"key": "deep", "value": value},
        {"key": "task.expected_result", "value": {"stringValue": "SECRET"}},
    ]
    body = otlp(
        otlp_span(
            "00000000000000a1",
            attributes=attributes,
            status={"code": 2, "message": "no stock"},
            links=[{"traceId": TRACE, "spanId": "00000000000000b2"}],
            traceState="k=v",
        )
    )
    (run,), bad = read("otel-json", write(tmp_path / "t.json", json.dumps(body)))
    (span,) = named(run, "")
    assert bad == []
    assert span.attributes == {
        "text": "x",
        "count": 42,
        "ratio": 0.5,
        "yes": True,
        "nothing": None,
        "deep": {"n": [7]},
    }
    assert (span.start_time, span.resource.attributes) == (1700000000.123456789, {"service.name": "shop"})
    assert span.model_extra == {
        "kind": "INTERNAL",
        "instrumentation_scope": {"name": "my.scope", "version": "2"},
    }
    assert span.context is not None
    assert span.context.trace_state == {"k": "v"}
    assert (run.status, run.failure_reason) == ("failed", "no stock")


def test_a_trace_spread_over_bodies_and_files_is_one_run_with_each_span_once(tmp_path: Path) -> None:
    root, child, other = "00000000000000a1", "00000000000000a2", "00000000000000a3"
    write(
        tmp_path / "1.jsonl",
        {"path": "/v1/traces", "body": otlp(otlp_span(child, root))},
        {"resourceLogs": []},
    )
    late = otlp_span(other, root, startTimeUnixNano="1700000000999999999")
    write(tmp_path / "2.jsonl", otlp(late), otlp(otlp_span(root), otlp_span(child, root)))
    (run,), bad = read("otel-json", tmp_path)
    assert bad == []
    assert [span["span_id"] for span in run.spans] == [root, child, other]


def test_spans_that_are_each_others_parent_do_not_hang_the_import(tmp_path: Path) -> None:
    first, second = "00000000000000a1", "00000000000000a2"
    body = otlp(otlp_span(first, second), otlp_span(second, first))
    (run,), _ = read("otel-json", write(tmp_path / "t.json", json.dumps(body)))
    assert len(run.spans) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"traceId": "xyz"}, "has no valid traceId"),
        ({"spanId": "0" * 16}, "has no valid spanId"),
        ({"name": ""}, "has no name"),
        ({"startTimeUnixNano": "soon"}, "has a number that is no integer"),
        ({"endTimeUnixNano": "99999999999999999999"}, "has a time outside what 64 bits hold"),
        ({"status": {"code": 9}}, "has an unknown status"),
        ({"attributes": {"a": 1}}, "has attributes that is no list"),
        ({"attributes": [{"value": {"stringValue": "x"}}]}, "has an attribute without a key"),
        ({"events": [3]}, "has event that is no object"),
    ],
)
def test_a_malformed_otlp_span_is_refused_alone(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    body = otlp(otlp_span("00000000000000a1", **changes), otlp_span("00000000000000a2"))
    (run,), (bad,) = read("otel-json", write(tmp_path / "t.jsonl", body))
    assert [span["span_id"] for span in run.spans] == ["00000000000000a2"]
    assert (bad.where, why in bad.why) == ("line 1 span 0", True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"trace_id": "a", "spans": [', "ends in the middle of a JSON value (truncated?)"),
        ('{"trace_id": "a", "spans": 3}', "has spans that is no list"),
        ('{"trace_id": "a", "spans": [3]}', "has span that is no object"),
        ('{"trace_id": "a", "spans": []}', "holds no spans"),
        ('{"resourceLogs": []}', "holds no spans"),
        ('{"spans": NaN}', "NaN is not a JSON number"),
        ("", "is empty"),
        (b"\x80\x81", "is not UTF-8 (byte 0)"),
        ("3", "is not otel-json: expected a trace with spans, found a number"),
        ('[{"task_id": 1, "traj": []}]', "it looks like tau-bench: try `leyden import tau-bench`"),
        ('{"messages": []}', "it looks like messages: try `leyden import messages`"),
    ],
)
def test_a_file_that_holds_no_trace_is_named_with_the_reason(
    tmp_path: Path, content: str | bytes, why: str
) -> None:
    runs, (bad,) = read("otel-json", write(tmp_path / "t.json", content))
    assert runs == []
    assert why in bad.why


def test_many_lines_of_another_format_are_told_as_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *[{"messages": []}] * 5, otlp(otlp_span("00000000000000a1")))
    (run,), (bad,) = read("otel-json", path)
    assert len(run.spans) == 1
    assert (bad.where, bad.records) == ("line 1 to line 5", 5)
    assert "(5 records)" in str(bad)


def test_the_same_traces_imported_twice_are_equal(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", otlp(otlp_span("00000000000000a1"), otlp_span("00000000000000a2")))
    assert read("otel-json", path) == read("otel-json", path)
