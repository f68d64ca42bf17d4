import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

import leyden
from fakes.sink import Sink

Start = Callable[..., Any]


def test_a_rollout_is_announced_before_its_spans_and_ended_after_them(start: Start, sink: Sink) -> None:
    start()
    with (
        leyden.rollout({"task": 7}, mode="train", metadata={"k": 1}, name="seven") as r,
        leyden.trace("work"),
    ):
        pass
    assert leyden.flush()
    end = f"/v1/agl/rollouts/{r.rollout_id}/attempts/{r.attempt_id}"
    assert [path for path, _ in sink.taken] == ["/api/rollouts", "/v1/traces", end]
    started = sink.taken[0][1]
    assert started["start_time"] > 1e9
    del started["start_time"]
    assert started == {
        "rollout_id": r.rollout_id,
        "attempt_id": r.attempt_id,
        "input": {"task": 7},
        "mode": "train",
        "resources_id": None,
        "metadata": {"k": 1, "name": "seven"},
        "config": {"unresponsive_seconds": 900.0},
    }
    assert sink.taken[2][1] == {"status": "succeeded"}
    assert sink.span("work")["attributes"]["agentlightning.attempt_id"] == r.attempt_id


def test_an_exception_fails_the_rollout_and_passes_through(start: Start, sink: Sink) -> None:
    start()
    raised = RuntimeError("out of cheese")
    with pytest.raises(RuntimeError) as caught, leyden.rollout("x"):
        raise raised
    assert caught.value is raised
    assert leyden.flush()
    assert sink.taken[-1][1] == {"status": "failed", "failure_reason": "RuntimeError: out of cheese"}


def test_a_claimed_rollout_is_only_bound(start: Start, sink: Sink) -> None:
    start(sample=0.0)
    with leyden.trace("outer"), leyden.rollout(rollout_id="ro-1", attempt_id="at-1"), leyden.trace("inside"):
        pass
    with leyden.rollout(rollout_id="ro-1", attempt_id="at-1"), leyden.trace("inside"):
        pass
    assert leyden.flush()
    assert {path for path, _ in sink.taken} == {"/v1/traces"}
    assert {s["attributes"]["agentlightning.rollout_id"] for s in sink.spans} == {"ro-1"}


def test_one_id_without_the_other_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        leyden.rollout(rollout_id="ro-1")


def test_nested_rollouts_keep_their_spans_apart(start: Start, sink: Sink) -> None:
    start()
    with leyden.rollout("outer") as outer, leyden.trace("a"):
        with leyden.rollout("inner") as inner, leyden.trace("b"):
            pass
        with leyden.trace("c"):
            pass
    assert leyden.flush()
    spans = {s["name"]: s for s in sink.spans}
    owner = {name: s["attributes"]["agentlightning.rollout_id"] for name, s in spans.items()}
    assert owner == {"a": outer.rollout_id, "b": inner.rollout_id, "c": outer.rollout_id}
    assert "parentSpanId" not in spans["b"]
    assert spans["b"]["traceId"] != spans["a"]["traceId"]
    assert spans["c"]["parentSpanId"] == spans["a"]["spanId"]


def test_fifty_rollouts_at_once_in_one_event_loop_keep_their_spans_apart(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace.tool("step")
    async def step(owner: int) -> int:
        await asyncio.sleep(0)
        return owner

    @leyden.trace.agent("worker")
    async def work(owner: int) -> None:
        await asyncio.gather(*(step(owner) for _ in range(3)))
        leyden.reward(owner)

    async def one(owner: int) -> tuple[str, int]:
        async with leyden.rollout({"owner": owner}) as r:
            await work(owner)
            return r.rollout_id, owner

    async def main() -> list[tuple[str, int]]:
        return await asyncio.gather(*(one(i) for i in range(50)))

    owners = dict(asyncio.run(main()))
    assert len(owners) == 50
    assert leyden.flush()
    assert len(sink.spans) == 50 * 5
    traces: dict[str, set[str]] = {}
    for span in sink.spans:
        rollout = span["attributes"]["agentlightning.rollout_id"]
        traces.setdefault(rollout, set()).add(span["traceId"])
        if span["name"] == "execute_tool step":
            assert span["attributes"]["gen_ai.tool.call.result"] == str(owners[rollout])
        if span["name"] == "agentlightning.annotation":
            assert span["attributes"]["agentlightning.reward.0.value"] == owners[rollout]
    assert set(traces) == set(owners)
    assert all(len(ids) == 1 for ids in traces.values())


def test_a_reward_is_an_annotation_of_its_rollout_with_the_primary_first(start: Start, sink: Sink) -> None:
    start()
    with leyden.rollout("x") as r:
        with leyden.trace("step") as step:
            pass
        leyden.reward({"speed": 0.5, "quality": 1}, primary="quality", span=step)
    leyden.reward(True, rollout=r)
    assert leyden.flush()
    first, second = [s for s in sink.spans if s["name"] == "agentlightning.annotation"]
    assert {k: v for k, v in first["attributes"].items() if "reward" in k or "link" in k} == {
        "agentlightning.reward.0.name": "quality",
        "agentlightning.reward.0.value": 1.0,
        "agentlightning.reward.1.name": "speed",
        "agentlightning.reward.1.value": 0.5,
        "agentlightning.link.0.key_match": "trace_id",
        "agentlightning.link.0.value_match": step.trace_id,
        "agentlightning.link.1.key_match": "span_id",
        "agentlightning.link.1.value_match": step.span_id,
    }
    assert second["attributes"]["agentlightning.rollout_id"] == r.rollout_id
    assert second["attributes"]["agentlightning.reward.0.name"] == "primary"


@pytest.mark.parametrize(
    ("value", "options", "error"),
    [
        ("0.9", {}, TypeError),
        (None, {}, TypeError),
        ([1], {}, TypeError),
        (math.nan, {}, ValueError),
        (math.inf, {}, ValueError),
        ({"a": 1}, {}, ValueError),
        ({"a": 1}, {"primary": "b"}, ValueError),
        ({"a": "x"}, {"primary": "a"}, ValueError),
        ({}, {"primary": "a"}, ValueError),
        (1, {"primary": "a"}, ValueError),
    ],
)
def test_a_reward_that_is_no_finite_number_is_refused(
    value: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        leyden.reward(value, **options)
