"""Whatever lies in a file, a reader yields importable runs and named bad records; it never raises."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.readers.reading import read

TRACE, SESSION = "0af7651916cd43dd8448eb211c80319c", "5f6c1f9e-0000-4000-8000-000000000001"
CALL = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
TALK = [
    {"role": "user", "content": [{"type": "text", "text": "go"}]},
    {"role": "assistant", "content": "a", "tool_calls": [CALL], "usage": {"prompt_tokens": 1}, "model": "m"},
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "r"},
]
NESTED = {
    "trace_id": TRACE,
    "span_id": "a",
    "span_name": "s",
    "timestamp": "2025-03-19T16:48:09Z",
    "duration": "PT1S",
    "status_code": "Ok",
    "span_attributes": {"input.value": "x"},
    "resource_attributes": {"service.name": "s"},
    "events": [{"Name": "e", "Timestamp": "2025-03-19T16:48:09", "Attributes": {"a": 1}}],
    "logs": [{"timestamp": "2025-03-19T16:48:09", "body": {"function.name": "f"}}],
}
OTLP_SPAN = {
    "traceId": TRACE,
    "spanId": "00000000000000a1",
    "name": "s",
    "kind": 1,
    "traceState": "a=b",
    "startTimeUnixNano": "1",
    "status": {"code": 1},
    "attributes": [
        {"key": "k", "value": {"kvlistValue": {"values": [{"key": "n", "value": {"intValue": "7"}}]}}}
    ],
    "events": [{"name": "e", "timeUnixNano": "1", "attributes": []}],
    "links": [{"traceId": TRACE, "spanId": "00000000000000a1"}],
}
FLAT = {
    "trace_id": TRACE,
    "span_id": "b",
    "name": "s",
    "start_time_unix_ns": 1,
    "status": {"status_code": "OK"},
    "attributes": {"task.input": "x"},
    "events": [{"name": "e", "timestamp_unix_ns": 1, "attributes": {}}],
}
BLOCK = {"type": "tool_use", "id": "t1", "name": "Agent", "input": {"prompt": "dig", "subagent_type": "x"}}
ANSWER = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}]}
COMMON = {"sessionId": SESSION, "uuid": "u", "timestamp": "2026-01-02T03:04:05Z", "isSidechain": False}
HOOK = {"session_id": SESSION, "tool_name": "Agent", "tool_use_id": "t1", "tool_input": {}, "agent_id": "a1"}

EXAMPLES: dict[str, list[Any]] = {
    "messages": [{"messages": TALK, "reward": 1, "metadata": {}, "tools": [], "id": 1}],
    "tau-bench": [
        {"task_id": 1, "trial": 0, "reward": 1.0, "traj": TALK, "info": {"task": {"user_id": "u"}}}
    ],
    "otel-json": [
        {"trace_id": TRACE, "spans": [{**NESTED, "child_spans": [{**NESTED, "span_id": "c"}]}]},
        {"run_id": "r", "task": "t", "spans": [FLAT]},
        {
            "resourceSpans": [
                {"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [OTLP_SPAN]}]}
            ]
        },
    ],
    "claude-code": [
        {"type": "user", "message": {"content": "go"}, **COMMON, "uuid": "0"},
        {
            "type": "assistant",
            "message": {"id": "m", "model": "x", "content": [BLOCK], "usage": {"input_tokens": 1}},
            **COMMON,
        },
        {
            "type": "user",
            "message": {"content": [ANSWER]},
            **COMMON,
            "uuid": "2",
            "toolUseResult": {"agentId": "a1"},
        },
        {
            "type": "user",
            "message": {"content": "dig"},
            **COMMON,
            "uuid": "3",
            "isSidechain": True,
            "agentId": "a1",
        },
        {"input": {"hook_event_name": "PreToolUse", **HOOK}, "timestamp": 1.5},
        {"hook_event_name": "PostToolUse", **HOOK, "tool_response": {"agentId": "a1"}, "duration_ms": 3},
        {"hook_event_name": "SubagentStop", **HOOK, "last_assistant_message": "x"},
    ],
}

NUMBERS = st.sampled_from([0, -1, 7, 2**63, 10**40, 1e308, -0.5])
TEXTS = st.sampled_from(
    ["", "x", "NaN", "2026", "\ud83d", "\x00", "9" * 5000, "PT9999999999999999999S", "a" * 300]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*path, key) for key, _ in items]
    return found + [deeper for key in found for deeper in places(value[key[-1]], key)]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return changed


@pytest.mark.parametrize("format", sorted(EXAMPLES))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_any_value_anywhere_is_read_without_an_exception(
    tmp_path: Path, format: str, data: st.DataObject
) -> None:
    records = EXAMPLES[format]
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from(places(records)))
        try:
            records = replaced(records, where, data.draw(VALUES))
        except (TypeError, KeyError, IndexError):
            continue  # The first replacement removed the place of the second.
    path = tmp_path / "any.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    assert read(format, path) == read(format, path)


@pytest.mark.parametrize("format", sorted(EXAMPLES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_read_up_to_the_cut(tmp_path: Path, format: str, data: st.DataObject) -> None:
    raw = b"\n".join(json.dumps(record, ensure_ascii=False).encode() for record in EXAMPLES[format])
    cut = data.draw(st.integers(0, len(raw)))
    path = tmp_path / "cut.jsonl"
    path.write_bytes(raw[:cut])
    _, bad = read(format, path)
    assert len(bad) <= 1 or format == "claude-code"


@pytest.mark.parametrize("format", sorted(EXAMPLES))
def test_the_example_records_themselves_are_read_without_a_complaint(tmp_path: Path, format: str) -> None:
    path = tmp_path / "whole.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in EXAMPLES[format]))
    runs, bad = read(format, path)
    assert runs
    assert bad == []
