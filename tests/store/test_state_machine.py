"""Any order of events leaves rollouts, attempts, queue and workers where a small model of the rules says.

The model below is the specification in plain Python: no database, no deadlines, it looks at everything at every scan.
Hypothesis walks both with the same random events and compares every row after each of them, on each database.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from leyden.errors import InvalidTransition
from leyden.store import attempts, queue, rollouts, spans, tables, workers
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from leyden.types import (
    ATTEMPT_TRANSITIONS,
    FINAL_ROLLOUT,
    QUEUED_ROLLOUT,
    ROLLOUT_TRANSITIONS,
    AttemptStatus,
    RolloutConfig,
    RolloutStatus,
    rollout_status_after,
)
from store.conftest import make_span

LEASE_S = 10.0
START = 1_800_000_000.0
WORKERS = ("w1", "w2")
WATCHED_ATTEMPT = (AttemptStatus.PREPARING, AttemptStatus.RUNNING)
WATCHED_ROLLOUT = (RolloutStatus.PREPARING, RolloutStatus.RUNNING)

_numbers = itertools.count()


# ── The model ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class ModelAttempt:
    attempt_id: str
    sequence_id: int
    start_time: float
    worker_id: str | None
    lease_until: float | None
    status: AttemptStatus = AttemptStatus.PREPARING
    heartbeat: float | None = None
    end_time: float | None = None
    span_ids: set[int] = field(default_factory=set)

    def facts(self) -> tuple[Any, ...]:
        return (
            self.attempt_id,
            self.sequence_id,
            self.start_time,
            self.end_time,
            self.status,
            self.worker_id,
            self.heartbeat,
        )


@dataclass
class ModelRollout:
    rollout_id: str
    config: RolloutConfig
    status: RolloutStatus
    end_time: float | None = None
    attempts: list[ModelAttempt] = field(default_factory=list)
    queued: int = 0
    claimed: int = 0

    @property
    def latest(self) -> ModelAttempt | None:
        return self.attempts[-1] if self.attempts else None


@dataclass
class ModelWorker:
    status: str = "unknown"
    current: tuple[str | None, str | None] = (None, None)
    heartbeat: float | None = None


@dataclass
class Model:
    """The rules. Every method is one event; `queue` holds rollout ids, oldest first."""

    now: float = START
    rollouts: dict[str, ModelRollout] = field(default_factory=dict)
    workers: dict[str, ModelWorker] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)

    def enqueue(self, rollout_id: str, config: RolloutConfig) -> None:
        self.rollouts[rollout_id] = ModelRollout(rollout_id, config, RolloutStatus.QUEUING, queued=1)
        self.queue.append(rollout_id)

    def start(self, rollout_id: str, attempt_id: str, config: RolloutConfig, worker_id: str | None) -> None:
        self.rollouts[rollout_id] = ModelRollout(rollout_id, config, RolloutStatus.PREPARING)
        self._begin(self.rollouts[rollout_id], attempt_id, worker_id, lease_until=None)

    def claim(self, worker_id: str | None, limit: int) -> list[str]:
        taken = self.queue[:limit]
        if not taken and worker_id is not None:
            self.workers[worker_id] = ModelWorker(
                "idle", heartbeat=self.workers.get(worker_id, ModelWorker()).heartbeat
            )
        return taken

    def claimed(self, rollout_id: str, attempt_id: str, worker_id: str | None) -> None:
        rollout = self.rollouts[rollout_id]
        rollout.claimed += 1
        self._set(rollout, RolloutStatus.PREPARING)
        self._begin(rollout, attempt_id, worker_id, lease_until=self.now + LEASE_S)

    def start_attempt(self, rollout_id: str, attempt_id: str, worker_id: str | None) -> None:
        rollout = self.rollouts[rollout_id]
        self._set(rollout, RolloutStatus.PREPARING)
        self._begin(rollout, attempt_id, worker_id, lease_until=None)

    def _begin(
        self, rollout: ModelRollout, attempt_id: str, worker_id: str | None, *, lease_until: float | None
    ) -> None:
        rollout.attempts.append(
            ModelAttempt(attempt_id, len(rollout.attempts) + 1, self.now, worker_id, lease_until)
        )
        self._sync(rollout, rollout.attempts[-1])

    def span(self, rollout: ModelRollout, attempt: ModelAttempt, number: int) -> None:
        if number in attempt.span_ids:
            return
        attempt.span_ids.add(number)
        attempt.heartbeat = self.now
        if attempt.status in (AttemptStatus.PREPARING, AttemptStatus.UNRESPONSIVE):
            attempt.status = AttemptStatus.RUNNING
        if attempt is rollout.latest and rollout.status in (RolloutStatus.PREPARING, RolloutStatus.REQUEUING):
            self._set(rollout, RolloutStatus.RUNNING)

    def update_attempt(self, rollout: ModelRollout, attempt: ModelAttempt, status: AttemptStatus) -> bool:
        """False when the table refuses."""
        if status != attempt.status and status not in ATTEMPT_TRANSITIONS[attempt.status]:
            return False
        if status != attempt.status and status in (AttemptStatus.SUCCEEDED, AttemptStatus.FAILED):
            attempt.end_time = self.now
        attempt.status = status
        if attempt.lease_until is not None:
            attempt.lease_until = self.now + LEASE_S if status in WATCHED_ATTEMPT else None
        self._follow(rollout, attempt)
        self._sync(rollout, attempt)
        return True

    def update_rollout(self, rollout: ModelRollout, status: RolloutStatus) -> None:
        self._set(rollout, status)
        last = rollout.latest
        if (
            status == RolloutStatus.CANCELLED
            and last is not None
            and last.status in (*WATCHED_ATTEMPT, AttemptStatus.UNRESPONSIVE)
        ):
            last.status, last.end_time, last.lease_until = AttemptStatus.FAILED, self.now, None
            self._sync(rollout, last)

    def heartbeat(self, worker_id: str) -> None:
        worker = self.workers.setdefault(worker_id, ModelWorker())
        worker.heartbeat = self.now
        for rollout in self.rollouts.values():
            for attempt in rollout.attempts:
                if (
                    rollout.rollout_id,
                    attempt.attempt_id,
                ) == worker.current and attempt.lease_until is not None:
                    attempt.lease_until = self.now + LEASE_S

    def scan(self) -> list[str]:
        """The rollouts that go back to the queue; their order among each other is the watchdog's own."""
        back: list[str] = []
        for rollout in self.rollouts.values():
            last = rollout.latest
            if last is None or rollout.status not in WATCHED_ROLLOUT or last.status not in WATCHED_ATTEMPT:
                continue
            verdict = self._verdict(rollout, last)
            if verdict is None:
                continue
            never_alive = verdict == "lease" and self._silent(last)
            last.status = AttemptStatus.TIMEOUT if verdict == "timeout" else AttemptStatus.UNRESPONSIVE
            last.lease_until = None
            if never_alive:
                self._set(rollout, RolloutStatus.REQUEUING)
            else:
                self._follow(rollout, last)
            self._sync(rollout, last)
            if rollout.status == RolloutStatus.REQUEUING:
                back.append(rollout.rollout_id)
        return back

    def _verdict(self, rollout: ModelRollout, last: ModelAttempt) -> str | None:
        config, alive = rollout.config, last.heartbeat if last.heartbeat is not None else last.start_time
        if config.timeout_seconds is not None and self.now - last.start_time > config.timeout_seconds:
            return "timeout"
        if config.unresponsive_seconds is not None and self.now - alive > config.unresponsive_seconds:
            return "silence"
        if last.lease_until is None or self.now <= max(last.lease_until, alive + LEASE_S):
            return None
        seen = self.workers[last.worker_id].heartbeat if last.worker_id is not None else None
        if self._silent(last):
            return "lease"
        stopped = seen is not None and seen >= last.start_time and self.now > seen + LEASE_S
        return "lease" if stopped else None

    @staticmethod
    def _silent(attempt: ModelAttempt) -> bool:
        return attempt.status == AttemptStatus.PREPARING and attempt.heartbeat is None

    def _follow(self, rollout: ModelRollout, attempt: ModelAttempt) -> None:
        if attempt is not rollout.latest:
            return
        to = rollout_status_after(
            attempt.status, sequence_id=attempt.sequence_id, max_attempts=rollout.config.max_attempts,
            retry_condition=rollout.config.retry_condition,
        )  # fmt: skip
        if to in ROLLOUT_TRANSITIONS[rollout.status]:
            self._set(rollout, to)

    def _set(self, rollout: ModelRollout, status: RolloutStatus) -> None:
        if status in QUEUED_ROLLOUT and rollout.status not in QUEUED_ROLLOUT:
            self.queue.append(rollout.rollout_id)
            rollout.queued += 1
        if status not in QUEUED_ROLLOUT and rollout.rollout_id in self.queue:
            self.queue.remove(rollout.rollout_id)
        if status in FINAL_ROLLOUT:
            rollout.end_time = rollout.end_time if rollout.status == status else self.now
        else:
            rollout.end_time = None
        rollout.status = status

    def _sync(self, rollout: ModelRollout, attempt: ModelAttempt) -> None:
        if attempt.worker_id is None:
            return
        worker = self.workers.setdefault(attempt.worker_id, ModelWorker())
        here = (rollout.rollout_id, attempt.attempt_id)
        if attempt.status in WATCHED_ATTEMPT:
            worker.status, worker.current = "busy", here
        elif worker.current in (here, (None, None)):
            ended = attempt.status in (AttemptStatus.SUCCEEDED, AttemptStatus.FAILED)
            worker.status, worker.current = "idle" if ended else "unknown", (None, None)


# ── The walk ─────────────────────────────────────────────────────────────────────────────────────────────────────

configs = st.builds(
    RolloutConfig,
    timeout_seconds=st.sampled_from([None, 5.0, 40.0]),
    unresponsive_seconds=st.sampled_from([None, 3.0, 25.0]),
    max_attempts=st.integers(1, 3),
    retry_condition=st.lists(
        st.sampled_from([AttemptStatus.FAILED, AttemptStatus.TIMEOUT, AttemptStatus.UNRESPONSIVE]),
        unique=True,
    ),
)
a_worker = st.sampled_from([None, *WORKERS])


class Walk(RuleBasedStateMachine):
    """Each example has a project of its own in the one open store."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.project = f"walk-{next(_numbers)}"
        self.attempts_made = 0

    def teardown(self) -> None:
        for table in (tables.rollout, tables.attempt, tables.worker, tables.span, tables.span_payload):
            self.store.writer.run(lambda tx, table=table: tx.run(sa.delete(table)))

    def run(self, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
        return self.store.writer.run(
            lambda tx: function(tx, *args, project=self.project, now=self.model.now, **given)
        )

    def new_id(self, prefix: str) -> str:
        self.attempts_made += 1
        return f"{prefix}-{self.project}-{self.attempts_made}"

    def pick(self, data: st.DataObject, *, attempted: bool = False) -> ModelRollout:
        ids = [r.rollout_id for r in self.model.rollouts.values() if r.attempts or not attempted]
        return self.model.rollouts[data.draw(st.sampled_from(ids), label="rollout")]

    def pick_attempt(self, data: st.DataObject) -> tuple[ModelRollout, ModelAttempt]:
        rollout = self.pick(data, attempted=True)
        # 0 is the latest: shrinks towards the attempt that matters most.
        back = data.draw(st.integers(0, len(rollout.attempts) - 1), label="attempts back")
        return rollout, rollout.attempts[-1 - back]

    @initialize(config=configs)
    def first(self, config: RolloutConfig) -> None:
        self.enqueue(config, 1)

    @rule(config=configs, number=st.integers(1, 2))
    def enqueue(self, config: RolloutConfig, number: int) -> None:
        ids = [self.new_id("ro") for _ in range(number)]
        self.run(queue.enqueue, [NewRollout("{}", config=config) for _ in ids], ids=ids)
        for rollout_id in ids:
            self.model.enqueue(rollout_id, config)

    @rule(config=configs, worker_id=a_worker)
    def start(self, config: RolloutConfig, worker_id: str | None) -> None:
        ids = {"rollout_id": self.new_id("ro"), "attempt_id": self.new_id("at")}
        self.run(rollouts.start, NewRollout("{}", config=config), worker_id=worker_id, **ids)
        self.model.start(ids["rollout_id"], ids["attempt_id"], config, worker_id)

    @rule(worker_id=a_worker, limit=st.integers(1, 3))
    def claim(self, worker_id: str | None, limit: int) -> None:
        found = self.run(queue.claim, worker_id=worker_id, lease_s=LEASE_S, limit=limit)
        assert [item.rollout.rollout_id for item in found] == self.model.claim(worker_id, limit)
        for item in found:
            self.model.claimed(item.rollout.rollout_id, item.attempt.attempt_id, worker_id)

    @precondition(lambda self: self.model.rollouts)
    @rule(data=st.data(), worker_id=a_worker)
    def start_attempt(self, data: st.DataObject, worker_id: str | None) -> None:
        rollout_id, attempt_id = self.pick(data).rollout_id, self.new_id("at")
        self.run(rollouts.start_attempt, rollout_id=rollout_id, attempt_id=attempt_id, worker_id=worker_id)
        self.model.start_attempt(rollout_id, attempt_id, worker_id)

    @precondition(lambda self: any(rollout.attempts for rollout in self.model.rollouts.values()))
    @rule(data=st.data(), numbers=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def post_spans(self, data: st.DataObject, numbers: list[int]) -> None:
        """New and repeated spans of any attempt, in one batch."""
        batch = [(*self.pick_attempt(data), number) for number in numbers]
        records = [
            make_span(rollout.rollout_id, attempt.attempt_id, number) for rollout, attempt, number in batch
        ]
        stored = self.run(spans.insert, records, quiet_s=900.0)
        assert stored.refused == {}
        for rollout, attempt, number in batch:
            self.model.span(rollout, attempt, number)

    @precondition(lambda self: any(rollout.attempts for rollout in self.model.rollouts.values()))
    @rule(data=st.data(), status=st.sampled_from(AttemptStatus))
    def update_attempt(self, data: st.DataObject, status: AttemptStatus) -> None:
        rollout, attempt = self.pick_attempt(data)
        given = {"rollout_id": rollout.rollout_id, "attempt_id": attempt.attempt_id, "lease_s": LEASE_S}
        if self.model.update_attempt(rollout, attempt, status):
            self.run(attempts.update, changes={"status": status}, **given)
        else:
            with pytest.raises(InvalidTransition, match="is already"):
                self.run(attempts.update, changes={"status": status}, **given)

    @precondition(lambda self: self.model.rollouts)
    @rule(data=st.data(), status=st.sampled_from(RolloutStatus))
    def update_rollout(self, data: st.DataObject, status: RolloutStatus) -> None:
        rollout = self.pick(data)
        self.run(rollouts.update, rollout_id=rollout.rollout_id, changes={"status": str(status)})
        self.model.update_rollout(rollout, status)

    @precondition(lambda self: self.model.rollouts)
    @rule(data=st.data(), config=configs)
    def change_config(self, data: st.DataObject, config: RolloutConfig) -> None:
        rollout = self.pick(data)
        self.run(rollouts.update, rollout_id=rollout.rollout_id, changes={"config": config})
        rollout.config = config

    @rule(worker_id=st.sampled_from(WORKERS))
    def worker_heartbeat(self, worker_id: str) -> None:
        self.run(workers.heartbeat, worker_id=worker_id, stats=None, lease_s=LEASE_S)
        self.model.heartbeat(worker_id)

    @rule(seconds=st.sampled_from([0.5, 4.0, 6.0, 11.0, 30.0]), look=st.booleans())
    def let_time_pass(self, seconds: float, look: bool) -> None:
        self.model.now += seconds
        if look:
            self.scan()

    def scan(self) -> None:
        now = self.model.now
        self.store.writer.run(lambda tx: attempts.scan(tx, now=now, lease_s=LEASE_S, quiet_s=900.0))
        back = self.model.scan()
        if len(back) > 1:  # two that lapse in the same scan may queue in either order
            places = self.places()
            self.model.queue.sort(key=places.__getitem__)

    def places(self) -> dict[str, int]:
        t = tables.rollout
        with self.store.database.read() as tx:
            rows = tx.all(sa.select(t.c.rollout_id, t.c.queue_pos).where(t.c.project == self.project))
        return {row.rollout_id: row.queue_pos for row in rows}

    @invariant()
    def the_store_and_the_model_agree(self) -> None:
        t, a, w = tables.rollout, tables.attempt, tables.worker
        of_project = sa.select(t.c.rollout_id).where(t.c.project == self.project)
        with self.store.database.read() as tx:
            found = tx.all(sa.select(*rollouts.ROLLOUT_COLUMNS).where(t.c.project == self.project))
            rows = tx.all(sa.select(a).where(a.c.rollout_id.in_(of_project)).order_by(a.c.sequence_id))
            known = tx.all(sa.select(*workers.COLUMNS).where(w.c.project == self.project))
        assert {(row.rollout_id, row.status, row.end_time) for row in found} == {
            (model.rollout_id, model.status, model.end_time) for model in self.model.rollouts.values()
        }
        for row in found:
            self._compare(row, [attempt for attempt in rows if attempt.rollout_id == row.rollout_id])
        assert {
            row.worker_id: (
                row.status,
                (row.current_rollout_id, row.current_attempt_id),
                row.last_heartbeat_time,
            )
            for row in known
        } == {
            name: (worker.status, worker.current, worker.heartbeat)
            for name, worker in self.model.workers.items()
        }

    def _compare(self, rollout: Any, rows: list[Any]) -> None:
        assert [
            (
                r.attempt_id,
                r.sequence_id,
                r.start_time,
                r.end_time,
                r.status,
                r.worker_id,
                r.last_heartbeat_time,
            )
            for r in rows
        ] == [attempt.facts() for attempt in self.model.rollouts[rollout.rollout_id].attempts]
        assert [r.sequence_id for r in rows] == list(range(1, len(rows) + 1))
        assert rollout.attempt_id == (rows[-1].attempt_id if rows else None)
        assert (rollout.end_time is not None) == (rollout.status in FINAL_ROLLOUT)

    @invariant()
    def nothing_is_claimed_more_often_than_it_was_queued(self) -> None:
        for rollout in self.model.rollouts.values():
            waiting = rollout.rollout_id in self.model.queue
            assert rollout.claimed + waiting <= rollout.queued


def test_any_order_of_events_leaves_the_store_where_the_rules_say(store: Store) -> None:
    class WalkHere(Walk):
        pass

    WalkHere.store = store
    run_state_machine_as_test(
        WalkHere,
        settings=hypothesis_settings(
            max_examples=60, stateful_step_count=25, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        ),
    )  # fmt: skip
