"""Budgets hold over restarts and over replicas, because the store knows what was spent."""

import pytest

from gateway.test_limits import NOW, make_call, make_key
from leyden.errors import BudgetSpent
from leyden.gateway.limits import Account, Limits
from leyden.ingest.usage import Usage
from leyden.settings import Settings
from leyden.store import spend
from leyden.store.opening import Store, open_store
from store.test_deletion import add_rollout
from store.test_spend import make_call as make_spent


def limits_over(store: Store) -> Limits:
    def read(account: Account) -> float:
        with store.database.read() as tx:
            if account.day is None:
                return spend.of_rollout(tx, account.id, project=account.project)
            return spend.of_key(tx, account.id, project=account.project, day=account.day)

    return Limits(read=read, price=lambda _call, _usage: 0.0)


@pytest.mark.parametrize("kind", ["usd_per_day", "usd_per_rollout"])
def test_what_one_replica_spent_another_and_the_next_start_know(settings: Settings, kind: str) -> None:
    store = open_store(settings)
    key, call = make_key(**{kind: 1.0}), make_call(rollout="ro-1")
    here, there = limits_over(store), limits_over(store)
    for replica in (here, there):
        replica.check(call, key, NOW).settle(Usage(), 0.0)
    store.writer.run(lambda tx: add_rollout(tx, "ro-1"))
    day = int(NOW // 86_400)
    store.writer.run(lambda tx: spend.add(tx, [make_spent(day=day, usd=2.0), make_spent(day=day, usd=None)]))
    for replica, now in ((here, NOW + 5), (there, NOW + 5), (limits_over(store), NOW)):
        with pytest.raises(BudgetSpent):
            replica.check(call, key, now)
    store.close()
