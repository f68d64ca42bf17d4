"""The queue: oldest first, each rollout to one worker, healed by leases."""

import threading

import pytest

from leyden.errors import NotFound
from leyden.settings import Settings
from leyden.store import attempts, queue, rollouts, workers
from leyden.store.opening import Store, open_store
from leyden.store.rollouts import Attempted, NewRollout, RolloutRow
from leyden.types import AttemptStatus, RolloutConfig

NOW = 1_800_000_000.0
LEASE_S = 60.0


def enqueue(
    store: Store, *ids: str, config: RolloutConfig | None = None, key: str | None = None, now: float = NOW
) -> list[RolloutRow]:
    items = [NewRollout(f'"{rollout_id}"', config=config, idempotency_key=key) for rollout_id in ids]
    return store.writer.run(lambda tx: queue.enqueue(tx, items, project="default", ids=list(ids), now=now))


def claim(store: Store, worker_id: str | None = None, *, limit: int = 1, now: float = NOW) -> list[Attempted]:
    return store.writer.run(
        lambda tx: queue.claim(
            tx, project="default", worker_id=worker_id, now=now, lease_s=LEASE_S, limit=limit
        )
    )


def scan(store: Store, now: float) -> int:
    return store.writer.run(lambda tx: attempts.scan(tx, now=now, lease_s=LEASE_S, quiet_s=900))


def look(store: Store, rollout_id: str) -> Attempted:
    with store.database.read() as tx:
        return rollouts.attempted(tx, rollout_id, project="default")


def test_rollouts_are_claimed_oldest_first(store: Store) -> None:
    enqueue(store, "ro-a", "ro-b", "ro-c")
    enqueue(store, "ro-d", now=NOW - 100)  # the clock ran backwards
    assert [item.rollout.rollout_id for item in claim(store, limit=10)] == ["ro-a", "ro-b", "ro-c", "ro-d"]


def test_a_claimed_rollout_is_never_handed_out_twice(store: Store) -> None:
    enqueue(store, *(f"ro-{n}" for n in range(200)))
    claimed: list[str] = []

    def work(worker_id: str) -> None:
        while items := claim(store, worker_id, limit=3):
            claimed.extend(item.rollout.rollout_id for item in items)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"ro-{n}" for n in range(200))


def test_two_processes_share_one_database_without_sharing_a_rollout(settings: Settings, store: Store) -> None:
    other = open_store(settings)
    enqueue(store, *(f"ro-{n}" for n in range(60)))
    claimed: list[str] = []

    def work(which: Store) -> None:
        while items := claim(which):
            claimed.extend(item.rollout.rollout_id for item in items)

    threads = [threading.Thread(target=work, args=(which,)) for which in (store, other, store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert sorted(claimed) == sorted(f"ro-{n}" for n in range(60))


def test_the_same_idempotency_key_returns_the_first_rollout(store: Store) -> None:
    first = enqueue(store, "ro-1", key="job-7")
    again = enqueue(store, "ro-2", key="job-7")
    assert [row.rollout_id for row in first + again] == ["ro-1", "ro-1"]
    assert len(claim(store, limit=10)) == 1


def test_a_claim_without_a_sign_of_life_returns_to_the_queue_when_its_lease_lapses(store: Store) -> None:
    enqueue(store, "ro-1")
    claim(store, "w1")
    assert scan(store, NOW + LEASE_S - 1) == 0
    assert scan(store, NOW + LEASE_S + 1) == 1
    assert look(store, "ro-1").rollout.status == "requeuing"
    (again,) = claim(store, "w2", now=NOW + LEASE_S + 2)
    assert again.attempt is not None
    assert again.attempt.sequence_id == 2


def test_a_worker_heartbeat_extends_the_lease_of_its_attempt(store: Store) -> None:
    enqueue(store, "ro-1")
    claim(store, "w1")
    store.writer.run(
        lambda tx: workers.heartbeat(
            tx, project="default", worker_id="w1", stats=None, now=NOW + 50, lease_s=LEASE_S
        )
    )
    scan(store, NOW + LEASE_S + 1)
    assert look(store, "ro-1").rollout.status == "preparing"
    scan(store, NOW + 50 + LEASE_S + 1)
    assert look(store, "ro-1").rollout.status == "requeuing"


def test_a_timed_out_attempt_is_retried_as_its_config_says_and_then_fails_with_the_reason(
    store: Store,
) -> None:
    config = RolloutConfig(timeout_seconds=10, max_attempts=2, retry_condition=[AttemptStatus.TIMEOUT])
    enqueue(store, "ro-1", config=config)
    claim(store, "w1")
    scan(store, NOW + 11)
    assert look(store, "ro-1").rollout.status == "requeuing"
    claim(store, "w1", now=NOW + 12)
    scan(store, NOW + 23)
    done = look(store, "ro-1").rollout
    assert (done.status, done.end_time) == ("failed", NOW + 23)
    assert "timeout_seconds=10" in (done.failure_reason or "")


def test_cancelling_reaches_the_attempt_and_frees_the_worker(store: Store) -> None:
    enqueue(store, "ro-1")
    claim(store, "w1")
    store.writer.run(
        lambda tx: rollouts.update(
            tx, project="default", rollout_id="ro-1", changes={"status": "cancelled"}, now=NOW + 5
        )
    )
    rollout, attempt = look(store, "ro-1")
    assert attempt is not None
    assert (rollout.status, attempt.status, attempt.failure_reason) == ("cancelled", "failed", "cancelled")
    with store.database.read() as tx:
        worker = workers.get(tx, "w1", project="default")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("idle", None)


def test_a_late_success_does_not_raise_a_cancelled_rollout_from_the_dead(store: Store) -> None:
    enqueue(store, "ro-1")
    claim(store, "w1")
    store.writer.run(
        lambda tx: rollouts.update(
            tx, project="default", rollout_id="ro-1", changes={"status": "cancelled"}, now=NOW + 5
        )
    )
    store.writer.run(
        lambda tx: attempts.update(
            tx,
            project="default",
            rollout_id="ro-1",
            attempt_id="latest",
            changes={"status": "succeeded"},
            now=NOW + 6,
            lease_s=LEASE_S,
        )
    )
    assert look(store, "ro-1").rollout.status == "cancelled"


def test_another_project_sees_neither_the_queue_nor_the_rollout(store: Store) -> None:
    enqueue(store, "ro-1")
    assert (
        store.writer.run(
            lambda tx: queue.claim(tx, project="other", worker_id=None, now=NOW, lease_s=LEASE_S)
        )
        == []
    )
    with store.database.read() as tx, pytest.raises(NotFound, match="Rollout ro-1 not found"):
        rollouts.attempted(tx, "ro-1", project="other")
