"""Pause, drain and resume: under an agent that is not told, and what each call is stamped with."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from fakes.model_server import Gate, ModelServer, stream
from faults.processes import until
from gateway.serving import QUESTION, Calling, Gateway, gateway, only
from leyden.gateway.hold import Hold
from leyden.types import KeyLimits


def pause(gate: Gateway, **asked: Any) -> dict[str, Any]:
    return gate.http.post("/api/gateway/pause", json=asked).json()


def resume(gate: Gateway, **asked: Any) -> dict[str, Any]:
    return gate.http.post("/api/gateway/resume", json=asked).json()


def waiting(gate: Gateway, calls: int) -> bool:
    return until(lambda: gate.state()["waiting"] == calls)


@pytest.fixture
def few(tmp_path: Path, model: ModelServer) -> Iterator[Gateway]:
    """A gateway where two calls may wait."""
    with gateway(tmp_path, only(model, hold={"limit": 2, "seconds": 60})) as gate:
        yield gate


def test_calls_of_a_paused_gateway_wait_and_are_served_after(few: Gateway, model: ModelServer) -> None:
    before = len(model.requests)
    state = pause(few, reason="new weights")
    assert (state["is_paused"], state["reason"], state["drained"]) == (True, "new weights", True)
    calls = [Calling(few), Calling(few, stream=True)]
    assert waiting(few, 2)
    assert len(model.requests) == before
    assert resume(few)["is_paused"] is False
    assert [call.answer().status_code for call in calls] == [200, 200]
    assert [span.attributes["leyden.gateway.outcome"] for span in few.spans(2)] == ["ok", "ok"]


def test_more_calls_than_may_wait_are_told_when_to_come_back_in_their_protocol(few: Gateway) -> None:
    pause(few)
    calls = [Calling(few), Calling(few)]
    assert waiting(few, 2)
    for door in ("/chat/completions", "/messages"):
        refused = few.post(door)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert refused.json()["error"]["type"] == "rate_limit_error"
    with (
        pytest.raises(openai.RateLimitError),
        openai.OpenAI(base_url=f"{few.url}/v1", api_key="sk-test", max_retries=0) as client,
    ):
        client.chat.completions.create(**QUESTION)
    with (
        pytest.raises(anthropic.RateLimitError),
        anthropic.Anthropic(base_url=few.url, api_key="sk-test", max_retries=0) as client,
    ):
        client.messages.create(**QUESTION)
    resume(few)
    assert [call.answer().status_code for call in calls] == [200, 200]
    outcomes = [span.attributes["leyden.gateway.outcome"] for span in few.spans(4)]
    assert sorted(outcomes) == ["ok", "ok", "refused", "refused"]


def test_a_call_that_waited_too_long_is_turned_away(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, only(model, hold={"seconds": 0.05})) as gate:
        pause(gate)
        assert gate.post().status_code == 429
        assert gate.state()["waiting"] == 0


def test_a_call_that_was_turned_away_uses_no_tokens_of_its_key(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, only(model, hold={"limit": 0})) as gate:
        limits = KeyLimits(tokens_per_minute=100)
        key = gate.client.create_key("agent", scopes=["gateway"], limits=limits)["key"]
        headers = {"authorization": f"Bearer {key}"}
        pause(gate)
        assert "paused" in gate.post(headers=headers).json()["error"]["message"]
        resume(gate)
        assert gate.post(headers=headers).status_code == 200


def test_draining_waits_for_the_calls_that_were_let_in_before(gate: Gateway, model: ModelServer) -> None:
    answered = Gate()
    model.script(stream(b"data: {}\n\n", answered))
    before = len(model.requests)
    call = Calling(gate, stream=True)
    model.wait_for(before + 1)
    state = pause(gate, drain_s=0.05)
    assert (state["drained"], state["in_flight"]) == (False, 1)
    drained: list[dict[str, Any]] = []
    draining = threading.Thread(target=lambda: drained.append(pause(gate, drain_s=30)))
    draining.start()
    answered.open()
    draining.join(30)
    assert (drained[0]["drained"], drained[0]["in_flight"]) == (True, 0)
    assert call.answer().status_code == 200
    resume(gate)


def test_each_call_is_stamped_with_the_policy_version_that_it_was_let_in_under(
    gate: Gateway, model: ModelServer
) -> None:
    resume(gate, policy_version="v1")
    answered = Gate()
    model.script(stream(b"data: {}\n\n", answered))
    before = len(model.requests)
    under_way = Calling(gate, stream=True)
    model.wait_for(before + 1)
    pause(gate)
    resume(gate, policy_version="v2")
    gate.post()
    answered.open()
    under_way.answer()
    resume(gate)
    gate.post()
    versions = [span.attributes["leyden.policy_version"] for span in gate.spans(3)]
    assert sorted(versions) == ["v1", "v2", "v2"]


def test_a_client_that_leaves_while_it_waits_gives_its_place_back(few: Gateway, model: ModelServer) -> None:
    before = len(model.requests)
    pause(few)
    with httpx.Client(base_url=few.url, timeout=0.2) as impatient:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                impatient.post(f"{few.base}/v1/chat/completions", json=QUESTION)
    assert waiting(few, 0)
    patient = Calling(few)
    assert waiting(few, 1)
    resume(few)
    assert patient.answer().status_code == 200
    assert len(model.requests) == before + 1
    outcomes = [span.attributes["leyden.gateway.outcome"] for span in few.spans(3)]
    assert sorted(outcomes) == ["cancelled", "cancelled", "ok"]


def test_a_call_that_waited_does_not_slip_in_between_two_pauses() -> None:
    async def test() -> None:
        hold = Hold()
        hold.pause()
        waiting = asyncio.ensure_future(hold.enter())
        await asyncio.sleep(0)
        hold.resume("v1")
        hold.pause()
        assert await hold.drained(0.1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (hold.in_flight, hold.waiting) == (0, 1)
        hold.resume("v2")
        assert await waiting == "v2"

    asyncio.run(test())
