"""Deleting a rollout takes everything of it, a slice at a time, and nobody sees the half of one."""

import pytest
import sqlalchemy as sa

from leyden.errors import NotFound
from leyden.sdk.client import Client
from leyden.store import check, deletion, findings, retention, rollouts, scores, spans, tables
from leyden.store.engine import Tx
from leyden.store.opening import Store
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout, RolloutFilter
from leyden.store.spans import SpanFilter
from leyden.types import EvidenceSpan, Finding, Impact, Score
from store.conftest import make_span

NOW = 1_800_000_000.0


def a_finding(*rollout_ids: str) -> Finding:
    evidence = [EvidenceSpan(rollout_id, "at-1", f"{1:016x}") for rollout_id in rollout_ids]
    return Finding(
        fingerprint="f-1", kind="tool_failure", severity="high", title="t", recommendation="r",
        impact=Impact(occurrences=1, runs=1, failed_runs=1, time_s=1.0, tokens=1), evidence=evidence,
    )  # fmt: skip


def add_rollout(tx: Tx, rollout_id: str, *, spans_of_it: int = 3, now: float = NOW, ended: bool = True, mode: str | None = None) -> None:  # fmt: skip
    """A rollout of a worker with spans, a reward each, and a score somebody posted."""
    rollouts.start(
        tx, NewRollout("1", mode=mode, idempotency_key=rollout_id), project="default", rollout_id=rollout_id, attempt_id="at-1",
        worker_id=f"w-{rollout_id}", now=now,
    )  # fmt: skip
    made = [make_span(rollout_id, "at-1", n, scores=(("primary", 1.0),)) for n in range(1, spans_of_it + 1)]
    spans.insert(tx, made, project="default", now=now, quiet_s=900)
    scores.add(tx, [Score(rollout_id=rollout_id, name="human", value=1.0, source="human", time=now)], project="default")  # fmt: skip
    if ended:
        rollouts.update(tx, project="default", rollout_id=rollout_id, changes={"status": "succeeded"}, now=now + 1)  # fmt: skip


def rows_of(store: Store, rollout_id: str) -> dict[str, int]:
    """How many rows of each table belong to a rollout."""
    found: dict[str, int] = {}
    with store.database.read() as tx:
        for table in (tables.rollout, tables.attempt, tables.span, tables.score, tables.finding_evidence, tables.pack):  # fmt: skip
            select = sa.select(sa.func.count()).select_from(table).where(table.c.rollout_id == rollout_id)
            found[table.name] = tx.first(select)[0]
        found["span_payload"] = tx.first(sa.select(sa.func.count()).select_from(tables.span_payload))[0]
    return {name: number for name, number in found.items() if number}


def test_deleting_takes_every_row_of_a_rollout_and_none_of_another(store: Store) -> None:
    for rollout_id in ("ro-1", "ro-2"):
        store.writer.run(lambda tx, rollout_id=rollout_id: add_rollout(tx, rollout_id))
    store.writer.run(lambda tx: findings.save(tx, [a_finding("ro-1")], project="default"))
    before = rows_of(store, "ro-2")
    deletion.delete(store.writer, "ro-1", project="default")
    assert rows_of(store, "ro-1") == {"span_payload": 3}
    assert rows_of(store, "ro-2") == {**before, "span_payload": 3}
    assert check.problems(store.database) == []


def test_a_large_rollout_goes_in_slices_and_is_nobodys_after_the_first(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=50))
    calls = 1
    while not store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default", limit=7)):
        calls += 1
        with store.database.read() as tx:
            assert rollouts.find(tx, "ro-1", project="default") is None
            assert rollouts.query(tx, RolloutFilter(), Paging(), project="default") == ([], 0)
            assert spans.summaries(tx, SpanFilter("ro-1"), Paging(), project="default") == ([], 0)
            assert deletion.unfinished(tx) == ["ro-1"]
        assert check.problems(store.database) == []
    assert calls > 7
    assert rows_of(store, "ro-1") == {}


def test_one_huge_payload_after_another_is_taken_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "STEP_BYTES", 10)
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=3))
    for left in (2, 1, 0):
        assert not store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default")) or not left
        assert rows_of(store, "ro-1").get("span", 0) == left


def test_spans_that_arrive_while_their_rollout_is_deleted_are_refused_alone(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=20))
    store.writer.run(lambda tx: add_rollout(tx, "ro-2"))
    assert not store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default", limit=5))
    late = [make_span("ro-1", "at-1", 99), make_span("ro-2", "at-1", 99)]
    stored = store.writer.run(lambda tx: spans.insert(tx, late, project="default", now=NOW, quiet_s=900))
    assert stored.refused == {0: "Rollout ro-1 not found"}
    assert stored.is_new == [False, True]


def test_a_trace_whose_rollout_was_deleted_opens_a_new_one(store: Store) -> None:
    def one(number: int) -> list[bool]:
        late = [make_span("ro-t", "at-1", number, source="otlp")]
        return store.writer.run(
            lambda tx: spans.insert(tx, late, project="default", now=NOW, quiet_s=900)
        ).is_new

    assert one(1) == [True]
    deletion.delete(store.writer, "ro-t", project="default")
    assert one(2) == [True]
    assert check.problems(store.database) == []


def test_what_was_left_half_deleted_is_finished_by_the_next_run(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=50))
    assert not store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default", limit=5))
    assert retention.finish(store) == 1
    assert rows_of(store, "ro-1") == {}


def test_a_worker_is_free_once_its_rollout_is_deleted(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", ended=False))
    deletion.delete(store.writer, "ro-1", project="default")
    w = tables.worker
    with store.database.read() as tx:
        assert tuple(tx.first(sa.select(w.c.status, w.c.current_rollout_id, w.c.current_attempt_id))) == ("idle", None, None)  # fmt: skip


def test_the_key_of_a_deleted_rollout_can_be_used_again(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=20))
    assert not store.writer.run(lambda tx: deletion.erase_some(tx, "ro-1", project="default", limit=5))
    again = NewRollout("2", idempotency_key="ro-1")
    made = store.writer.run(
        lambda tx: rollouts.start(
            tx, again, project="default", rollout_id="ro-9", attempt_id="at-1", worker_id=None, now=NOW
        )
    )
    assert made.rollout.rollout_id == "ro-9"


def test_deleting_twice_says_that_it_is_gone_and_erasing_twice_is_harmless(client: Client) -> None:  # fmt: skip
    made = client.start_rollout(1)
    client.delete_rollout(made.rollout_id)
    with pytest.raises(NotFound, match=made.rollout_id):
        client.delete_rollout(made.rollout_id)


def test_erasing_what_is_not_there_does_nothing(store: Store) -> None:
    assert deletion.erase(store.writer, ["ro-none"], project="default") == ["ro-none"]
    assert store.writer.run(lambda tx: deletion.erase_some(tx, "ro-none", project="default"))


def test_another_projects_rollout_is_not_deleted(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1"))
    with pytest.raises(NotFound):
        deletion.delete(store.writer, "ro-1", project="other")
    assert rows_of(store, "ro-1")["span"] == 3
