"""Which rollouts a policy deletes, which it keeps, and that a dry run tells the truth."""

from hypothesis import given
from hypothesis import strategies as st

from leyden.store import check, findings, retention, rollouts, spans
from leyden.store.opening import Store
from leyden.store.query import Paging
from leyden.store.retention import Candidate, Policy, Pruned, Stock
from leyden.store.rollouts import RolloutFilter
from store.conftest import make_span
from store.test_deletion import NOW, a_finding, add_rollout

DAY = 86_400.0


def fill(store: Store, *days: float, mode: str | None = None, spans_of_it: int = 2) -> list[str]:
    """One ended rollout per age in days, named after it."""
    names = [f"ro-{mode or 'none'}-{day:g}" for day in days]
    for name, day in zip(names, days, strict=True):
        store.writer.run(
            lambda tx, name=name, day=day: add_rollout(tx, name, now=NOW - day * DAY, mode=mode, spans_of_it=spans_of_it)
        )  # fmt: skip
    return names


def left(store: Store, *, project: str = "default") -> set[str]:
    with store.database.read() as tx:
        items, _ = rollouts.query(tx, RolloutFilter(), Paging(), project=project)
    return {item.rollout.rollout_id for item in items}


def test_by_age_only_what_ended_before_goes(store: Store) -> None:
    fill(store, 40, 31, 29, 1)
    gone = retention.prune(store, Policy("default", max_age_s=30 * DAY), now=NOW)
    assert (gone.rollouts, gone.spans, gone.more) == (2, 4, False)
    assert gone.bytes == 4 * len(make_span("r", "a").payload)
    assert left(store) == {"ro-none-29", "ro-none-1"}
    assert check.problems(store.database) == []


def test_by_count_the_newest_stay(store: Store) -> None:
    fill(store, 5, 4, 3, 2, 1)
    assert retention.prune(store, Policy("default", max_rollouts=2), now=NOW).rollouts == 3
    assert left(store) == {"ro-none-2", "ro-none-1"}


def test_by_bytes_the_newest_stay_that_fit(store: Store) -> None:
    size = len(make_span("r", "a").payload)
    fill(store, 5, 4, 3, 2, 1, spans_of_it=10)
    assert retention.prune(store, Policy("default", max_bytes=25 * size), now=NOW).rollouts == 3
    assert left(store) == {"ro-none-2", "ro-none-1"}


def test_a_rollout_that_has_not_ended_is_never_pruned(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", now=NOW - 90 * DAY, ended=False))
    assert retention.prune(store, Policy("default", max_age_s=DAY, max_rollouts=0), now=NOW) == Pruned()
    assert left(store) == {"ro-1"}


def test_what_a_finding_points_at_stays_and_is_counted(store: Store) -> None:
    fill(store, 5, 4, 3)
    store.writer.run(lambda tx: findings.save(tx, [a_finding("ro-none-5")], project="default"))
    gone = retention.prune(store, Policy("default", max_age_s=DAY), now=NOW)
    assert (gone.rollouts, gone.kept) == (2, {"finding": 1})
    assert left(store) == {"ro-none-5"}
    assert check.problems(store.database) == []


def test_a_dry_run_counts_the_same_and_deletes_nothing(store: Store) -> None:
    fill(store, 5, 4, 3, 2)
    store.writer.run(lambda tx: findings.save(tx, [a_finding("ro-none-4")], project="default"))
    policy = Policy("default", max_age_s=2.5 * DAY)
    would = retention.prune(store, policy, now=NOW, dry_run=True)
    assert len(left(store)) == 4
    assert retention.prune(store, policy, now=NOW) == would
    assert len(left(store)) == 2


def test_each_mode_has_its_own_policy_and_the_rest_share_one(store: Store) -> None:
    for mode in ("train", "val", None):
        fill(store, 20, 10, 1, mode=mode)
    for policy in (
        Policy("default", "train", max_age_s=5 * DAY),
        Policy("default", "val"),
        Policy("default", "", max_rollouts=2),
    ):
        store.writer.run(lambda tx, policy=policy: retention.put(tx, policy))
    retention.apply(store, now=NOW)
    assert left(store) == {"ro-train-1", "ro-val-20", "ro-val-10", "ro-val-1", "ro-none-10", "ro-none-1"}


def test_a_project_without_a_policy_follows_the_settings_and_by_default_keeps_all(store: Store) -> None:
    fill(store, 400, 1)
    assert retention.apply(store, now=NOW) == Pruned()
    assert retention.apply(store, now=NOW, otherwise=Policy("", max_age_s=30 * DAY)).rollouts == 1


def test_a_policy_is_replaced_and_removed(store: Store) -> None:
    for policy in (Policy("default", "", 1.0, 2, 3), Policy("default", "", None, 9, None)):
        store.writer.run(lambda tx, policy=policy: retention.put(tx, policy))
    with store.database.read() as tx:
        assert retention.policies(tx, project="default") == [Policy("default", "", None, 9, None)]
    assert store.writer.run(lambda tx: retention.clear(tx, project="default", mode=""))
    assert not store.writer.run(lambda tx: retention.clear(tx, project="default", mode=""))


def test_a_rollout_that_came_back_to_life_after_it_was_chosen_stays(store: Store) -> None:
    fill(store, 5)
    chosen = retention._oldest_first(store, retention.Scope("default"), measured=False)  # pyright: ignore[reportPrivateUsage]
    names = [one.rollout_id for one in chosen]
    store.writer.run(
        lambda tx: rollouts.start_attempt(
            tx, project="default", rollout_id=names[0], attempt_id="at-2", worker_id=None, now=NOW
        )
    )
    retention.prune(store, Policy("default", max_age_s=1.0), now=NOW)
    assert left(store) == set(names)


def test_spans_of_more_rollouts_than_a_page_are_all_pruned(store: Store) -> None:
    def many(first: int) -> None:
        def change(tx: object) -> None:
            for n in range(first, first + 50):
                add_rollout(tx, f"ro-{n:04}", now=NOW - n - 100, spans_of_it=1)  # pyright: ignore[reportArgumentType]

        store.writer.run(change)

    for first in range(0, 450, 50):
        many(first)
    assert retention.prune(store, Policy("default", max_rollouts=7), now=NOW).rollouts == 443
    assert left(store) == {f"ro-{n:04}" for n in range(7)}


def test_pruning_that_has_no_time_left_says_that_there_is_more(store: Store) -> None:
    fill(store, 5, 4, 3)
    gone = retention.prune(store, Policy("default", max_rollouts=0), now=NOW, enough=lambda: True)
    assert (gone.rollouts, gone.more) == (0, True)


def test_a_late_span_keeps_a_pruned_rollouts_place_empty(store: Store) -> None:
    fill(store, 5)
    retention.prune(store, Policy("default", max_rollouts=0), now=NOW)
    late = [make_span("ro-none-5", "at-1", 50)]
    stored = store.writer.run(lambda tx: spans.insert(tx, late, project="default", now=NOW, quiet_s=900))
    assert stored.refused == {0: "Rollout ro-none-5 not found"}


CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, 50), st.integers(0, 20), st.integers(0, 100), st.sampled_from([None, "finding"])
    ),
    max_size=30,
).map(
    lambda rows: [
        Candidate(f"ro-{n}", float(start), float(start + took), 1, size, kept)
        for n, (start, took, size, kept) in enumerate(sorted(rows, key=lambda row: row[0]))
    ]
)


@given(
    CANDIDATES,
    st.none() | st.floats(0, 80),
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 1500),
)
def test_the_decision_deletes_the_oldest_and_no_more_than_it_must(
    candidates: list[Candidate], age: float | None, count: int | None, held: int | None
) -> None:
    stock = Stock(len(candidates), sum(one.bytes for one in candidates))
    policy = Policy("p", "", age, count, held)
    named = list(retention.due(candidates, policy, stock=stock, now=80.0))
    goes = [one for one in named if one.kept_by is None]
    stays = [one for one in candidates if one not in goes]
    free = [one for one in stays if one.kept_by is None]
    # Whatever stays and could go is within every bound.
    if free:
        assert count is None or len(stays) <= count
        assert held is None or sum(one.bytes for one in stays) <= held
        assert age is None or all(one.end_time >= 80.0 - age for one in free)
    # Whatever goes was too old, or the bounds were passed with it and everything younger.
    for one in goes:
        later = candidates[candidates.index(one) :]
        with_it = [other for other in stays if other not in later] + later
        assert (
            (age is not None and one.end_time < 80.0 - age)
            or (count is not None and len(with_it) > count)
            or (held is not None and sum(other.bytes for other in with_it) > held)
        )
