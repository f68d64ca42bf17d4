import json
from pathlib import Path

import pytest

from ingest.readers.reading import named, read, recorded, tools, write
from leyden.errors import BadInput
from leyden.ingest.readers import READERS

CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Find x."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "name": "search", "content": "Error: no x"},
    {"role": "assistant", "content": "There is none."},
]


def entry(**changes: object) -> dict[str, object]:
    task = {
        "user_id": "mia",
        "instruction": "You want x.",
        "actions": [{"name": "SECRET"}],
        "outputs": ["SECRET"],
    }
    info = {"task": task, "source": "user", "reward_info": {"reward": 0.0, "actions": ["SECRET"]}}
    return {"task_id": 3, "reward": 0.0, "info": info, "traj": TALK, "trial": 1, **changes}


# ── tau-bench ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_recorded_tau_bench_run_is_read_with_all_its_calls() -> None:
    runs, bad = read("tau-bench", recorded("tau-bench") / "gpt-4o-airline.json")
    assert (len(runs), bad) == (100, [])
    calls = tools(runs)
    assert len(calls) == 604
    assert sum(call.attributes["gen_ai.tool.call.result"].startswith("Error:") for call in calls) == 54
    assert all("gen_ai.tool.call.arguments" in call.attributes for call in calls)
    assert sum(len(named(run, "chat")) for run in runs) == 1274
    assert sum(run.reward or 0 for run in runs) / 100 == pytest.approx(0.29)
    assert sum(run.status == "failed" for run in runs) == 71
    assert len({run.rollout_id for run in runs}) == 100


def test_no_expected_action_or_output_of_tau_bench_reaches_a_run(tmp_path: Path) -> None:
    (run,), bad = read("tau-bench", write(tmp_path / "r.json", json.dumps([entry()])))
    assert bad == []
    assert "SECRET" not in json.dumps(run._asdict())
    assert run.input == "You want x."
    assert run.metadata == {
        "source": "tau-bench",
        "file": "r.json",
        "task_id": 3,
        "trial": 1,
        "user_id": "mia",
    }


@pytest.mark.parametrize(("reward", "status"), [(1.0, "succeeded"), (0.5, "failed"), (0.0, "failed")])
def test_a_tau_bench_run_succeeds_only_with_the_full_reward(
    tmp_path: Path, reward: float, status: str
) -> None:
    (run,), _ = read("tau-bench", write(tmp_path / "r.jsonl", entry(reward=reward)))
    assert (run.status, run.reward) == (status, reward)


def test_one_malformed_entry_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.json",
        json.dumps([entry(), 7, entry(traj=[]), entry(reward="high"), entry(trial=2)]),
    )
    runs, bad = read("tau-bench", path)
    assert len(runs) == 2
    assert [(record.where, record.why) for record in bad] == [
        ("entry 1", "is not tau-bench: expected an object with task_id and traj, found a number"),
        ("entry 2", "has no messages"),
        ("entry 3", "has a reward that is no number: 'high'"),
    ]


# ── Conversations ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_becomes_an_agent_its_model_calls_and_its_tool_calls(tmp_path: Path) -> None:
    (run,), _ = read("messages", write(tmp_path / "bot.jsonl", {"messages": TALK, "model": "m-1"}))
    root, first, tool, second = (named(run, "")[i] for i in range(4))
    assert [span.name for span in named(run, "")] == [
        "invoke_agent bot",
        "chat m-1",
        "execute_tool search",
        "chat m-1",
    ]
    assert {first.parent_id, tool.parent_id, second.parent_id} == {root.span_id}
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"q": "x"}
    assert tool.attributes["gen_ai.tool.call.result"] == "Error: no x"
    assert tool.status.status_code == "UNSET"
    assert (run.start_time, root.start_time, root.end_time) == (None, None, None)
    assert (run.input, run.status, run.reward) == ("Find x.", "succeeded", None)


def test_a_model_call_holds_only_what_is_new_since_the_assistant_last_spoke(tmp_path: Path) -> None:
    (run,), _ = read("messages", write(tmp_path / "bot.jsonl", {"messages": TALK}))
    first, second = named(run, "chat")
    assert [m["role"] for m in json.loads(first.attributes["gen_ai.input.messages"])] == ["system", "user"]
    (answer,) = json.loads(second.attributes["gen_ai.input.messages"])
    assert answer["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "Error: no x"}]


def test_results_that_arrive_in_another_order_are_joined_with_their_own_call(tmp_path: Path) -> None:
    calls = [{"id": i, "function": {"name": n, "arguments": "{}"}} for i, n in (("a", "read"), ("b", "list"))]
    talk = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": "listed"},
        {"role": "tool", "tool_call_id": "a", "content": "was read"},
    ]
    (run,), _ = read("messages", write(tmp_path / "bot.jsonl", {"messages": talk}))
    joined = {s.attributes["gen_ai.tool.name"]: s.attributes["gen_ai.tool.call.result"] for s in tools([run])}
    assert joined == {"list": "listed", "read": "was read"}


def test_an_id_used_again_by_a_later_call_is_joined_with_the_later_call(tmp_path: Path) -> None:
    def turn(name: str) -> list[dict[str, object]]:
        call = {"id": "c", "function": {"name": name, "arguments": "{}"}}
        return [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": name},
        ]

    (run,), _ = read("messages", write(tmp_path / "b.jsonl", {"messages": turn("one") + turn("two")}))
    assert [span.name for span in tools([run])] == ["execute_tool one", "execute_tool two"]


@pytest.mark.parametrize(
    ("reward", "status"), [(None, "succeeded"), (0.2, "succeeded"), (0, "failed"), (-1, "failed")]
)
def test_the_status_of_a_conversation_follows_its_reward(tmp_path: Path, reward: object, status: str) -> None:
    (run,), _ = read("messages", write(tmp_path / "b.jsonl", {"messages": TALK, "reward": reward}))
    assert (run.status, run.reward) == (status, reward)


def test_a_bare_list_of_messages_is_a_conversation_by_line_and_by_file(tmp_path: Path) -> None:
    lines, _ = read("messages", write(tmp_path / "b.jsonl", TALK, TALK))
    whole, _ = read("messages", write(tmp_path / "one.json", json.dumps(TALK, indent=1)))
    assert (len(lines), len(whole)) == (2, 1)


def test_equal_conversations_in_one_file_stay_apart_and_are_found_again(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", {"messages": TALK}, {"messages": TALK}, {"messages": TALK, "id": "x"})
    once, _ = read("messages", path)
    again, _ = read("messages", path)
    assert once == again
    assert len({run.rollout_id for run in once}) == 3


def test_token_counts_on_a_message_are_kept(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 90, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "usage": usage}]
    (run,), _ = read("messages", write(tmp_path / "b.jsonl", {"messages": talk}))
    (call,) = named(run, "chat")
    assert call.attributes["gen_ai.usage.input_tokens"] == 90
    assert call.attributes["gen_ai.usage.cache_read.input_tokens"] == 64


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"messages": []}', "has no messages"),
        ("[]", "has no messages"),
        (
            '{"messages": [{"role": "robot"}]}',
            "has no chat message at index 0: expected an object with a known role",
        ),
        ('{"messages": ["hi"]}', "has no chat message at index 0: expected an object with a known role"),
        (
            '{"messages": [{"role": "user", "content": 3}]}',
            "has a message whose content is neither text nor a list of parts (index 0)",
        ),
        (
            '{"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}',
            "has a tool call without a function name (index 0)",
        ),
        (
            '{"messages": [{"role": "user", "content": "a"}], "metadata": 1}',
            "has metadata that is no object",
        ),
        ('{"messages": [{"role": "user", "content": "a"}], "reward": NaN}', "NaN"),
        ('{"messages": [{"role": "user", "content": "a"}], "reward": 1e999}', "too large"),
        ('{"messages": [{"role": "user"', "truncated?"),
        ('{"messages": [{"role": "user" "content": "a"}]}', "is not valid JSON: Expecting ',' delimiter"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "is not UTF-8 (byte 43)"),
        ("[" * 100_000, "is nested too deeply"),
        (
            '"hello"',
            'is not messages: expected {"messages": […]} or a list of messages, found a string',
        ),
        ('{"resourceSpans": []}', "looks like otel-json: try `leyden import otel-json`"),
        ('{"traj": [], "task_id": 1}', "looks like tau-bench"),
        ('{"type": "user", "sessionId": "s"}', "looks like claude-code"),
        ('{"input": {"hook_event_name": "Stop"}}', "looks like claude-code"),
    ],
)
def test_a_bad_line_is_named_with_one_reason_and_the_rest_is_read(
    tmp_path: Path, line: str | bytes, why: str
) -> None:
    path = write(tmp_path / "b.jsonl", line, {"messages": TALK})
    runs, (bad,) = read("messages", path)
    assert len(runs) == 1
    assert (bad.file, bad.where) == (path, "line 1")
    assert why in bad.why
    assert "\n" not in str(bad)


def test_half_an_emoji_does_not_lose_the_conversation(tmp_path: Path) -> None:
    line = '{"messages": [{"role": "user", "content": "ok \\ud83d\\ude00 cut \\ud83d"}]}'
    (run,), bad = read("messages", write(tmp_path / "b.jsonl", line))
    assert (run.input, bad) == ("ok 😀 cut ?", [])


@pytest.mark.parametrize("arguments", ['{"q": "cut \\ud83d"}', '{"q": NaN}', '{"q": "unfinis', ""])
def test_arguments_a_model_wrote_badly_are_kept_without_losing_the_call(
    tmp_path: Path, arguments: str
) -> None:
    call = {"id": "c", "function": {"name": "search", "arguments": arguments}}
    talk = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "no"},
    ]
    (run,), bad = read("messages", write(tmp_path / "b.jsonl", {"messages": talk}))
    (span,) = tools([run])
    assert (bad, span.name) == ([], "execute_tool search")
    assert span.attributes["gen_ai.tool.call.arguments"][:5] == arguments[:5]


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("format", sorted(READERS))
def test_a_path_with_nothing_to_read_is_refused_with_a_hint(tmp_path: Path, format: str) -> None:
    with pytest.raises(BadInput, match="does not exist") as missing:
        READERS[format].read(tmp_path / "nowhere.json")
    with pytest.raises(BadInput, match="holds no") as empty:
        READERS[format].read(tmp_path)
    assert missing.value.hint
    assert empty.value.hint


def test_a_folder_is_read_file_by_file_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b" / "two.jsonl", {"messages": TALK, "id": "2"})
    write(tmp_path / "a.jsonl", {"messages": TALK, "id": "1"})
    write(tmp_path / "notes.txt", "not a run")
    write(tmp_path / "c.json", b"\xff\xfe")
    runs, bad = read("messages", tmp_path)
    assert [run.metadata["id"] for run in runs] == ["1", "2"]
    assert [record.file.name for record in bad] == ["c.json"]


def test_a_result_file_of_another_benchmark_is_named_once(tmp_path: Path) -> None:
    path = write(tmp_path / "spans.json", json.dumps({"trace_id": "a" * 32, "spans": []}))
    runs, (bad,) = read("tau-bench", path)
    assert runs == []
    assert "it looks like otel-json: try `leyden import otel-json`" in bad.why
