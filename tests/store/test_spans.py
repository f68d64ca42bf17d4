"""Spans: stored once, in order, and each a sign of life."""

from leyden.ingest.record import SpanRecord
from leyden.store import deletion, rollouts, scores, spans
from leyden.store.opening import Store
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout
from leyden.store.spans import SpanFilter, Stored
from store.conftest import make_span

NOW = 1_800_000_000.0


def begin(store: Store, rollout_id: str = "ro-1", attempt_id: str = "at-1") -> None:
    store.writer.run(
        lambda tx: rollouts.start(
            tx,
            NewRollout("null"),
            project="default",
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            worker_id=None,
            now=NOW,
        )
    )


def insert(store: Store, *records: SpanRecord, now: float = NOW) -> Stored:
    return store.writer.run(lambda tx: spans.insert(tx, records, project="default", now=now, quiet_s=900))


def ids_in_order(store: Store, rollout_id: str = "ro-1") -> list[tuple[int, str]]:
    with store.database.read() as tx:
        rows, _ = spans.summaries(tx, SpanFilter(rollout_id), Paging(), project="default")
    return [(row.sequence_id, row.span_id[-2:]) for row in rows]


def test_a_span_stored_twice_is_there_once_and_counts_once(store: Store) -> None:
    begin(store)
    assert insert(store, make_span("ro-1", "at-1", 1), make_span("ro-1", "at-1", 1)).is_new == [True, False]
    assert insert(store, make_span("ro-1", "at-1", 1), make_span("ro-1", "at-1", 2), now=NOW + 9).is_new == [
        False,
        True,
    ]
    assert insert(store, make_span("ro-1", "at-1", 2), now=NOW + 99).is_new == [False]
    assert [span_id for _, span_id in ids_in_order(store)] == ["01", "02"]
    with store.database.read() as tx:
        attempt = rollouts.attempted(tx, "ro-1", project="default").attempt
    assert attempt is not None
    assert (attempt.status, attempt.last_heartbeat_time) == ("running", NOW + 9)


def test_a_large_batch_with_duplicates_keeps_each_span_with_its_own_payload(store: Store) -> None:
    begin(store)
    insert(store, *(make_span("ro-1", "at-1", n, payload=b"%d" % n) for n in range(0, 300, 3)))
    stored = insert(store, *(make_span("ro-1", "at-1", n, payload=b"%d" % n) for n in range(300)))
    assert stored.is_new == [n % 3 != 0 for n in range(300)]
    with store.database.read() as tx:
        rows, total = spans.query_payloads(tx, SpanFilter("ro-1"), Paging(), project="default")
        found, _ = spans.summaries(tx, SpanFilter("ro-1"), Paging(), project="default")
    assert total == 300
    assert [int(row.payload) for row in rows] == [int(row.span_id, 16) for row in found]


def test_sequence_ids_count_per_rollout_and_follow_given_ones(store: Store) -> None:
    begin(store)
    first = store.writer.run(lambda tx: spans.next_sequence_ids(tx, [("ro-1", "at-1")], project="default"))
    stored = insert(
        store,
        make_span("ro-1", "at-1", 1),
        make_span("ro-1", "at-1", 2, sequence_id=7),
        make_span("ro-1", "at-1", 3),
    )
    after = store.writer.run(
        lambda tx: spans.next_sequence_ids(
            tx, [("ro-1", "at-1"), ("ro-x", "a"), ("ro-x", "b")], project="default"
        )
    )
    assert (first, stored.sequence_ids, after) == ([1], [2, 7, 8], [9, 1, 2])


def test_a_span_of_an_unknown_rollout_or_attempt_is_refused_alone(store: Store) -> None:
    begin(store)
    stored = insert(
        store,
        make_span("ro-1", "at-1", 1),
        make_span("ro-9", "at-1", 2),
        make_span("ro-1", "at-9", 3),
        make_span("ro-1", "at-1", 4),
    )
    assert stored.is_new == [True, False, False, True]
    assert stored.refused == {1: "Rollout ro-9 not found", 2: "Attempt at-9 not found for rollout ro-1"}


def test_a_trace_that_names_no_rollout_gets_one_that_ends_with_its_root_span(store: Store) -> None:
    trace = f"{5:032x}"
    own = {"trace_id": trace, "source": "otlp"}
    insert(store, make_span(f"ro-{trace}", "at-00000000", 2, **own))
    with store.database.read() as tx:
        assert rollouts.attempted(tx, f"ro-{trace}", project="default").rollout.status == "running"
    insert(
        store,
        make_span(
            f"ro-{trace}", "at-00000000", 1, parent_id=None, status="error", error_message="boom", **own
        ),
    )
    with store.database.read() as tx:
        rollout, attempt = rollouts.attempted(tx, f"ro-{trace}", project="default")
    assert attempt is not None
    assert (rollout.status, rollout.failure_reason, rollout.source) == ("failed", "boom", "otlp")
    assert (rollout.start_time, rollout.end_time, attempt.status) == (1.0, 1.5, "failed")
    insert(store, make_span(f"ro-{trace}", "at-00000000", 3, **own))  # late, and still kept
    assert len(ids_in_order(store, f"ro-{trace}")) == 3


def test_the_spans_of_another_project_cannot_be_written_or_read(store: Store) -> None:
    begin(store)
    stored = store.writer.run(
        lambda tx: spans.insert(tx, [make_span("ro-1", "at-1", 1)], project="other", now=NOW, quiet_s=900)
    )
    assert stored.refused == {0: "Rollout ro-1 not found"}
    insert(store, make_span("ro-1", "at-1", 1))
    with store.database.read() as tx:
        assert spans.summaries(tx, SpanFilter("ro-1"), Paging(), project="other") == ([], 0)


def test_reward_spans_become_scores_and_the_last_primary_one_is_the_reward(store: Store) -> None:
    begin(store)
    insert(store, make_span("ro-1", "at-1", 1, scores=(("primary", 0.25), ("speed", 1.0))))
    insert(store, make_span("ro-1", "at-1", 2, scores=(("quality", 0.75),)))
    with store.database.read() as tx:
        assert scores.rewards(tx, ["ro-1"]) == {"ro-1": 0.75}
        assert [(score.name, score.value) for score in scores.of_rollout(tx, "ro-1", project="default")] == [
            ("primary", 0.25), ("speed", 1.0), ("quality", 0.75),
        ]  # fmt: skip


def test_late_spans_of_a_superseded_attempt_never_touch_the_rollout(store: Store) -> None:
    begin(store)
    store.writer.run(
        lambda tx: rollouts.start_attempt(
            tx, project="default", rollout_id="ro-1", attempt_id="at-2", worker_id=None, now=NOW
        )
    )
    insert(store, make_span("ro-1", "at-1", 1))
    with store.database.read() as tx:
        assert rollouts.attempted(tx, "ro-1", project="default").rollout.status == "preparing"
    insert(store, make_span("ro-1", "at-1", 2), make_span("ro-1", "at-2", 3))
    with store.database.read() as tx:
        assert rollouts.attempted(tx, "ro-1", project="default").rollout.status == "running"


def test_or_between_filters_never_leaks_another_rollout(store: Store) -> None:
    begin(store)
    begin(store, "ro-2", "at-2")
    insert(
        store,
        make_span("ro-1", "at-1", 1, name="a"),
        make_span("ro-1", "at-1", 2, name="b"),
        make_span("ro-2", "at-2", 3, name="a"),
    )
    with store.database.read() as tx:
        which = SpanFilter("ro-1", exact=(("name", "a"),), contains=(("span_id", "2"),), logic="or")
        rows, total = spans.summaries(tx, which, Paging(), project="default")
    assert (total, [row.name for row in rows]) == (2, ["a", "b"])


def test_deleting_a_rollout_leaves_nothing_of_it(store: Store) -> None:
    import sqlalchemy as sa

    from leyden.store import tables

    begin(store)
    insert(store, make_span("ro-1", "at-1", 1, scores=(("primary", 1.0),)))
    deletion.delete(store.writer, "ro-1", project="default")
    with store.database.read() as tx:
        for table in (tables.rollout, tables.attempt, tables.span, tables.span_payload, tables.score):
            assert tx.first(sa.select(sa.func.count()).select_from(table))[0] == 0
