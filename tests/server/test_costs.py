"""Own prices, costs and limits over HTTP."""

from typing import Any

import pytest

from conftest import Clock
from leyden.errors import BadInput, LeydenError, NotFound
from leyden.sdk.client import Client
from leyden.settings import Settings
from leyden.store import spend
from leyden.store.opening import open_store
from leyden.types import KeyLimits, Rollout
from store.test_spend import make_call

DAY_S = 86_400


def spent(settings: Settings, *calls: spend.Spent) -> None:
    """Calls that a gateway on the same database made."""
    store = open_store(settings)
    store.writer.run(lambda tx: spend.add(tx, calls))
    store.close()


# ── Costs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_costs_are_grouped_and_summed_over_the_days_asked_for(
    client: Client, settings: Settings, clock: Clock
) -> None:
    today = int(clock.now // DAY_S)
    key = client.create_key("bot", scopes=["gateway"])
    spent(
        settings,
        make_call(day=today, key_id=key["id"]),
        make_call(day=today, key_id=None, usd=None, model="mine"),
    )
    spent(
        settings, make_call(day=today - 3), make_call(day=today - 40), make_call(day=today, project="other")
    )
    costs = client.costs()
    assert (costs.since, costs.until) == ((today - 29) * DAY_S, (today + 1) * DAY_S)
    assert [(group.value, group.calls, group.cost_usd) for group in costs.groups] == [
        ("gpt-4o", 2, 0.5),
        ("mine", 1, None),
    ]
    assert (costs.total.calls, costs.total.cost_usd, costs.total.unpriced_calls) == (3, 0.5, 1)
    by_key = client.costs(by="key", since=clock.now)
    assert {group.name: group.calls for group in by_key.groups} == {"bot": 1, None: 1}
    days = client.costs(by="day", since=clock.now - 60 * DAY_S)
    assert [group.value for group in days.groups] == ["2027-01-15", "2027-01-12", "2026-12-06"]
    assert (
        client.costs(until=1.0, since=0.0).total.cost_usd is None
        or client.costs(until=1.0, since=0.0).groups == []
    )


@pytest.mark.parametrize("params", [{"by": "weather"}, {"since": "nan"}, {"since": -1}, {"until": 1e300}])
def test_a_question_about_nothing_is_refused(client: Client, params: dict[str, Any]) -> None:
    with pytest.raises(LeydenError, match="does not fit"):
        client.request("GET", "/api/costs", params=params)


# ── Prices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_prices_of_ones_own_are_set_listed_and_deleted(client: Client) -> None:
    client.set_price("ollama/*", {"input": 0, "output": 0})
    assert [(price.pattern, price.rates) for price in client.prices()] == [
        ("ollama/*", {"input": 0.0, "output": 0.0})
    ]
    client.delete_price("ollama/*")
    assert client.prices() == []
    with pytest.raises(NotFound):
        client.delete_price("ollama/*")


@pytest.mark.parametrize("rates", [{}, {"inptu": 1.0}, {"input": -1.0}, {"input": "NaN"}])
def test_a_price_that_is_none_is_refused(client: Client, rates: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        client.set_price("m", rates)


def add_span(client: Client, rollout: Any, number: int, **attributes: Any) -> None:
    client.add_span(
        {
            "rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id, "sequence_id": number, "trace_id": f"{1:032x}",
            "span_id": f"{number:016x}", "parent_id": None, "name": "chat", "events": [], "links": [], "context": None, "parent": None,
            "status": {"status_code": "OK", "description": None}, "resource": {"attributes": {}, "schema_url": ""},
            "attributes": {"gen_ai.operation.name": "chat", **attributes}, "start_time": 1_767_225_600.0, "end_time": 1_767_225_601.0,
        }
    )  # fmt: skip


def test_spans_with_tokens_and_no_cost_get_the_one_that_the_prices_say(client: Client) -> None:
    tokens = {"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 0}
    rollout = client.start_rollout("question")
    assert isinstance(rollout, Rollout)
    openai = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", **tokens}
    add_span(client, rollout, 1, **openai)
    add_span(client, rollout, 2, **openai, **{"gen_ai.usage.cost": 9.0})
    add_span(client, rollout, 3, **{**openai, "gen_ai.request.model": "nobody's"})
    client.set_price("gpt-4o", {"input": 7, "output": 7})
    add_span(client, rollout, 4, **openai)
    page = client.request("GET", f"/api/rollouts/{rollout.rollout_id}/spans")
    assert [span["cost_usd"] for span in page["items"]] == [2.5, 9.0, None, 7.0]


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_limits_of_a_key_are_shown_with_it(client: Client) -> None:
    limits = KeyLimits(models=("gpt-*",), requests_per_minute=60, rollout_id="ro-1")
    made = client.create_key("bot", scopes=["gateway"], limits=limits)
    client.create_key("plain", scopes=["read"])
    listed = client.keys()
    shown = {key["name"]: key["limits"] for key in listed}
    assert shown == {
        "bot": {"models": ["gpt-*"], "requests_per_minute": 60, "rollout_id": "ro-1"},
        "plain": {},
    }
    assert made["limits"] == shown["bot"]


@pytest.mark.parametrize(
    "limits",
    [{"rpm": 1}, {"requests_per_minute": 0}, {"usd_per_day": -1}, {"models": "gpt"}, {"rollout_id": ""}, {"expire_time": 1}, {"concurrency": 1e99}, {"attempt_id": "x"}, {"rollout_id": "x" * 10_000}],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(client: Client, limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        client.request("POST", "/api/keys", body={"name": "x", "scopes": ["gateway"], "limits": limits})
    assert client.keys() == []
