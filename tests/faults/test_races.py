"""Two replicas on one PostgreSQL, interleaved on purpose: one holds its transaction open while the other does its part.

Each test stops the first replica right before its commit, waits until the second one is blocked or done, and lets go.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from faults.processes import until
from leyden.settings import Settings
from leyden.store import attempts, keys, queue, resources, rollouts, spans, workers
from leyden.store.engine import Tx
from leyden.store.opening import Store, open_store
from leyden.store.rollouts import Attempted, NewRollout
from leyden.types import AttemptStatus, RolloutConfig
from store.conftest import make_span

NOW = 1_800_000_000.0
LEASE_S = 60.0
Change = Callable[[Tx], Any]


class Replicas:
    """Two open stores, and `race` between them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.first, self.second = (open_store(Settings(db=url)) for _ in range(2))
        self._pool = ThreadPoolExecutor(2)

    def race(self, first: Change, second: Change) -> tuple[Any, Any]:
        """Run `second` on the other replica while `first` has done its work and not committed; both results."""
        done, go = threading.Event(), threading.Event()

        def held(tx: Tx) -> Any:
            result = first(tx)
            done.set()
            assert go.wait(30)
            return result

        one = self._pool.submit(self.first.writer.run, held)
        until(lambda: done.is_set() or one.done())
        two = self._pool.submit(self.second.writer.run, second)
        until(lambda: two.done() or self._blocked())
        go.set()
        return _outcome(one), _outcome(two)

    def _blocked(self) -> bool:
        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
        return row is not None and row[0] > 0

    def close(self) -> None:
        self._pool.shutdown()
        self.first.close()
        self.second.close()


def _outcome(future: "Future[Any]") -> Any:
    return future.result(30)


@pytest.fixture
def replicas(postgres_database: str) -> Iterator[Replicas]:
    both = Replicas(postgres_database)
    yield both
    both.close()


def enqueue(*ids: str, key: str | None = None, config: RolloutConfig | None = None) -> Change:
    items = [NewRollout("{}", idempotency_key=key, config=config) for _ in ids]
    return lambda tx: queue.enqueue(tx, items, project="default", ids=list(ids), now=NOW)


def claim(worker_id: str | None = None, *, limit: int = 1, now: float = NOW) -> Change:
    return lambda tx: queue.claim(
        tx, project="default", worker_id=worker_id, now=now, lease_s=LEASE_S, limit=limit
    )


def finish(rollout_id: str, status: str = "succeeded") -> Change:
    return lambda tx: attempts.update(
        tx,
        project="default",
        rollout_id=rollout_id,
        attempt_id="latest",
        changes={"status": status},
        now=NOW + 5,
        lease_s=LEASE_S,
    )


def set_status(rollout_id: str, status: str) -> Change:
    return lambda tx: rollouts.update(
        tx, project="default", rollout_id=rollout_id, changes={"status": status}, now=NOW + 5
    )


def scan(now: float) -> Change:
    return lambda tx: attempts.scan(tx, now=now, lease_s=LEASE_S, quiet_s=900)


def post_span(rollout_id: str, attempt_id: str, number: int = 1, **overrides: Any) -> Change:
    record = make_span(rollout_id, attempt_id, number, **overrides)
    return lambda tx: spans.insert(tx, [record], project="default", now=NOW + 5, quiet_s=900)


def look(store: Store, rollout_id: str) -> Attempted:
    with store.database.read() as tx:
        return rollouts.attempted(tx, rollout_id, project="default")


def begun(replicas: Replicas) -> tuple[str, str]:
    """A claimed rollout and its attempt."""
    replicas.first.writer.run(enqueue("ro-1"))
    (item,) = replicas.first.writer.run(claim("w1"))
    return item.rollout.rollout_id, item.attempt.attempt_id


def test_a_success_on_one_replica_does_not_undo_a_cancellation_on_the_other(replicas: Replicas) -> None:
    rollout_id, _ = begun(replicas)
    replicas.race(set_status(rollout_id, "cancelled"), finish(rollout_id))
    assert look(replicas.first, rollout_id).rollout.status == "cancelled"


def test_a_span_on_one_replica_does_not_revive_an_attempt_that_the_other_ended(replicas: Replicas) -> None:
    rollout_id, attempt_id = begun(replicas)
    replicas.race(finish(rollout_id), post_span(rollout_id, attempt_id))
    found = look(replicas.first, rollout_id)
    assert found.attempt is not None
    assert (found.rollout.status, found.attempt.status) == ("succeeded", "succeeded")


def test_the_watchdogs_of_two_replicas_do_not_take_back_a_claim_made_between_their_scans(
    replicas: Replicas,
) -> None:
    rollout_id, _ = begun(replicas)
    late = NOW + LEASE_S + 1

    def scan_and_hand_out(tx: Tx) -> Any:
        scan(late)(tx)
        return claim("w2", now=late)(tx)

    (again,), _ = replicas.race(scan_and_hand_out, scan(late))
    found = look(replicas.first, rollout_id)
    assert (found.rollout.status, found.attempt) == ("preparing", again.attempt)
    replicas.first.writer.run(scan(late + LEASE_S + 1))
    assert look(replicas.first, rollout_id).rollout.status == "requeuing", "nobody watches the second claim"


def test_a_watchdog_does_not_fail_an_attempt_that_the_other_replica_just_finished(replicas: Replicas) -> None:
    rollout_id, _ = begun(replicas)
    replicas.race(finish(rollout_id), scan(NOW + LEASE_S + 1))
    found = look(replicas.first, rollout_id)
    assert found.attempt is not None
    assert (found.rollout.status, found.attempt.status) == ("succeeded", "succeeded")


def test_two_attempts_started_at_once_are_numbered_one_after_the_other(replicas: Replicas) -> None:
    rollout_id, _ = begun(replicas)

    def start(attempt_id: str) -> Change:
        return lambda tx: rollouts.start_attempt(
            tx, project="default", rollout_id=rollout_id, attempt_id=attempt_id, worker_id=None, now=NOW
        )

    one, two = replicas.race(start("at-one"), start("at-two"))
    assert (one.attempt.sequence_id, two.attempt.sequence_id) == (2, 3)
    assert look(replicas.first, rollout_id).rollout.attempt_id == "at-two"


def test_the_same_idempotency_key_on_two_replicas_makes_one_rollout(replicas: Replicas) -> None:
    one, two = replicas.race(enqueue("ro-1", key="job-7"), enqueue("ro-2", key="job-7"))
    assert [row.rollout_id for row in one + two] == ["ro-1", "ro-1"]
    assert len(replicas.first.writer.run(claim(limit=10))) == 1


def test_the_first_spans_of_a_trace_on_two_replicas_make_one_rollout_and_are_both_kept(
    replicas: Replicas,
) -> None:
    ids = ("ro-" + "7" * 32, "at-77777777")
    one, two = replicas.race(post_span(*ids, 1, source="otlp"), post_span(*ids, 2, source="otlp"))
    assert one.refused == two.refused == {}
    assert (one.is_new, two.is_new) == ([True], [True])
    assert {one.sequence_ids[0], two.sequence_ids[0]} == {1, 2}


def test_the_same_span_on_two_replicas_is_stored_once(replicas: Replicas) -> None:
    ids = begun(replicas)
    one, two = replicas.race(post_span(*ids, 1), post_span(*ids, 1))
    assert sorted([one.is_new, two.is_new]) == [[False], [True]]


def test_the_first_heartbeat_of_a_worker_on_two_replicas_makes_one_worker(replicas: Replicas) -> None:
    def beat(tx: Tx) -> Any:
        return workers.heartbeat(tx, project="default", worker_id="w1", stats=None, now=NOW, lease_s=LEASE_S)

    one, two = replicas.race(beat, beat)
    assert one.worker_id == two.worker_id == "w1"


def test_the_same_trace_in_two_projects_is_refused_in_the_second_and_harms_nothing_else(
    replicas: Replicas,
) -> None:
    ids = ("ro-" + "7" * 32, "at-77777777")
    replicas.first.writer.run(post_span(*ids, 1, source="otlp"))
    good = make_span("ro-" + "8" * 32, "at-88888888", 2, source="otlp")
    both = [make_span(*ids, 3, source="otlp"), good]
    stored = replicas.second.writer.run(
        lambda tx: spans.insert(tx, both, project="other", now=NOW, quiet_s=900)
    )
    assert (stored.refused, stored.is_new) == ({0: f"Rollout {ids[0]} not found"}, [False, True])


def test_the_first_keys_of_a_project_on_two_replicas_are_both_made(replicas: Replicas) -> None:
    def make(tx: Tx) -> Any:
        return keys.create(tx, project="new", name="x", scopes=["read"], now=NOW)

    (one, _), (two, _) = replicas.race(make, make)
    assert one.id != two.id


def test_two_updates_of_one_bundle_of_resources_are_two_versions(replicas: Replicas) -> None:
    def put(number: int) -> Change:
        return lambda tx: resources.put(
            tx, project="default", resources_id="rs-1", resources={"n": number}, now=NOW
        )

    assert [row.version for row in replicas.race(put(1), put(2))] == [1, 2]
    assert [row.version for row in replicas.race(put(3), put(4))] == [3, 4]


def test_a_claim_takes_no_more_than_its_limit_whatever_plan_the_database_chooses(replicas: Replicas) -> None:
    replicas.first.writer.run(enqueue(*(f"ro-{n}" for n in range(50))))
    for setting in (
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_hashagg",
        "enable_sort",
        "enable_indexscan",
        "enable_material",
    ):
        replicas.first.writer.run(lambda tx, setting=setting: tx.driver(f"SET {setting} = off"))
    assert len(replicas.first.writer.run(claim(limit=3))) == 3
    replicas.first.writer.run(lambda tx: tx.driver("ANALYZE"))
    assert len(replicas.first.writer.run(claim(limit=3))) == 3


def test_retries_are_decided_once_when_both_replicas_see_the_time_out(replicas: Replicas) -> None:
    config = RolloutConfig(timeout_seconds=10, max_attempts=2, retry_condition=[AttemptStatus.TIMEOUT])
    replicas.first.writer.run(enqueue("ro-1", config=config))
    replicas.first.writer.run(claim("w1"))
    replicas.race(scan(NOW + 11), scan(NOW + 11))
    assert look(replicas.first, "ro-1").rollout.status == "requeuing"
    assert [len(replicas.first.writer.run(claim(now=NOW + 12))) for _ in range(2)] == [1, 0]
