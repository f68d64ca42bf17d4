"""The views for people with an SQL prompt: the collector's names over rollouts and spans."""

import sqlalchemy as sa

from leyden.store import deletion, rollouts, spans
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from store.conftest import make_span
from store.test_deletion import NOW


def add(store: Store) -> None:
    def change(tx: object) -> None:
        rollouts.start(tx, NewRollout('"book a room"', mode="train"), project="default", rollout_id="ro-1", attempt_id="at-1", worker_id=None, now=NOW)  # pyright: ignore[reportArgumentType]  # fmt: skip
        made = [
            make_span("ro-1", "at-1", 1),
            make_span("ro-1", "at-1", 2, kind="tool", tool="search", status="error", error_message="no answer", input_preview="SEA", output_preview=None),
        ]  # fmt: skip
        spans.insert(tx, made, project="default", now=NOW, quiet_s=900)  # pyright: ignore[reportArgumentType]
        rollouts.update(tx, project="default", rollout_id="ro-1", changes={"status": "failed", "failure_reason": "gave up"}, now=NOW + 10)  # pyright: ignore[reportArgumentType]  # fmt: skip

    store.writer.run(change)


def test_a_rollout_is_a_trajectory_and_its_spans_are_the_steps(store: Store) -> None:
    add(store)
    with store.database.read() as tx:
        one = tx.first(
            sa.text('SELECT "id", "agentId", "taskType", "startTime", "endTime", "duration", "totalSteps", "error" FROM trajectories')
        )  # fmt: skip
        steps = tx.all(
            sa.text('SELECT "trajectoryId", "stepNumber", "toolName", "toolInput", "toolOutput", "error", "duration" FROM trajectory_steps ORDER BY "stepNumber"')
        )  # fmt: skip
    assert tuple(one) == ("ro-1", "desk", "train", NOW, NOW + 10, 10.0, 2, "gave up")
    assert [tuple(step[:6]) for step in steps] == [
        ("ro-1", 1, None, None, None, None),
        ("ro-1", 2, "search", "SEA", None, "no answer"),
    ]
    assert [float(step.duration) for step in steps] == [0.5, 0.5]


def test_only_the_latest_attempt_is_the_trajectory_and_nothing_that_is_being_deleted(store: Store) -> None:
    add(store)
    store.writer.run(
        lambda tx: rollouts.start_attempt(
            tx, project="default", rollout_id="ro-1", attempt_id="at-2", worker_id=None, now=NOW
        )
    )
    store.writer.run(
        lambda tx: spans.insert(tx, [make_span("ro-1", "at-2", 3)], project="default", now=NOW, quiet_s=900)
    )
    count = sa.text("SELECT (SELECT count(*) FROM trajectories), (SELECT count(*) FROM trajectory_steps)")
    with store.database.read() as tx:
        assert tuple(tx.first(count)) == (1, 1)
    store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default", limit=1))
    with store.database.read() as tx:
        assert tuple(tx.first(count)) == (0, 0)
