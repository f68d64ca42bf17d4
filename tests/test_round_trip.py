"""The whole way of a record: decorated code → SDK → a real server over a real database → what its API says.

In process on SQLite and PostgreSQL, over a port, and across a server that is away.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import leyden
from conftest import Clock, serving
from leyden import errors
from leyden.sdk import config, delivery
from leyden.sdk.calls import rollouts as rollout_calls
from leyden.sdk.client import Client
from leyden.sdk.trace import bind
from leyden.server.app import create_app
from leyden.server.watchdog import Watchdog
from leyden.settings import Settings
from leyden.types import (
    LLM,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRollout,
    RolloutConfig,
    RolloutStatus,
    SpanSummary,
    WorkerStatus,
)


@pytest.fixture(autouse=True)
def off_after_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("LEYDEN_SPOOL_DIR", str(tmp_path / "spool"))
    yield
    leyden.shutdown(timeout_s=5)


@pytest.fixture
def recorded(client: Client) -> Iterator[Client]:
    """A client of a server in this process that the SDK records to."""
    leyden.init(client=client, flush_s=600.0)
    yield client
    leyden.shutdown()


@pytest.fixture
def remote(server_url: str) -> Iterator[Client]:
    """A client of a server behind a port that the SDK records to."""
    leyden.init(server_url, flush_s=600.0)
    with Client(server_url) as client:
        yield client


# ── An agent ─────────────────────────────────────────────────────────────────────────────────────────────────────


@leyden.trace.tool("search")
def search(query: str, *, limit: int) -> list[str]:
    return [query] * limit


@leyden.trace.llm("m-large", provider="acme")
def ask(*, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "model": "m-large-2026",
        "content": [{"type": "text", "text": f"answer to {messages[-1]['content']}"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 30, "output_tokens": 7, "cache_read_input_tokens": 20},
    }


@leyden.trace.agent("planner")
def plan(task: str) -> str:
    found = search(task, limit=2)
    answer = ask(messages=[{"role": "user", "content": found[0]}])
    return answer["content"][0]["text"]


@leyden.trace.tool("count")
async def count(n: int) -> int:
    await asyncio.sleep(0)
    return n


@leyden.trace.llm("m-stream")
async def stream() -> AsyncIterator[dict[str, Any]]:
    yield {"id": "c", "model": "m-stream-1", "choices": [{"delta": {"content": "Hel"}}]}
    await asyncio.sleep(0)
    yield {"id": "c", "choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}
    yield {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


@leyden.trace.agent("counter")
async def count_all(n: int) -> int:
    text = [chunk async for chunk in stream()]
    return sum(await asyncio.gather(*(count(i) for i in range(n)))) + len(text)


@leyden.trace(name="pages")
def pages(n: int) -> Iterator[int]:
    for i in range(n):
        search(str(i), limit=1)
        yield i


def tree(spans: list[SpanSummary]) -> Counter[tuple[str, str | None]]:
    """How often each (name, name of the parent) occurs."""
    names = {span.span_id: span.name for span in spans}
    return Counter((span.name, names[span.parent_id] if span.parent_id else None) for span in spans)


def named(spans: list[SpanSummary], name: str) -> SpanSummary:
    [found] = [span for span in spans if span.name == name]
    return found


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_read_back_with_its_tree_agents_tools_tokens_and_reward(recorded: Client) -> None:
    with leyden.rollout({"task": "tea"}, mode="val", metadata={"k": 1}, name="first") as r:
        assert plan("tea") == "answer to tea"
        leyden.reward(0.75)
    assert leyden.flush(30)
    spans = recorded.span_summaries(r.rollout_id).items
    assert tree(spans) == {
        ("invoke_agent planner", None): 1,
        ("execute_tool search", "invoke_agent planner"): 1,
        ("chat m-large", "invoke_agent planner"): 1,
        ("agentlightning.annotation", None): 1,
    }
    assert sorted(span.sequence_id for span in spans) == [1, 2, 3, 4]
    assert len({span.trace_id for span in spans if span.name != "agentlightning.annotation"}) == 1
    agent, tool, model = (
        named(spans, n) for n in ("invoke_agent planner", "execute_tool search", "chat m-large")
    )
    assert (agent.kind, tool.kind, model.kind) == ("agent", "tool", "llm")
    assert {agent.agent, tool.agent, model.agent} == {"planner"}
    assert tool.tool == "search"
    assert (model.provider, model.model) == ("acme", "m-large-2026")
    assert (model.input_tokens, model.output_tokens, model.cache_read_tokens) == (50, 7, 20)
    assert agent.start_ns is not None
    assert tool.start_ns is not None
    assert tool.end_ns is not None
    assert agent.start_ns <= tool.start_ns <= tool.end_ns
    assert "tea" in (agent.input_preview or "")
    assert "answer to tea" in (agent.output_preview or "")
    run = recorded.rollout_detail(r.rollout_id)
    assert (run.status, run.input, run.mode) == (RolloutStatus.SUCCEEDED, {"task": "tea"}, "val")
    assert run.metadata == {"k": 1, "name": "first"}
    assert (run.spans, run.errors, run.attempts, run.agent) == (4, 0, 1, "planner")
    assert (run.input_tokens, run.output_tokens) == (50, 7)
    assert run.reward == 0.75
    assert run.attempt_list[0].attempt_id == r.attempt_id
    assert run.attempt_list[0].status == AttemptStatus.SUCCEEDED


def test_what_a_call_said_is_in_the_whole_span(recorded: Client) -> None:
    with leyden.rollout("x") as r:
        plan("tea")
    assert leyden.flush(30)
    tool = named(recorded.span_summaries(r.rollout_id).items, "execute_tool search")
    span = recorded.span(r.rollout_id, r.attempt_id, tool.span_id)
    assert span.attributes["gen_ai.tool.call.arguments"] == '{"query":"tea","limit":2}'
    assert span.attributes["gen_ai.tool.call.result"] == '["tea","tea"]'
    assert span.resource.attributes["service.name"] == "agent"


def test_coroutines_streams_and_generators_keep_their_parents(recorded: Client) -> None:
    with leyden.rollout("x") as r:
        assert asyncio.run(count_all(3)) == 6
        for _ in pages(2):
            search("outside", limit=1)
    assert leyden.flush(30)
    spans = recorded.span_summaries(r.rollout_id).items
    assert tree(spans) == {
        ("invoke_agent counter", None): 1,
        ("chat m-stream", "invoke_agent counter"): 1,
        ("execute_tool count", "invoke_agent counter"): 3,
        ("pages", None): 1,
        ("execute_tool search", "pages"): 2,
        ("execute_tool search", None): 2,
    }
    streamed = named(spans, "chat m-stream")
    assert (streamed.model, streamed.input_tokens, streamed.output_tokens) == ("m-stream-1", 3, 2)
    assert streamed.ttft_ms is not None
    assert streamed.ttft_ms >= 0
    assert "Hello" in (streamed.output_preview or "")


class OutOfCheese(Exception):
    pass


@leyden.trace.tool("fridge")
def fridge() -> None:
    raise OutOfCheese("no cheese on shelf 7")


def test_a_failing_run_is_failed_with_its_reason_and_its_error(recorded: Client) -> None:
    with pytest.raises(OutOfCheese), leyden.rollout("x") as r:
        fridge()
    assert leyden.flush(30)
    run = recorded.rollout_detail(r.rollout_id)
    assert run.status == RolloutStatus.FAILED
    assert run.failure_reason == "OutOfCheese: no cheese on shelf 7"
    assert run.attempt_list[0].status == AttemptStatus.FAILED
    assert run.attempt_list[0].failure_reason == run.failure_reason
    assert run.errors == 1
    span = named(recorded.span_summaries(r.rollout_id).items, "execute_tool fridge")
    assert (span.status, span.error_message) == ("error", "no cheese on shelf 7")
    assert (span.error_type or "").endswith("OutOfCheese")
    assert span.fingerprint


def test_the_named_reward_is_the_runs_and_all_of_them_are_its_scores(recorded: Client) -> None:
    with leyden.rollout("x") as r:
        leyden.reward({"speed": 0.5, "quality": 1}, primary="quality")
    assert leyden.flush(30)
    assert recorded.rollout_detail(r.rollout_id).reward == 1.0
    assert {s.name: s.value for s in recorded.scores(r.rollout_id)} == {"quality": 1.0, "speed": 0.5}


def test_a_reward_that_comes_after_the_run_still_counts(recorded: Client) -> None:
    with leyden.rollout("x") as r:
        plan("tea")
    assert leyden.flush(30)
    leyden.reward(0.25, rollout=r)
    assert leyden.flush(30)
    run = recorded.rollout_detail(r.rollout_id)
    assert (run.status, run.reward) == (RolloutStatus.SUCCEEDED, 0.25)


def test_runs_side_by_side_in_threads_and_tasks_keep_apart(recorded: Client) -> None:
    def work(owner: int) -> tuple[str, int]:
        with leyden.rollout({"owner": owner}) as r:
            plan(f"task {owner}")
            leyden.reward(owner)
            return r.rollout_id, owner

    async def work_async(owner: int) -> tuple[str, int]:
        async with leyden.rollout({"owner": owner}) as r:
            await count_all(2)
            leyden.reward(owner)
            return r.rollout_id, owner

    async def main() -> list[tuple[str, int]]:
        return await asyncio.gather(*(work_async(i) for i in range(100, 120)))

    with ThreadPoolExecutor(6) as pool:
        threads = dict(pool.map(work, range(20)))
    tasks = dict(asyncio.run(main()))
    assert leyden.flush(60)
    runs = {run.rollout_id: run for run in recorded.list_rollouts(limit=-1).items}
    assert set(runs) == set(threads) | set(tasks)
    for rollout_id, owner in {**threads, **tasks}.items():
        run = runs[rollout_id]
        assert (run.status, run.input, run.reward) == (RolloutStatus.SUCCEEDED, {"owner": owner}, owner)
        assert run.spans == (4 if owner < 100 else 5)
        assert run.agent == ("planner" if owner < 100 else "counter")


def test_work_handed_to_another_thread_stays_in_its_run(recorded: Client) -> None:
    with ThreadPoolExecutor(2) as pool, leyden.rollout("x") as r, leyden.trace("outer"):
        list(pool.map(bind(lambda n: search(str(n), limit=1)), range(5)))
    assert leyden.flush(30)
    assert tree(recorded.span_summaries(r.rollout_id).items) == {
        ("outer", None): 1,
        ("execute_tool search", "outer"): 5,
    }


def test_a_claimed_run_is_recorded_into_and_left_to_its_runner(recorded: Client) -> None:
    recorded.enqueue({"t": 1})
    [claimed] = recorded.dequeue("w-1")
    with leyden.rollout(rollout_id=claimed.rollout_id, attempt_id=claimed.attempt.attempt_id):
        plan("tea")
    assert leyden.flush(30)
    run = recorded.rollout_detail(claimed.rollout_id)
    assert (run.status, run.spans) == (RolloutStatus.RUNNING, 3)
    recorded.update_attempt(claimed.rollout_id, status="succeeded")
    assert recorded.rollout(claimed.rollout_id).status == RolloutStatus.SUCCEEDED


def test_a_trace_outside_any_rollout_becomes_one_of_its_own(recorded: Client) -> None:
    assert plan("tea") == "answer to tea"
    assert leyden.flush(30)
    [run] = recorded.list_rollouts().items
    assert run.rollout_id.startswith("ro-")
    assert (run.status, run.spans, run.agent) == (RolloutStatus.SUCCEEDED, 3, "planner")


def test_an_applications_own_provider_records_its_spans_and_ours_in_one_tree(client: Client) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    leyden.init(client=client, tracer_provider=provider, flush_s=600.0)
    theirs = provider.get_tracer("theirs")
    with leyden.rollout("x") as r, theirs.start_as_current_span("their span"):
        plan("tea")
    with theirs.start_as_current_span("their root"):
        search("tea", limit=1)
    assert leyden.flush(30)
    assert tree(client.span_summaries(r.rollout_id).items) == {
        ("their span", None): 1,
        ("invoke_agent planner", "their span"): 1,
        ("execute_tool search", "invoke_agent planner"): 1,
        ("chat m-large", "invoke_agent planner"): 1,
    }
    [other] = [run for run in client.list_rollouts().items if run.rollout_id != r.rollout_id]
    assert tree(client.span_summaries(other.rollout_id).items) == {
        ("their root", None): 1,
        ("execute_tool search", "their root"): 1,
    }
    leyden.shutdown()
    with theirs.start_as_current_span("after the end"):
        pass
    assert client.info()["counts"]["spans"] == 6


# ── Over a port ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_over_a_port_reads_back_the_same(remote: Client) -> None:
    with leyden.rollout({"task": "tea"}) as r:
        plan("tea")
        leyden.reward(0.75)
    with pytest.raises(OutOfCheese), leyden.rollout("y") as failed:
        fridge()
    assert leyden.flush(30)
    run = remote.rollout_detail(r.rollout_id)
    assert (run.status, run.spans, run.reward) == (RolloutStatus.SUCCEEDED, 4, 0.75)
    assert (run.input_tokens, run.output_tokens) == (50, 7)
    assert remote.rollout_detail(failed.rollout_id).failure_reason == "OutOfCheese: no cheese on shelf 7"
    assert config.stats().sent == 5
    assert config.stats().lost == 0


def test_many_threads_over_a_port_lose_nothing(remote: Client) -> None:
    leyden.shutdown()
    leyden.init(remote.url, batch_spans=50, flush_s=0.01)

    def work(owner: int) -> None:
        for _ in range(10):
            with leyden.rollout({"owner": owner}):
                plan("tea")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leyden.flush(60)
    runs = remote.list_rollouts(limit=-1).items
    assert Counter((run.status, run.spans) for run in runs) == {(RolloutStatus.SUCCEEDED, 3): 80}


# ── A server that is away ────────────────────────────────────────────────────────────────────────────────────────

CHILD = """
import sys, leyden
leyden.init(sys.argv[1], flush_s=600)
with leyden.rollout({"task": sys.argv[2]}):
    with leyden.trace(sys.argv[2]): pass
    leyden.reward(1)
"""


def run_child(url: str, name: str, tmp_path: Path) -> str:
    """Run an agent in a process of its own and return what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, name],
        env=os.environ | {"LEYDEN_SPOOL_DIR": str(tmp_path / "spool")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr


def stored(client: Client) -> dict[str, tuple[str, int, float | None]]:
    """Status, number of spans and reward of each run, by its task."""
    return {
        run.input["task"]: (run.status, run.spans, run.reward) for run in client.list_rollouts(limit=-1).items
    }


def test_what_was_recorded_while_the_server_was_away_arrives_once_with_the_next_process(
    tmp_path: Path,
) -> None:
    with serving(Settings(db=str(tmp_path / "first.db"))) as url:
        port = int(url.rpartition(":")[2])
    assert "No Leyden server answers" in run_child(url, "left", tmp_path)
    # A copy of what waits on disk: a process that dies after sending leaves exactly that behind.
    shutil.copytree(tmp_path / "spool", tmp_path / "again")
    second = Settings(db=str(tmp_path / "second.db"))
    with serving(second, port=port) as same_url, Client(same_url) as client:
        run_child(url, "next", tmp_path)
        whole = {"left": ("succeeded", 2, 1.0), "next": ("succeeded", 2, 1.0)}
        assert stored(client) == whole
        assert not list((tmp_path / "spool").glob("*/*/*.seg"))
        shutil.rmtree(tmp_path / "spool")
        shutil.copytree(tmp_path / "again", tmp_path / "spool")
        run_child(url, "third", tmp_path)
        assert stored(client) == whole | {"third": ("succeeded", 2, 1.0)}
        assert not list((tmp_path / "spool").glob("*/*/*.seg"))


# ── A process that dies ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_whose_process_died_is_given_up_with_a_reason(clock: Clock, settings: Settings) -> None:
    app = create_app(replace(settings, watchdog_s=3600.0))
    with Client(app=app) as client:
        leyden.init(client=client, flush_s=600.0)
        scope = leyden.rollout("x")
        scope.__enter__()
        plan("tea")
        assert leyden.flush(30)
        assert client.rollout(scope.rollout_id).status == RolloutStatus.RUNNING
        clock.advance(899)
        Watchdog(app.context)()
        assert client.rollout(scope.rollout_id).status == RolloutStatus.RUNNING
        clock.advance(2)
        Watchdog(app.context)()
        run = client.rollout_detail(scope.rollout_id)
        assert run.status == RolloutStatus.FAILED
        assert run.failure_reason == "silent for longer than unresponsive_seconds=900"
        assert run.attempt_list[0].status == AttemptStatus.UNRESPONSIVE
        scope.__exit__(None, None, None)


def test_a_long_silent_step_is_not_taken_for_a_death(
    clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.0)
    app = create_app(replace(settings, watchdog_s=3600.0))
    with Client(app=app) as client:
        leyden.init(client=client, flush_s=600.0)
        with leyden.rollout("x") as r:
            for _ in range(5):
                clock.advance(600)
                assert leyden.flush(30)
                Watchdog(app.context)()
        assert leyden.flush(30)
        run = client.rollout_detail(r.rollout_id)
        assert (run.status, run.failure_reason) == (RolloutStatus.SUCCEEDED, None)
        assert run.duration_s == 3000


def test_a_server_that_was_down_counts_silence_from_its_start(clock: Clock, settings: Settings) -> None:
    app = create_app(replace(settings, watchdog_s=3600.0))
    with Client(app=app) as client:
        config = RolloutConfig(unresponsive_seconds=900.0)
        client.register_rollout("ro-1", "at-1", config=config)
    clock.advance(5000)
    app = create_app(replace(settings, watchdog_s=3600.0))
    with Client(app=app) as client:
        Watchdog(app.context)()
        assert client.rollout("ro-1").status == RolloutStatus.PREPARING
        clock.advance(901)
        Watchdog(app.context)()
        assert client.rollout("ro-1").status == RolloutStatus.FAILED


def test_a_run_that_began_long_ago_is_not_given_up_while_it_is_delivered(
    clock: Clock, settings: Settings
) -> None:
    app = create_app(replace(settings, watchdog_s=3600.0))
    with Client(app=app) as client:
        config = RolloutConfig(unresponsive_seconds=900.0)
        made = client.register_rollout("ro-1", "at-1", config=config, start_time=clock.now - 86_400)
        Watchdog(app.context)()
        assert client.rollout("ro-1").status == RolloutStatus.PREPARING
        assert made.attempt.last_heartbeat_time == clock.now
        client.update_attempt("ro-1", "at-1", status="succeeded")
        assert client.rollout_detail("ro-1").duration_s == 86_400


# ── Every call of the client, on the real application ────────────────────────────────────────────────────────────


def span_json(rollout_id: str, attempt_id: str, number: int, **more: Any) -> dict[str, Any]:
    """A finished tool call in the store protocol's JSON."""
    return {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": number,
        "trace_id": f"{7:032x}",
        "span_id": f"{number:016x}",
        "parent_id": None,
        "name": "execute_tool look",
        "status": {"status_code": "OK", "description": None},
        "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "n": number},
        "events": [],
        "links": [],
        "start_time": 1_800_000_000.0 + number,
        "end_time": 1_800_000_000.5 + number,
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
        **more,
    }


def test_calls_of_the_queue_hand_out_work_in_order_and_once(client: Client) -> None:
    first = client.enqueue({"t": 1}, mode="train", metadata={"a": 1}, idempotency_key="k")
    again = client.enqueue({"t": 1}, idempotency_key="k")
    assert again.rollout_id == first.rollout_id
    many = client.enqueue_many([EnqueueRollout(input=2), {"input": 3, "mode": "test"}])
    assert [item.input for item in many] == [2, 3]
    claimed = client.dequeue("w", limit=2)
    assert [c.rollout_id for c in claimed] == [first.rollout_id, many[0].rollout_id]
    assert [c.attempt.sequence_id for c in claimed] == [1, 1]
    assert [c.input for c in client.dequeue("w", wait_seconds=0.2)] == [3]
    began = time.monotonic()
    assert client.dequeue("w", wait_seconds=0.2) == []
    assert time.monotonic() - began >= 0.19


def test_calls_of_rollouts_start_change_end_find_and_delete(client: Client) -> None:
    made = client.start_rollout({"t": 1}, mode="val", metadata={"a": 1}, worker_id="w")
    assert (made.status, made.attempt.worker_id) == (RolloutStatus.PREPARING, "w")
    assert client.register_rollout("ro-mine", "at-mine", input="x", start_time=5.0).start_time == 5.0
    assert client.register_rollout("ro-mine", "at-other", input="y").attempt.attempt_id == "at-mine"
    queued = client.enqueue("q", config=RolloutConfig(max_attempts=2, timeout_seconds=9.0))
    found = client.rollouts(rollout_id_in=[made.rollout_id, "ro-mine", queued.rollout_id])
    assert found.total == 3
    assert [type(item) for item in found.items].count(AttemptedRollout) == 2
    assert client.rollouts(status_in=[]).items == []
    assert client.rollouts(rollout_id_contains="mine", mode_in=["train"], filter_logic="or").total == 1
    newest = client.rollouts(sort_by="start_time", sort_order="desc", limit=1)
    assert (newest.total, len(newest.items)) == (3, 1)
    changed = client.update_rollout(queued.rollout_id, input=[1], mode="test", metadata=None)
    assert (changed.input, changed.mode, changed.config.timeout_seconds) == ([1], "test", 9.0)
    assert client.update_rollout(queued.rollout_id, mode=None).mode is None
    gone = client.update_rollout(made.rollout_id, status="cancelled", failure_reason="enough")
    assert (gone.status, gone.failure_reason) == (RolloutStatus.CANCELLED, "enough")
    assert [r.rollout_id for r in client.wait([made.rollout_id, "ro-nobody"], 5)] == [made.rollout_id]
    assert client.wait([queued.rollout_id], 0) == []
    client.delete_rollout(made.rollout_id)
    with pytest.raises(errors.NotFound):
        client.rollout(made.rollout_id)


def test_calls_of_attempts_retry_heartbeat_and_end(client: Client) -> None:
    made = client.start_rollout("x")
    assert client.latest_attempt("ro-nobody") is None
    client.heartbeat(made.rollout_id)
    beaten = client.latest_attempt(made.rollout_id)
    assert beaten is not None
    assert abs((beaten.last_heartbeat_time or 0) - time.time()) < 60
    client.update_attempt(made.rollout_id, made.attempt.attempt_id, status="failed", failure_reason="first")
    assert client.rollout(made.rollout_id).failure_reason == "first"
    second = client.start_attempt(made.rollout_id, worker_id="w")
    assert second.attempt.sequence_id == 2
    done = client.update_attempt(made.rollout_id, status=AttemptStatus.SUCCEEDED, metadata={"m": 1})
    assert (done.attempt_id, done.metadata) == (second.attempt.attempt_id, {"m": 1})
    assert [a.status for a in client.attempts(made.rollout_id).items] == ["failed", "succeeded"]
    assert client.attempts(made.rollout_id, sort_order="desc", limit=1).items[0].sequence_id == 2
    with pytest.raises(errors.InvalidTransition):
        client.update_attempt(made.rollout_id, status="running")


def test_calls_of_runs_list_filter_and_import(client: Client) -> None:
    run = {
        "rollout_id": "ro-file", "attempt_id": "at-file", "input": "imported tea", "status": "failed", "start_time": 10.0,
        "end_time": 12.0, "metadata": {"source": "file"}, "spans": [span_json("ro-file", "at-file", 1)], "reward": 0.5,
        "failure_reason": "burnt", "mode": "test",
    }  # fmt: skip
    assert client.import_runs([run]) == {"imported": 1, "unchanged": 0, "spans": 1, "rejected": []}
    assert client.import_runs([run])["unchanged"] == 1
    client.start_rollout("other", mode="train")
    by_status, by_mode = client.list_rollouts(status="failed"), client.list_rollouts(mode="train")
    assert [item.rollout_id for item in by_status.items] == ["ro-file"]
    assert [item.input for item in by_mode.items] == ["other"]
    assert client.list_rollouts(q="tea", until=11.0, since=9.0).total == 1
    assert client.list_rollouts(limit=1, offset=1).items[0].rollout_id == "ro-file"
    detail = client.rollout_detail("ro-file")
    assert (detail.input, detail.start_time) == ("imported tea", 10.0)
    assert (detail.duration_s, detail.reward, detail.source) == (2.0, 0.5, "file")
    assert detail.failure_reason == "burnt"
    with pytest.raises(errors.NotFound):
        client.rollout_detail("ro-nobody")


def test_calls_of_spans_write_query_and_find(client: Client) -> None:
    made = client.start_rollout("x")
    ids = (made.rollout_id, made.attempt.attempt_id)
    one = client.add_span(span_json(*ids, 1, mine="kept"))
    assert one is not None
    assert (one.model_extra or {})["mine"] == "kept"
    assert client.add_span(one) is None
    answers = client.add_spans([one, span_json(*ids, 2), span_json(*ids, 3, name="other")])
    assert [answer and answer.sequence_id for answer in answers] == [None, 2, 3]
    assert client.next_sequence_id(*ids) == 4
    with pytest.raises(errors.NotFound):
        client.add_span(span_json("ro-nobody", "at-1", 1))
    assert [s.sequence_id for s in client.spans(ids[0]).items] == [1, 2, 3]
    assert client.spans(ids[0], attempt_id="latest", name="other").total == 1
    assert client.spans(ids[0], name_contains="look", span_id=f"{3:016x}", filter_logic="or").total == 3
    assert [s.sequence_id for s in client.spans(ids[0], sort_by="start_time", sort_order="desc").items] == [
        3,
        2,
        1,
    ]
    assert client.spans("ro-nobody").items == []
    assert client.span(*ids, f"{2:016x}").attributes["n"] == 2
    with pytest.raises(errors.NotFound):
        client.span(*ids, "nobody")
    page = client.span_summaries(ids[0], attempt_id=ids[1], limit=1, offset=1)
    assert (page.total, page.items[0].sequence_id, page.items[0].tool) == (3, 2, "look")
    assert client.find_spans(tool="look", attributes={"n": 2}).total == 1
    since, until = 1_800_000_002 * 10**9, 1_800_000_003 * 10**9
    found = client.find_spans(kind="tool", status="ok", since_ns=since, until_ns=until)
    assert [s.sequence_id for s in found.items] == [2]
    with pytest.raises(errors.BadInput):
        client.find_spans(attributes=["no colon"])


def test_one_refused_span_of_a_list_is_named_and_the_rest_is_kept(client: Client) -> None:
    made = client.start_rollout("x")
    ids = (made.rollout_id, made.attempt.attempt_id)
    with pytest.raises(errors.NotFound, match="1 of 3 spans were refused: Rollout ro-nobody"):
        client.add_spans([span_json(*ids, 1), span_json("ro-nobody", "at-1", 2), span_json(*ids, 3)])
    assert [s.sequence_id for s in client.spans(ids[0]).items] == [1, 3]


def test_a_trace_export_is_passed_on_as_it_is(client: Client) -> None:
    answer = client.export_otlp(b'{"resourceSpans":[]}', "application/json")
    assert answer.status == 200
    with pytest.raises(errors.LeydenError):
        client.export_otlp(b"\xff\xff")


def test_calls_of_resources_version_and_find(client: Client) -> None:
    assert client.latest_resources() is None
    assert client.get_resources("rs-nobody") is None
    first = client.add_resources({"main": LLM(endpoint="http://x", model="m")})
    named = client.update_resources("prompts", {"p": {"resource_type": "prompt_template", "template": "t {x}", "engine": "f-string"}})  # fmt: skip
    assert (first.version, named.version) == (1, 1)
    second = client.update_resources("prompts", {"main": LLM(endpoint="http://y", model="m2")})
    assert second.version == 2
    latest = client.latest_resources()
    assert latest is not None
    assert latest.resources["main"] == LLM(endpoint="http://y", model="m2")
    assert client.get_resources("prompts") == latest
    assert [r.resources_id for r in client.resources().items] == [first.resources_id, "prompts"]
    assert client.resources(resources_id_contains="prom", limit=1).total == 1
    assert client.start_rollout("x").resources_id == "prompts"


def test_calls_of_workers_beat_and_find(client: Client) -> None:
    assert client.worker("w") is None
    assert client.update_worker("w", heartbeat_stats={"cpu": 0.5}).heartbeat_stats == {"cpu": 0.5}
    assert client.update_worker("w").heartbeat_stats == {"cpu": 0.5}
    client.enqueue("x")
    [claimed] = client.dequeue("w")
    worker = client.worker("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == (WorkerStatus.BUSY, claimed.rollout_id)
    client.update_worker("idle-1")
    assert [w.worker_id for w in client.workers(status_in=["busy"]).items] == ["w"]
    assert client.workers(worker_id_contains="idle", sort_by="worker_id", limit=5).total == 1


def test_calls_of_findings_measure_keep_and_judge(recorded: Client) -> None:
    for _ in range(4):
        with pytest.raises(OutOfCheese), leyden.rollout("x"):
            fridge()
    assert leyden.flush(30)
    dry = recorded.analyze(save=False)
    assert dry["findings"]
    assert recorded.findings().items == []
    report = recorded.analyze()
    page = recorded.findings(limit=10)
    assert {f.fingerprint for f in page.items} == {f["fingerprint"] for f in report["findings"]}
    [broken] = [f for f in page.items if f.kind == "tool_failure"]
    assert (broken.tool, broken.impact.runs) == ("fridge", 4)
    shown = recorded.span(*broken.evidence[0])
    assert shown.name == "execute_tool fridge"
    assert recorded.finding(broken.fingerprint) == broken
    assert recorded.set_finding_status(broken.fingerprint, "accepted").status == "accepted"
    assert [f.fingerprint for f in recorded.findings(status="accepted").items] == [broken.fingerprint]
    assert recorded.analyze(rollout_ids=[])["findings"] == []
    with pytest.raises(errors.NotFound):
        recorded.finding("nobody")


def test_calls_of_scores_keep_and_list(client: Client) -> None:
    made = client.start_rollout("x")
    score = {"rollout_id": made.rollout_id, "name": "human", "value": 0.5, "source": "human", "time": 7.0}
    client.add_scores([score])
    [kept] = client.scores(made.rollout_id)
    assert (kept.name, kept.value, kept.source, kept.time) == ("human", 0.5, "human", 7.0)
    with pytest.raises(errors.NotFound):
        client.scores("ro-nobody")
    with pytest.raises(errors.NotFound):
        client.add_scores([score | {"rollout_id": "ro-nobody"}])


def test_calls_of_keys_and_health_answer(client: Client) -> None:
    made = client.create_key("ci", scopes=["ingest"], project="other")
    assert made["key"].startswith("lk_")
    every = client.keys()
    [listed] = [key for key in every if key["id"] == made["id"]]
    assert (listed["name"], listed["project"], listed["scopes"]) == ("ci", "other", ["ingest"])
    assert "key" not in listed
    client.revoke_key(made["id"])
    with pytest.raises(errors.NotFound):
        client.revoke_key("nobody")
    client.start_rollout("x")
    assert client.info()["counts"] == {"rollouts": 1, "attempts": 1, "spans": 0}
    assert client.info()["version"] == leyden.__version__
    assert client.statistics()["total_rollouts"] == 1
    assert client.health() == {"status": "ok"}


def test_a_key_decides_where_a_record_goes_and_what_may_be_asked(remote: Client) -> None:
    leyden.shutdown()
    secret = remote.create_key("agent", scopes=["ingest", "run"], project="other")["key"]
    reader = remote.create_key("reader", scopes=["read"], project="other")["key"]
    leyden.init(remote.url, api_key=secret, flush_s=600.0)
    with leyden.rollout("x") as r:
        plan("tea")
    assert leyden.flush(30)
    with Client(remote.url, key=reader) as there:
        assert there.rollout_detail(r.rollout_id).spans == 3
        with pytest.raises(errors.Forbidden):
            there.enqueue("x")
    with Client(remote.url, key="lk_nobody") as nobody, pytest.raises(errors.Unauthorized):
        nobody.rollouts()
    assert remote.list_rollouts().total == 0


def test_waiting_goes_on_over_several_slices_until_the_last_run_ends(
    remote: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_calls, "_POLL_S", 0.05)
    asked: list[float] = []
    request = remote.request

    def counted(method: str, path: str, **more: Any) -> Any:
        asked.append(more["body"]["timeout"])
        return request(method, path, **more)

    first, second = (remote.start_rollout(n) for n in range(2))
    remote.update_attempt(first.rollout_id, status="succeeded")
    ids = [first.rollout_id, second.rollout_id]
    with Client(remote.url) as other, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(other, "request", counted)
        waiting = pool.submit(other.wait, ids)
        while len(asked) < 3:
            time.sleep(0.01)
        assert not waiting.done()
        remote.update_attempt(second.rollout_id, status="failed", failure_reason="x")
        assert [r.rollout_id for r in waiting.result(30)] == ids
        assert set(asked) == {0.05}
        unfinished = remote.start_rollout(3).rollout_id
        began = time.monotonic()
        assert [r.rollout_id for r in other.wait([*ids, unfinished], 0.2)] == ids
        assert 0.19 <= time.monotonic() - began < 5
