"""The whole way of a record: decorated code → SDK → a real server over a real database → what its API says.

In process on SQLite and PostgreSQL, over a port, and across a server that is away.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import leyden
from leyden.sdk import config
from leyden.sdk.client import Client
from leyden.sdk.trace import bind
from leyden.settings import Settings
from leyden.types import (
    AttemptStatus,
    RolloutStatus,
    SpanSummary,
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


@contextlib.contextmanager
def serving(db: Path, port: int = 0) -> Iterator[str]:
    """A server on loopback; `port` 0 takes a free one."""
    import uvicorn

    from leyden.server.app import create_app

    app = create_app(Settings(db=str(db)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


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
    with serving(tmp_path / "first.db") as url:
        port = int(url.rpartition(":")[2])
    assert "No Leyden server answers" in run_child(url, "left", tmp_path)
    # A copy of what waits on disk: a process that dies after sending leaves exactly that behind.
    shutil.copytree(tmp_path / "spool", tmp_path / "again")
    with serving(tmp_path / "second.db", port) as same_url, Client(same_url) as client:
        run_child(url, "next", tmp_path)
        whole = {"left": ("succeeded", 2, 1.0), "next": ("succeeded", 2, 1.0)}
        assert stored(client) == whole
        assert not list((tmp_path / "spool").glob("*/*/*.seg"))
        shutil.rmtree(tmp_path / "spool")
        shutil.copytree(tmp_path / "again", tmp_path / "spool")
        run_child(url, "third", tmp_path)
        assert stored(client) == whole | {"third": ("succeeded", 2, 1.0)}
        assert not list((tmp_path / "spool").glob("*/*/*.seg"))
