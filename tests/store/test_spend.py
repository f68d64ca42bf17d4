"""What calls cost, added up as they are stored, on every database."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from leyden.ingest.usage import Usage
from leyden.settings import Settings
from leyden.store import spend, tables
from leyden.store.engine import Tx
from leyden.store.opening import Store, open_store
from leyden.store.spend import Cost, Dimension, Spent
from store.conftest import delete
from store.test_deletion import NOW, add_rollout

DAY = 20_000


def make_call(**overrides: Any) -> Spent:
    given = {
        "project": "default", "day": DAY, "key_id": "key-1", "agent": "desk", "operation": "chat", "provider": "openai",
        "model": "gpt-4o", "is_error": False, "usage": Usage(input=10, output=5), "usd": 0.25, "rollout_id": "ro-1", **overrides,
    }  # fmt: skip
    return Spent(**given)


def keep(store: Store, *calls: Spent) -> None:
    store.writer.run(lambda tx: spend.add(tx, calls))


def costs(store: Store, by: Dimension = "model", *, project: str = "default", days: int = 0) -> list[Cost]:
    with store.database.read() as tx:
        return spend.costs(tx, project=project, by=by, since=DAY - days, until=DAY)


def test_calls_add_up_by_whatever_one_asks(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", now=NOW))
    keep(store, make_call(), make_call(key_id="key-2", agent=None, usd=1.0, rollout_id="ro-2"))
    keep(
        store,
        make_call(operation="embeddings", provider="cohere", model="e", usd=0.5),
        make_call(day=DAY - 1),
    )
    assert [(c.value, c.calls, c.cost_usd) for c in costs(store, "key")] == [
        ("key-2", 1, 1.0),
        ("key-1", 2, 0.75),
    ]
    assert [(c.value, c.cost_usd) for c in costs(store, "agent")] == [("", 1.0), ("desk", 0.75)]
    assert [c.value for c in costs(store, "operation")] == ["chat", "embeddings"]
    assert [c.value for c in costs(store, "provider")] == ["openai", "cohere"]
    assert [(c.value, c.usage) for c in costs(store)] == [
        ("gpt-4o", Usage(20, output=10)),
        ("e", Usage(10, output=5)),
    ]
    assert [(c.value, c.calls) for c in costs(store, "day", days=1)] == [(DAY, 3), (DAY - 1, 1)]
    assert costs(store, project="other") == []
    with store.database.read() as tx:
        assert spend.of_key(tx, "key-1", project="default", day=DAY) == 0.75
        assert spend.of_key(tx, "key-1", project="default", day=DAY + 1) == 0.0
        assert spend.of_rollout(tx, "ro-1", project="default") == 1.0
        assert spend.of_rollout(tx, "ro-1", project="other") == 0.0
        assert spend.of_rollout(tx, "ro-unknown", project="default") == 0.0


def test_an_unknown_cost_is_counted_and_is_not_nothing(store: Store) -> None:
    keep(store, make_call(usd=None), make_call(usd=None))
    (found,) = costs(store)
    assert (found.cost_usd, found.unpriced_calls) == (None, 2)
    keep(store, make_call(usd=0.5))
    (found,) = costs(store)
    assert (found.cost_usd, found.unpriced_calls, found.calls) == (0.5, 2, 3)


def test_a_call_that_failed_without_a_token_costs_nothing(store: Store) -> None:
    keep(store, make_call(usd=None, usage=Usage(), is_error=True))
    (found,) = costs(store)
    assert (found.cost_usd, found.unpriced_calls, found.errors) == (0.0, 0, 1)


def test_names_that_no_database_takes_and_absurd_numbers_harm_no_other_call(store: Store) -> None:
    odd = make_call(model="a\0b\ud800" + "x" * 1000, agent="", usage=Usage(2**70), usd=1e30)
    keep(store, odd, make_call())
    keep(store, *[odd] * 20)
    assert {c.value[:4] for c in costs(store) if isinstance(c.value, str)} == {"a\ufffdb\ufffd", "gpt-"}


def test_what_was_spent_on_a_rollout_goes_with_it_and_the_day_stays(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", now=NOW))
    keep(store, make_call())
    store.writer.run(lambda tx: delete(tx, "ro-1"))
    with store.database.read() as tx:
        assert spend.of_rollout(tx, "ro-1", project="default") == 0.0
        assert spend.of_key(tx, "key-1", project="default", day=DAY) == 0.25


def test_what_is_spent_in_the_group_of_writes_that_deletes_its_rollout_goes_with_it(store: Store) -> None:
    def spend_and_delete(tx: Tx) -> None:
        spend.add(tx, [make_call()])
        delete(tx, "ro-1")

    store.writer.run(lambda tx: add_rollout(tx, "ro-1", now=NOW))
    store.writer.run(spend_and_delete)
    with store.database.read() as tx:
        assert tx.first(sa.select(sa.func.count()).select_from(tables.spend_rollout))[0] == 0
        assert spend.of_key(tx, "key-1", project="default", day=DAY) == 0.25


def test_two_writers_at_once_lose_no_call(store: Store, settings: Settings) -> None:
    other = open_store(settings)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda n: keep(other if n % 2 else store, make_call(), make_call(model=f"m{n % 3}")),
                    range(40),
                )
            )
    finally:
        other.close()
    assert sum(cost.calls for cost in costs(store)) == 80


CALLS = st.builds(
    make_call,
    key_id=st.sampled_from(["key-1", "key-2", None]),
    model=st.sampled_from(["a", "b"]),
    usd=st.none() | st.integers(0, 10**9).map(lambda nano: nano / 1e9),
    is_error=st.booleans(),
    usage=st.builds(Usage, *[st.integers(0, 10**6)] * 8),
)


@given(groups=st.lists(st.lists(CALLS, max_size=5), max_size=4))
@trials(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_sums_are_those_of_the_calls_however_they_were_grouped(
    store: Store, groups: list[list[Spent]]
) -> None:
    before = spend.total(costs(store)) if costs(store) else None
    for group in groups:
        keep(store, *group)
    calls = [call for group in groups for call in group]
    after = costs(store, "key")
    old = before.calls if before else 0
    assert sum(cost.calls for cost in after) - old == len(calls)
    usd = sum(call.usd or 0 for call in calls) + ((before.cost_usd or 0) if before else 0)
    assert sum(cost.cost_usd or 0 for cost in after) == pytest.approx(usd, abs=1e-8)
