"""Keys of ours at the gateway: whose call they make, what they may use, and what a client is told that may not."""

from pathlib import Path
from typing import Any

import pytest

from fakes.model_answers import default_body
from fakes.model_server import Gate, ModelServer, answer, chat, stream
from faults.processes import until
from gateway.serving import QUESTION, Calling, Gateway, gateway, only
from leyden.types import KeyLimits


def key(gate: Gateway, **limits: Any) -> dict[str, str]:
    """Headers with a fresh key that may use so much."""
    made = gate.client.create_key("agent", scopes=["gateway"], limits=KeyLimits(**limits))
    return {"authorization": f"Bearer {made['key']}"}


def test_a_key_of_ours_goes_no_further(gate: Gateway, model: ModelServer) -> None:
    mine = key(gate)
    assert gate.post(headers=mine).status_code == 200
    assert gate.post(headers={"x-api-key": mine["authorization"][7:]}).status_code == 200
    assert not {"authorization", "x-api-key"} & model.requests[-1].headers.keys()
    assert not {"authorization", "x-api-key"} & model.requests[-2].headers.keys()
    [span, _] = gate.spans(2)
    assert span.attributes["leyden.gateway.key"]
    assert "lk_" not in span.model_dump_json()


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_a_key_that_nobody_issued_is_told_so_in_the_clients_protocol(gate: Gateway, door: str) -> None:
    given = gate.post(door, headers={"authorization": "Bearer lk_nobody"})
    assert (given.status_code, given.json()["error"]["type"]) == (401, "authentication_error")
    assert given.json().get("type") == ("error" if door == "/messages" else None)


def test_a_key_of_a_rollout_says_whose_call_a_bare_one_is(gate: Gateway) -> None:
    headers = key(gate, rollout_id=gate.rollout, attempt_id="at-7")
    assert gate.http.post("/v1/chat/completions", json=QUESTION, headers=headers).status_code == 200
    [span] = gate.spans()
    assert span.attempt_id == "at-7"
    other = gate.http.post(
        "/rollout/ro-other/attempt/at-1/v1/chat/completions", json=QUESTION, headers=headers
    )
    assert other.status_code == 403


def test_a_model_that_a_key_may_not_call_is_refused(gate: Gateway) -> None:
    headers = key(gate, models=("gpt-4*",))
    refused = gate.post(headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert gate.post(model="gpt-4o", headers=headers).status_code == 200


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_more_calls_a_minute_than_a_key_may_make_are_told_when_to_come_back(gate: Gateway, door: str) -> None:
    headers = key(gate, requests_per_minute=2)
    statuses = [gate.post(door, headers=headers).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = gate.post(door, headers=headers)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    outcomes = [span.attributes["leyden.gateway.outcome"] for span in gate.spans(4)]
    assert sorted(outcomes) == ["ok", "ok", "refused", "refused"]


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_a_spent_budget_is_a_402_of_the_protocol(gate: Gateway, model: ModelServer, door: str) -> None:
    # A million tokens cost more than a cent everywhere.
    usage = {"prompt_tokens": 10**6, "completion_tokens": 1, "input_tokens": 10**6, "output_tokens": 1}
    name = "claude-sonnet-4-5" if door == "/messages" else "gpt-4o"
    headers = key(gate, usd_per_rollout=0.5)
    model.script(answer(default_body(door, "x") | {"model": name, "usage": usage}))
    assert gate.post(door, model=name, headers=headers).status_code == 200
    refused = until(
        lambda: found if (found := gate.post(door, model=name, headers=headers)).status_code != 200 else None
    )
    assert refused is not None
    kinds = {"/messages": "billing_error", "/chat/completions": "insufficient_quota"}
    assert (refused.status_code, refused.json()["error"]["type"]) == (402, kinds[door])
    assert "0.5 USD" in refused.json()["error"]["message"]


def test_a_budget_outlives_a_restart(tmp_path: Path, model: ModelServer) -> None:
    usage = {"prompt_tokens": 10**6, "completion_tokens": 1}
    with gateway(tmp_path, only(model)) as gate:
        headers = key(gate, usd_per_day=0.5)
        model.script(chat(model="gpt-4o", usage=usage))
        gate.post(model="gpt-4o", headers=headers)
        gate.spans(1)
    with gateway(tmp_path, only(model)) as gate:
        assert gate.post(model="gpt-4o", headers=headers).status_code == 402


def test_calls_at_once_are_bounded_by_the_key_and_free_again_after(gate: Gateway, model: ModelServer) -> None:
    headers = key(gate, concurrency=1)
    waiting = Gate()
    model.script(stream(b"data: {}\n\n", waiting))
    before = len(model.requests)
    first = Calling(gate, headers=headers)
    model.wait_for(before + 1)
    assert gate.post(headers=headers).status_code == 429
    waiting.open()
    first.answer()
    until(lambda: gate.post(headers=headers).status_code == 200)
