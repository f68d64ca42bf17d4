"""From the end of a call to the store: nothing waits for it, nothing is stored twice, and what is lost is counted."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from faults.processes import until
from gateway.exchanges import IDENTITY, call, exchange
from gateway.test_recording import record
from leyden.errors import BadInput, StoreUnwritable
from leyden.gateway.app import spent
from leyden.gateway.call import Exchange
from leyden.gateway.capture import Capture
from leyden.gateway.identity import attempt_of, own_rollout
from leyden.gateway.recording import Recorded
from leyden.ingest.payload import spans_json
from leyden.settings import Settings
from leyden.store import check, rollouts, spans, spend
from leyden.store.opening import Store, open_store
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout
from leyden.store.spans import SpanFilter
from leyden.types import SpanSummary


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


@contextmanager
def capturing(store: Store, **more: Any) -> Iterator[Capture]:
    capture = Capture(store, more.pop("read", record), quiet_s=900, **more)
    try:
        yield capture
    finally:
        capture.close()


def stored(store: Store, rollout_id: str = "ro-1", *, project: str = "default") -> list[SpanSummary]:
    with store.database.read() as tx:
        return spans.summaries(tx, SpanFilter(rollout_id), Paging(), project=project)[0]


def shown(store: Store, rollout_id: str, *, project: str = "default") -> list[dict[str, Any]]:
    """The spans of a rollout as the API hands them out."""
    with store.database.read() as tx:
        rows, _ = spans.query_payloads(tx, SpanFilter(rollout_id), Paging(), project=project)
    return [json.loads(one) for one in spans_json(rows)]


def also_spend(tx: Any, calls: Any) -> None:
    spend.add(tx, [spent(one, found) for one, found in calls])


def began(
    store: Store, attempt_id: str = "at-1", *, rollout_id: str = "ro-1", project: str = "default"
) -> None:
    """A rollout that somebody works on."""
    ids = {"rollout_id": rollout_id, "attempt_id": attempt_id}
    item = NewRollout("1")
    store.writer.run(partial(rollouts.start, item=item, project=project, worker_id=None, now=1.0, **ids))


def numbered(n: int) -> Exchange:
    return exchange(call(identity=IDENTITY._replace(rollout_id=f"ro-{n}")))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The SQLite file, held by another program."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "leyden.db"


@pytest.fixture
def busy(file: Path) -> Iterator[Store]:
    """A store on SQLite that soon says when it is locked."""
    opened = open_store(Settings(db=str(file), busy_timeout_s=0.05))
    yield opened
    opened.close()


def test_what_is_offered_is_stored_before_close_returns(store: Store) -> None:
    with capturing(store) as capture:
        assert all(capture.offer(exchange()) for _ in range(200))
    assert len(stored(store)) == 200
    assert (capture.counts.recorded, capture.counts.lost, capture.pending) == (200, 0, 0)


def test_calls_from_many_threads_are_all_stored(store: Store) -> None:
    with capturing(store) as capture:
        threads = [
            threading.Thread(target=lambda: [capture.offer(exchange()) for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({span.span_id for span in stored(store)}) == 200


def test_a_call_without_an_attempt_goes_to_the_one_that_runs(store: Store) -> None:
    began(store, "at-running")
    with capturing(store) as capture:
        capture.offer(exchange(call(identity=IDENTITY._replace(attempt_id=None))))
    assert [span.attempt_id for span in stored(store)] == ["at-running"]


# ── Named where it cannot be ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trace_id", [None, "ab" * 16])
def test_a_call_of_an_unknown_attempt_goes_to_the_latest_and_says_what_it_named(
    store: Store, trace_id: str | None
) -> None:
    began(store, "at-running")
    with capturing(store, also=also_spend) as capture:
        capture.offer(exchange(call(identity=IDENTITY._replace(attempt_id="at-typo", trace_id=trace_id))))
        capture.offer(exchange(call(identity=IDENTITY._replace(attempt_id="at-running"))))
    assert (capture.counts.recorded, capture.counts.lost) == (2, 0)
    typo, right = sorted(shown(store, "ro-1"), key=lambda span: len(span["attributes"]), reverse=True)
    assert (typo["attempt_id"], right["attempt_id"]) == ("at-running", "at-running")
    assert typo["attributes"]["leyden.gateway.named_attempt"] == "at-typo"
    assert "leyden.gateway.named_attempt" not in right["attributes"]
    assert "leyden.gateway.named_rollout" not in typo["attributes"]
    assert typo["trace_id"] == trace_id or (trace_id is None and typo["trace_id"] == right["trace_id"])
    assert {span.trace_id for span in stored(store)} == {typo["trace_id"], right["trace_id"]}
    with store.database.read() as tx:
        assert rollouts.get(tx, "ro-1", project="default").attempts == 1


def test_calls_that_name_a_rollout_of_another_project_stay_together_in_their_own(store: Store) -> None:
    began(store, project="other")
    with store.database.read() as tx:
        before = rollouts.attempted(tx, "ro-1", project="other")
    with capturing(store, also=also_spend) as capture:
        for attempt_id in ("at-1", "at-1", "at-2", None):
            capture.offer(exchange(call(identity=IDENTITY._replace(attempt_id=attempt_id))))
    assert (capture.counts.recorded, capture.counts.lost) == (4, 0)
    own = own_rollout("default", "ro-1")
    found = shown(store, own)
    assert {(span["rollout_id"], span["attempt_id"]) for span in found} == {(own, attempt_of(own))}
    assert {span["attributes"]["leyden.gateway.named_rollout"] for span in found} == {"ro-1"}
    named = [span["attributes"].get("leyden.gateway.named_attempt") for span in found]
    assert sorted(named, key=str) == [None, "at-1", "at-1", "at-2"]
    assert len({span["trace_id"] for span in found}) == 1
    with store.database.read() as tx:
        assert rollouts.attempted(tx, "ro-1", project="other") == before
        assert spend.of_rollout(tx, "ro-1", project="other") == 0.0
        assert spend.of_rollout(tx, own, project="default") > 0.0
    assert shown(store, "ro-1", project="other") == []
    assert check.problems(store.database) == []


def test_two_projects_that_name_one_rollout_of_a_third_share_nothing(store: Store) -> None:
    began(store, project="other")
    with capturing(store) as capture:
        for project in ("default", "third"):
            capture.offer(exchange(call(identity=IDENTITY._replace(project=project))))
    assert capture.counts.recorded == 2
    for project in ("default", "third"):
        assert len(shown(store, own_rollout(project, "ro-1"), project=project)) == 1


@pytest.mark.parametrize("attempt_id", ["at-early", None])
def test_a_call_of_a_rollout_that_waits_in_the_queue_leaves_it_there(
    store: Store, attempt_id: str | None
) -> None:
    add = partial(rollouts.add, item=NewRollout("1"), project="default", status="queuing", resources_id=None)
    store.writer.run(partial(add, rollout_id="ro-1", now=1.0))
    with capturing(store) as capture:
        capture.offer(exchange(call(identity=IDENTITY._replace(attempt_id=attempt_id))))
    assert (capture.counts.recorded, capture.counts.lost) == (1, 0)
    [span] = shown(store, own_rollout("default", "ro-1"))
    assert span["attributes"]["leyden.gateway.named_rollout"] == "ro-1"
    with store.database.read() as tx:
        row = rollouts.get(tx, "ro-1", project="default")
    assert (row.status, row.attempts) == ("queuing", 0)


def test_calls_beside_one_that_named_wrongly_stay_where_they_named(store: Store) -> None:
    began(store)
    with capturing(store) as capture:
        for identity in (
            IDENTITY,
            IDENTITY._replace(attempt_id="at-typo"),
            IDENTITY._replace(rollout_id="ro-2"),
        ):
            capture.offer(exchange(call(identity=identity)))
    assert (capture.counts.recorded, capture.counts.lost) == (3, 0)
    assert (len(stored(store)), len(stored(store, "ro-2"))) == (2, 1)


# ── Beside the span ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_else_belongs_to_a_call_is_stored_with_it(store: Store) -> None:
    told: list[list[str]] = []

    def also(tx: Any, calls: Any) -> None:
        told.append([found.record.span_id for _, found in calls])

    with capturing(store, also=also) as capture:
        capture.offer(exchange())
    assert told == [[span.span_id for span in stored(store)]]


def test_who_offered_a_call_is_told_what_it_cost(store: Store) -> None:
    told: list[Recorded | None] = []
    with capturing(store) as capture:
        capture.offer(exchange(), lambda _, found: told.append(found))
    assert [found.usage.total for found in told if found and found.usage] == [9]


def unreadable(failure: Exception) -> Callable[[Exchange], Recorded]:
    def read(one: Exchange) -> Recorded:
        if one.call.identity.rollout_id == "ro-7":
            raise failure
        return record(one)

    return read


@pytest.mark.parametrize("failure", [BadInput("odd"), RuntimeError("a defect")])
def test_a_call_that_cannot_be_read_is_lost_alone_and_counted(store: Store, failure: Exception) -> None:
    told: list[Recorded | None] = []
    with capturing(store, read=unreadable(failure)) as capture:
        for n in range(10):
            capture.offer(numbered(n), (lambda _, found: told.append(found)) if n == 7 else None)
    assert (capture.counts.recorded, capture.counts.lost) == (9, 1)
    assert told == [None]


def test_past_the_bound_calls_are_lost_counted_and_told(busy: Store, file: Path) -> None:
    told: list[Recorded | None] = []
    with capturing(busy, most_calls=3) as capture, locked(file):
        assert [capture.offer(exchange()) for _ in range(3)] == [True] * 3
        assert not capture.has_room
        assert capture.offer(exchange(), lambda _, found: told.append(found)) is False
        assert (capture.counts.lost, told) == (1, [None])
    assert capture.counts.recorded == 3


def test_what_a_request_takes_once_it_is_read_counts_towards_the_bound(busy: Store, file: Path) -> None:
    with locked(file):
        capture = Capture(busy, record, quiet_s=900, most_bytes=2**20)
        many = exchange(call(asked={"model": "m", "messages": [{}] * 10_000}))
        assert len(many.call.body) < 50_000
        assert [capture.offer(many) for _ in range(3)] == [True, False, False]
        capture.close(patience_s=0)


def test_past_the_bound_in_bytes_calls_are_lost_too(busy: Store, file: Path) -> None:
    with locked(file):
        with_large = exchange(body=b"x" * 100_000)
        capture = Capture(busy, record, quiet_s=900, most_bytes=150_000)
        assert [capture.offer(with_large), capture.offer(with_large), capture.offer(with_large)] == [
            True,
            True,
            False,
        ]
        assert capture.counts.lost == 1
    capture.close()
    assert capture.counts.recorded == 2


def test_calls_wait_for_a_store_that_is_away_and_are_stored_once(busy: Store, file: Path) -> None:
    with capturing(busy) as capture:
        with locked(file):
            for _ in range(100):
                assert capture.offer(exchange())
            assert capture.counts.recorded == 0
        assert until(lambda: capture.counts.recorded == 100)
        assert capture.pending == 0
    assert len({span.span_id for span in stored(busy)}) == 100


def test_closing_gives_up_on_a_store_that_stays_away(busy: Store, file: Path) -> None:
    with locked(file):
        capture = Capture(busy, record, quiet_s=900)
        capture.offer(exchange())
        capture.close(patience_s=0.1)
    assert (capture.counts.recorded, capture.counts.lost) == (0, 1)
    assert not capture.has_room
    assert capture.offer(exchange()) is False


@contextmanager
def read_only(store: Store) -> Iterator[None]:
    """The writer's connection takes no writes, which holds for root too: SQLite and PostgreSQL each have a setting for it."""
    if store.database.is_sqlite:
        off, on = "PRAGMA query_only=ON", "PRAGMA query_only=OFF"
    else:
        off, on = "SET default_transaction_read_only=on", "SET default_transaction_read_only=off"

    def say(words: str) -> None:
        # Not with the writer: SQLite begins no change then. Its connection is the engine's only one.
        if store.database.is_sqlite:
            with store.database.engine.connect() as connection:
                connection.exec_driver_sql(words)
        else:
            store.writer.run(lambda tx: tx.driver(words))

    say(off)
    try:
        yield
    finally:
        say(on)


def test_calls_wait_for_a_store_that_is_read_only_and_are_stored_once(store: Store) -> None:
    with capturing(store, most_calls=50) as capture:
        with read_only(store):
            assert all(capture.offer(exchange()) for _ in range(50))
            with pytest.raises(StoreUnwritable, match="cannot be written"):
                store.writer.run(lambda tx: tx.run(sa.text("DELETE FROM span")))
            assert not capture.has_room  # what the strict mode asks before it lets a call through
            assert capture.offer(exchange()) is False
            assert (capture.counts.recorded, capture.counts.lost) == (0, 1)
        assert until(lambda: capture.counts.recorded == 50)
    assert len({span.span_id for span in stored(store)}) == 50
    assert capture.counts.lost == 1


def test_closing_gives_up_on_a_store_that_stays_read_only(store: Store) -> None:
    with read_only(store):
        capture = Capture(store, record, quiet_s=900)
        capture.offer(exchange())
        capture.close(patience_s=0.1)
    assert (capture.counts.recorded, capture.counts.lost) == (0, 1)


def test_a_call_that_can_never_be_stored_is_lost_alone_once_a_read_only_store_takes_writes(
    store: Store,
) -> None:
    def read(one: Exchange) -> Recorded:
        found = record(one)
        if one.call.identity.rollout_id == "ro-7":
            return found._replace(record=found.record._replace(input_tokens=2**70))
        return found

    with capturing(store, read=read) as capture:
        with read_only(store):
            for n in range(10):
                capture.offer(numbered(n))
            assert capture.counts.lost == 0
        assert until(lambda: capture.pending == 0)
    assert (capture.counts.recorded, capture.counts.lost) == (9, 1)


LONG = "".join(f"{n:04x}" for n in range(4000))
"""Longer than an index takes, and not to be compressed."""


def answered(**more: Any) -> Exchange:
    return exchange(body=json.dumps({"id": "c", "model": "m", "choices": [], "usage": {}} | more).encode())


@pytest.mark.parametrize(
    "odd",
    [
        exchange(call(identity=IDENTITY._replace(rollout_id=LONG))),
        exchange(call(identity=IDENTITY._replace(session=LONG))),
        exchange(call(asked={"model": LONG, "messages": []})),
        answered(id=LONG),
        answered(model=LONG),
        answered(usage={"prompt_tokens": 2**63 + 5, "completion_tokens": 1}),
        answered(usage={"prompt_tokens": 10**30, "completion_tokens": -5}),
    ],
    ids=["rollout", "session", "asked", "id", "model", "count", "counts"],
)
def test_an_odd_call_costs_itself_alone(store: Store, odd: Exchange) -> None:
    with capturing(store, also=also_spend) as capture:
        for one in (exchange(), odd, exchange()):
            capture.offer(one)
        assert until(lambda: capture.pending == 0, timeout_s=5)
        capture.offer(exchange())
    assert len(stored(store)) >= 3
    assert capture.counts.lost <= 1
    assert capture.counts.recorded + capture.counts.lost == 4


def test_calls_that_a_store_cannot_hold_together_are_tried_alone(store: Store) -> None:
    def also(tx: Any, calls: Any) -> None:
        if any(one.call.identity.rollout_id == "ro-poison" for one, _ in calls):
            tx.run(sa.text("SELECT nothing FROM nowhere"))

    with capturing(store, also=also) as capture:
        for name in ("ro-1", "ro-poison", "ro-1"):
            capture.offer(exchange(call(identity=IDENTITY._replace(rollout_id=name))))
    assert (capture.counts.recorded, capture.counts.lost) == (2, 1)
    assert len(stored(store)) == 2
