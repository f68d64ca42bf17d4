"""Recorded runs and spans for the command's tests: sensible defaults, overrides for what a test is about."""

from typing import Any

from leyden.ingest.record import RecordedRun

START = 1_800_000_000.0


def span(
    rollout_id: str, span_id: str, parent_id: str | None = None, *, name: str = "work", **over: Any
) -> dict[str, Any]:
    """A span in the store protocol's JSON form, one second long."""
    return {
        "rollout_id": rollout_id,
        "attempt_id": "at-1",
        "sequence_id": 0,
        "trace_id": "0" * 31 + "1",
        "span_id": span_id,
        "parent_id": parent_id,
        "name": name,
        "status": {"status_code": "OK", "description": None},
        "attributes": {},
        "events": [],
        "links": [],
        "start_time": START,
        "end_time": START + 1,
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
    } | over


def failed_tool(rollout_id: str, span_id: str, parent_id: str | None = None, **over: Any) -> dict[str, Any]:
    """A tool call that ended in an error."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search_flights",
        "gen_ai.tool.call.arguments": '{"to": "SEA"}',
        "error.type": "TimeoutError",
    }
    wrong = {"status_code": "ERROR", "description": "no answer in 30 s"}
    defaults: dict[str, Any] = {
        "name": "execute_tool search_flights",
        "attributes": attributes,
        "status": wrong,
    }
    return span(rollout_id, span_id, parent_id, **(defaults | over))


def run(rollout_id: str, *spans: dict[str, Any], **over: Any) -> RecordedRun:
    """A finished run of ten seconds with the spans, numbered in the order given."""
    numbered = [s | {"sequence_id": i} for i, s in enumerate(spans, 1)]
    defaults: dict[str, Any] = {
        "rollout_id": rollout_id,
        "attempt_id": "at-1",
        "input": "find a flight",
        "status": "succeeded",
        "start_time": START,
        "end_time": START + 10,
        "metadata": {},
    }
    return RecordedRun(**(defaults | over), spans=numbered)
