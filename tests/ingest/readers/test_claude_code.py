import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.readers.reading import named, read, recorded, tools, write
from leyden.errors import BadInput
from leyden.ingest.readers import READERS
from leyden.ingest.record import RecordedRun
from leyden.types import Span

SESSION = "5f6c1f9e-0000-4000-8000-000000000001"
USAGE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 30,
    "output_tokens": 7,
}


def line(type: str, content: object, second: int, **changes: object) -> dict[str, object]:
    """A line of a session log; `message` holds what else the message has."""
    message = {"role": type, "content": content, **changes.pop("message", {})}  # type: ignore[dict-item]
    return {
        "type": type,
        "message": message,
        "uuid": f"u{second}",
        "parentUuid": f"u{second - 1}",
        "timestamp": f"2026-01-02T03:04:{second:02}.500Z",
        "sessionId": SESSION,
        "isSidechain": False,
        "cwd": "/work",
        **changes,
    }


def said(block: dict[str, object], second: int, *, id: str = "msg_1", **changes: object) -> dict[str, object]:
    message = {"id": id, "model": "claude-x", "usage": USAGE, "stop_reason": "tool_use"}
    return line("assistant", [block], second, message=message, **changes)


def use(id: str, name: str = "Bash", **input: object) -> dict[str, object]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def result(
    id: str, content: object, second: int, *, error: bool = False, **changes: object
) -> dict[str, object]:
    block = {"type": "tool_result", "tool_use_id": id, "content": content, "is_error": error}
    return line("user", [block], second, **changes)


def hook(event: str, **fields: object) -> dict[str, object]:
    return {"session_id": SESSION, "hook_event_name": event, "cwd": "/work", **fields}


def one(path: Path) -> RecordedRun:
    (run,), bad = read("claude-code", path)
    assert bad == []
    return run


def by_result(run: RecordedRun) -> dict[str, Span]:
    return {span.attributes["gen_ai.tool.call.id"]: span for span in tools([run])}


# ── The real CLI ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real session; see scripted_claude.py."""
    if importlib.util.find_spec("claude_agent_sdk") is None:
        reason = "claude-agent-sdk is not installed"
        pytest.fail(reason) if os.environ.get("LEYDEN_REQUIRE_ALL") == "1" else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("claude")
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("CLAUDE", "ANTHROPIC"))}
    script = Path(__file__).with_name("scripted_claude.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=ours, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_real_session_log_becomes_one_run_with_its_sub_agent_under_the_call(real: Path) -> None:
    run = one(real / "home" / ".claude" / "projects")
    assert (run.input, run.status) == ("MAINPROMPT please", "succeeded")
    spans = {span.span_id: span for span in named(run, "")}
    calls = tools([run])
    assert sorted((call.name, call.status.status_code) for call in calls) == [
        ("execute_tool Agent", "UNSET"),
        ("execute_tool Bash", "ERROR"),
        ("execute_tool Bash", "ERROR"),
        ("execute_tool Bash", "UNSET"),
    ]
    (sub,) = named(run, "invoke_agent general-purpose")
    assert spans[sub.parent_id or ""].name == "execute_tool Agent"
    (failed,) = [call for call in calls if call.attributes["gen_ai.agent.name"] == "general-purpose"]
    assert (failed.parent_id, failed.status.description) == (sub.span_id, "Exit code 1")
    assert all(
        span.start_time and span.end_time and span.start_time <= span.end_time for span in spans.values()
    )


def test_each_real_model_call_is_counted_once_with_its_cached_input(real: Path) -> None:
    run = one(real / "home" / ".claude" / "projects")
    calls = named(run, "chat")
    # Three or four answers of the main agent (one more when it heard of the sub-agent's end) and two of the sub-agent.
    assert len(calls) in (5, 6)
    for call in calls:
        assert call.attributes["gen_ai.usage.input_tokens"] == 1230
        assert call.attributes["gen_ai.usage.cache_read.input_tokens"] == 200
        assert call.attributes["gen_ai.usage.cache_write.input_tokens"] == 30
        assert call.attributes["gen_ai.usage.output_tokens"] == 40
    first = json.loads(calls[0].attributes["gen_ai.output.messages"])[0]
    assert [part["type"] for part in first["parts"]] == ["text", "tool_call", "tool_call"]


def test_real_hooks_name_the_same_run_and_tool_calls_as_the_session_log(real: Path) -> None:
    log, hooks = one(real / "home" / ".claude" / "projects"), one(real / "hooks.jsonl")
    assert hooks.rollout_id == log.rollout_id
    seen = {call.span_id: (call.name, call.status) for call in tools([log])}
    assert {call.span_id: (call.name, call.status) for call in tools([hooks])} == seen


def test_no_system_prompt_of_a_real_session_is_kept(real: Path) -> None:
    text = json.dumps(one(real / "home" / ".claude" / "projects")._asdict())
    assert "You are a Claude agent" not in text
    assert "system-reminder" not in text


# ── Session logs ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_usage_repeated_on_each_block_of_an_answer_counts_once(tmp_path: Path) -> None:
    partial = {**USAGE, "output_tokens": 1}
    first = said({"type": "text", "text": "Let me see."}, 1)
    first["message"] = {**first["message"], "usage": partial}  # type: ignore[dict-item]
    run = one(
        write(tmp_path / "s.jsonl", line("user", "go", 0), first, said(use("t1"), 2), said(use("t2"), 3))
    )
    (call,) = named(run, "chat")
    assert call.attributes["gen_ai.usage.input_tokens"] == 2130
    assert call.attributes["gen_ai.usage.output_tokens"] == 7
    assert (call.start_time, call.end_time) == (1767323040.5, 1767323043.5)


def test_results_are_joined_with_calls_by_id_in_whatever_order_they_come(tmp_path: Path) -> None:
    run = one(
        write(
            tmp_path / "s.jsonl",
            line("user", "go", 0),
            said(use("t1", command="one"), 1),
            said(use("t2", command="two"), 2),
            result("t2", "second", 3),
            result("t1", [{"type": "text", "text": "broken"}], 4, error=True),
        )
    )
    calls = by_result(run)
    assert json.loads(calls["t1"].attributes["gen_ai.tool.call.arguments"]) == {"command": "one"}
    assert (calls["t1"].status.status_code, calls["t1"].status.description) == ("ERROR", "broken")
    assert (calls["t1"].start_time, calls["t1"].end_time) == (1767323041.5, 1767323044.5)
    assert (calls["t2"].status.status_code, calls["t2"].attributes["gen_ai.tool.call.result"]) == (
        "UNSET",
        "second",
    )


def test_a_call_without_a_result_stays_open(tmp_path: Path) -> None:
    run = one(write(tmp_path / "s.jsonl", line("user", "go", 0), said(use("t1"), 1)))
    (call,) = tools([run])
    assert (call.end_time, call.status.status_code) == (None, "UNSET")
    assert "gen_ai.tool.call.result" not in call.attributes


def test_a_side_chain_of_an_older_log_hangs_under_the_call_that_gave_its_prompt(tmp_path: Path) -> None:
    inner = {"id": "msg_2", "isSidechain": True}
    run = one(
        write(
            tmp_path / "s.jsonl",
            line("user", "go", 0),
            said(use("t0", "Task", prompt="other"), 1),
            said(use("t1", "Task", prompt="dig", subagent_type="digger"), 2),
            line("user", "dig", 3, parentUuid=None, isSidechain=True),
            said(use("t2"), 4, **inner),  # type: ignore[arg-type]
            result("t2", "dug", 5, isSidechain=True),
            result("t1", "found it", 6),
        )
    )
    (sub,) = named(run, "invoke_agent digger")
    calls = by_result(run)
    assert sub.parent_id == calls["t1"].span_id
    assert calls["t2"].parent_id == sub.span_id
    assert run.input == "go"


def test_a_sub_agent_in_its_own_file_belongs_to_the_session(tmp_path: Path) -> None:
    agent = {"isSidechain": True, "agentId": "a1"}
    write(
        tmp_path / f"{SESSION}.jsonl",
        line("user", "go", 0),
        said(use("t1", "Agent", prompt="dig"), 1),
        result("t1", "started", 2, toolUseResult={"agentId": "a1", "status": "async_launched"}),
    )
    own = [line("user", "dig deeper", 3, **agent), said(use("t2"), 4, id="msg_2", **agent)]
    write(tmp_path / SESSION / "subagents" / "agent-a1.jsonl", *own)
    whole, single = one(tmp_path), one(tmp_path / f"{SESSION}.jsonl")
    (sub,) = named(whole, "invoke_agent subagent")
    assert sub.parent_id == by_result(whole)["t1"].span_id
    assert by_result(whole)["t2"].parent_id == sub.span_id
    assert whole == single


def test_a_sub_agent_file_beside_its_session_is_joined_and_one_without_a_session_is_a_run(
    tmp_path: Path,
) -> None:
    agent = {"isSidechain": True, "agentId": "a1"}
    write(tmp_path / f"{SESSION}.jsonl", line("user", "go", 0), said(use("t1", "Task", prompt="dig"), 1))
    write(tmp_path / "agent-a1.jsonl", line("user", "dig", 3, **agent))
    write(
        tmp_path / "agent-b1.jsonl",
        line("user", "alone", 3, **{**agent, "sessionId": "gone"}),
        said(use("t9"), 4, sessionId="gone", **agent),
    )
    (run, orphan), bad = read("claude-code", tmp_path)
    (sub,) = named(run, "invoke_agent subagent")
    assert (bad, sub.parent_id) == ([], by_result(run)["t1"].span_id)
    assert orphan.metadata["session_id"] == "gone"


def test_lines_a_resumed_session_repeats_count_once(tmp_path: Path) -> None:
    lines = [line("user", "go", 0), said({"type": "text", "text": "done"}, 1)]
    run = one(write(tmp_path / "s.jsonl", *lines, *lines))
    (call,) = named(run, "chat")
    assert len(json.loads(call.attributes["gen_ai.output.messages"])[0]["parts"]) == 1


def test_a_session_that_grew_is_the_same_run_with_more_spans(tmp_path: Path) -> None:
    lines = [line("user", "go", 0), said(use("t1"), 1), result("t1", "ok", 2)]
    before = one(write(tmp_path / "s.jsonl", *lines))
    after = one(write(tmp_path / "s.jsonl", *lines, said(use("t2"), 3, id="msg_2")))
    assert before.rollout_id == after.rollout_id
    assert {span["span_id"] for span in before.spans} < {span["span_id"] for span in after.spans}


def test_an_answer_that_is_an_api_error_fails_the_run(tmp_path: Path) -> None:
    error = line("assistant", [{"type": "text", "text": "API Error: 529"}], 1, isApiErrorMessage=True)
    error["message"] = {**error["message"], "id": "m", "model": "<synthetic>"}  # type: ignore[dict-item]
    run = one(write(tmp_path / "s.jsonl", line("user", "go", 0), error))
    (call,) = named(run, "chat")
    assert (run.status, run.failure_reason) == ("failed", "API Error: 529")
    assert (call.name, call.status.description) == ("chat", "API Error: 529")


def test_a_session_the_user_broke_off_is_cancelled(tmp_path: Path) -> None:
    stop = line("user", [{"type": "text", "text": "[Request interrupted by user]"}], 2)
    run = one(write(tmp_path / "s.jsonl", line("user", "go", 0), said(use("t1"), 1), stop))
    assert run.status == "cancelled"


def test_what_the_cli_tells_itself_is_not_the_prompt(tmp_path: Path) -> None:
    meta = line("user", "Caveat: local commands follow", 0, isMeta=True)
    assert one(write(tmp_path / "s.jsonl", meta, line("user", "go", 1))).input == "go"


def test_an_image_does_not_bring_its_bytes_along(tmp_path: Path) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 5000}}
    run = one(
        write(tmp_path / "s.jsonl", line("user", [image], 0), said(use("t"), 1), result("t", [image], 2))
    )
    text = json.dumps(run._asdict())
    assert "A" * 100 not in text
    assert "<5000 characters omitted>" in text


def test_lines_of_other_types_are_passed_over(tmp_path: Path) -> None:
    others = [
        {"type": "summary", "summary": "Fix it", "leafUuid": "u1"},
        {"type": "attachment", "attachment": {}, "sessionId": SESSION, "uuid": "x"},
        {"type": "system", "subtype": "stop_hook_summary", "sessionId": SESSION},
        {"type": "a-type-of-tomorrow", "sessionId": SESSION},
    ]
    run = one(write(tmp_path / "s.jsonl", *others, line("user", "go", 0), said(use("t1"), 1)))
    assert len(run.spans) == 3


@pytest.mark.parametrize(
    ("bad_line", "why"),
    [
        ({"type": "user", "sessionId": SESSION}, "has a user line without a message"),
        ({"type": "user", "message": {"content": "x"}}, "names no session"),
        (line("user", [{"text": "x"}], 9), "has a content block without a type"),
        (
            line("assistant", [{"type": "tool_use", "name": "B"}], 9),
            "has a tool_use block without id or name",
        ),
        (line("user", [{"type": "tool_result"}], 9), "has a tool_result block without tool_use_id"),
        (
            line("user", "x", 9, timestamp="yesterday"),
            "has a timestamp that is no ISO 8601 time: 'yesterday'",
        ),
        (hook("PreToolUse", tool_name="Bash"), "has a PreToolUse hook without tool_use_id or tool_name"),
        ({"hook_event_name": "Stop"}, "names no session"),
        ('{"type": "user", "message": {"con', "ends in the middle of a JSON value (truncated?)"),
        (b'{"type": "user\xff"}', "is not UTF-8 (byte 14)"),
        ('{"type": "user", "cost": NaN}', "NaN is not a JSON number"),
        ([1, 2], "is not claude-code: expected lines of a session log or hook records, found a list"),
        ({"resourceSpans": []}, "it looks like otel-json: try `leyden import otel-json`"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_of_the_session_is_read(
    tmp_path: Path, bad_line: object, why: str
) -> None:
    path = write(tmp_path / "s.jsonl", line("user", "go", 0), bad_line, said(use("t1"), 1))
    (run,), (bad,) = read("claude-code", path)
    assert len(run.spans) == 3
    assert (bad.where, why in bad.why) == ("line 2", True)


def test_a_file_without_a_session_is_named(tmp_path: Path) -> None:
    write(tmp_path / "empty.jsonl")
    write(tmp_path / "meta.jsonl", line("user", "note", 0, isMeta=True))
    write(tmp_path / "stub.jsonl", {"type": "summary", "summary": "x"})
    runs, bad = read("claude-code", tmp_path)
    assert runs == []
    assert [(record.file.name, record.why) for record in bad] == [
        ("empty.jsonl", "holds no message of a session and no hook record"),
        ("meta.jsonl", "holds no prompt, model call or tool call"),
        ("stub.jsonl", "holds no message of a session and no hook record"),
    ]


def test_without_sessions_in_the_default_place_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    reader = READERS["claude-code"]
    assert reader.default is not None
    with pytest.raises(BadInput, match="kept no session here"):
        reader.read(reader.default)


# ── Hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_recorded_hooks_give_the_calls_and_failures_that_were_staged() -> None:
    run = one(recorded("claude-code-offline") / "hooks.jsonl")
    outcomes = [(call.name, call.status.status_code) for call in tools([run])]
    assert outcomes == [
        ("execute_tool Bash", "ERROR"),
        ("execute_tool Bash", "UNSET"),
        ("execute_tool Read", "ERROR"),
    ]
    assert tools([run])[2].status.description == tools([run])[2].attributes["gen_ai.tool.call.result"]
    assert (run.start_time, run.end_time, run.status) == (None, None, "succeeded")


def test_the_recorded_background_sub_agent_hangs_under_its_launch() -> None:
    run = one(recorded("claude-code-offline") / "hooks2.jsonl")
    launch, inner = tools([run])
    (sub,) = named(run, "invoke_agent general-purpose")
    assert (launch.name, inner.name) == ("execute_tool Agent", "execute_tool Bash")
    assert (sub.parent_id, inner.parent_id) == (launch.span_id, sub.span_id)
    assert inner.end_time is None
    assert "gen_ai.tool.call.result" not in inner.attributes


def test_hooks_are_read_bare_or_wrapped_and_with_the_time_a_recorder_added(tmp_path: Path) -> None:
    call = {"tool_use_id": "t1", "tool_name": "Bash", "tool_input": {"command": "ls"}}
    done = hook("PostToolUse", **call, tool_response={"stdout": "ok"}, duration_ms=250)
    bare = one(write(tmp_path / "a.jsonl", hook("PreToolUse", **call), done))
    timed = one(write(tmp_path / "b.jsonl", {"input": done, "timestamp": 1767323041.5}))
    assert tools([bare])[0].attributes == tools([timed])[0].attributes
    (span,) = tools([timed])
    assert (span.start_time, span.end_time) == (1767323041.25, 1767323041.5)


def test_a_session_in_hooks_and_log_of_one_file_is_one_run(tmp_path: Path) -> None:
    call = {"tool_use_id": "t1", "tool_name": "Bash", "tool_input": {"command": "ls"}}
    failed = hook("PostToolUseFailure", **call, error="Exit code 2")
    run = one(write(tmp_path / "s.jsonl", line("user", "go", 0), said(use("t1", command="ls"), 1), failed))
    (span,) = tools([run])
    assert (span.status.status_code, span.status.description) == ("ERROR", "Exit code 2")


def test_the_same_sessions_read_twice_are_equal(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", line("user", "go", 0), said(use("t1"), 1), hook("Stop"))
    assert read("claude-code", path) == read("claude-code", path)
