"""Filters of rollouts: their own columns, what their spans add up to, scores, and spans they have."""

import pytest

from leyden.store import rollouts, runs, scores, spans
from leyden.store.filters import rollout_tests
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from leyden.store.runs import Listed, RunFilter
from leyden.types import Score
from store.conftest import make_span

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def filled(store: Store) -> Store:
    """Four rollouts, the newest first: `new` runs without spans, `bad` failed twice, `good` cost most, `old` was imported."""
    begin(store, "new", age=0, input='"it\'s raining"')
    begin(
        store,
        "bad",
        age=1,
        worker_id="w2",
        mode="test",
        spans=[("tool", "error", 0.0), ("llm", "ok", 0.5)],
        reward=0.1,
        status="failed",
    )
    begin(
        store,
        "good",
        age=2,
        worker_id="w1",
        mode="train",
        spans=[("llm", "ok", 2.0), ("agent", "ok", 9.0)],
        reward=0.9,
        status="succeeded",
    )
    begin(store, "old", age=9, worker_id="w1", spans=[("tool", "ok", None)], status="succeeded")
    begin(
        store, "foreign", age=0, worker_id="w1", spans=[("tool", "error", 5.0)], reward=0.1, project="other"
    )
    return store  # fmt: skip


def begin(
    store: Store, name: str, *, age: float, input: str = '"Hello World"', worker_id: str | None = None, mode: str | None = None,
    spans: list[tuple[str, str, float | None]] | None = None, reward: float | None = None, status: str | None = None, project: str = "default",
) -> None:  # fmt: skip
    now = NOW - age * DAY
    store.writer.run(
        lambda tx: rollouts.start(
            tx, NewRollout(input, mode=mode), project=project, rollout_id=f"ro-{name}", attempt_id="at-1", worker_id=worker_id, now=now
        )
    )  # fmt: skip
    add_spans(store, name, spans or [], reward=reward, project=project, now=now)
    if status:
        changes = {"status": status}
        store.writer.run(
            lambda tx: rollouts.update(
                tx, project=project, rollout_id=f"ro-{name}", changes=changes, now=now + 90
            )
        )
    score = Score(rollout_id=f"ro-{name}", name="helpfulness", value=age, time=now)
    store.writer.run(lambda tx: scores.add(tx, [score], project=project))


def add_spans(
    store: Store, name: str, given: list[tuple[str, str, float | None]], *, reward: float | None, project: str, now: float
) -> None:  # fmt: skip
    records = [
        make_span(f"ro-{name}", "at-1", n, kind=kind, status=status, cost_usd=cost, tool="search" if kind == "tool" else None)
        for n, (kind, status, cost) in enumerate(given, 1)
    ]  # fmt: skip
    if records and reward is not None:
        records[-1] = records[-1]._replace(scores=(("primary", reward),))
    store.writer.run(lambda tx: spans.insert(tx, records, project=project, now=now, quiet_s=900))


def listed(store: Store, text: str, *, limit: int = -1) -> Listed:
    which = RunFilter(tests=rollout_tests(text, now=NOW))
    with store.database.read() as tx:
        return runs.overview(tx, which, project="default", limit=limit, offset=0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "new bad good old"),
        ("id:ro-bad", "bad"),
        ("id:ro-*d", "bad good old"),
        ("status:failed", "bad"),
        ("status!=succeeded", "new bad"),
        ("mode:train,test", "bad good"),
        ("-mode:*", "new old"),
        ("agent:desk", "bad good old"),
        ("source:*", ""),
        ("-resources:*", "new bad good old"),
        ("worker:w1", "good old"),
        ("worker!=w1", "new bad"),
        ("-worker:*", "new"),
        ('worker:""', "new"),
        ('worker:"",w2', "new bad"),
        ("input:hello", "bad good old"),
        ("input:h*world", "bad good old"),
        ('input:"it\'s"', "new"),
        ("since:36h", "new bad"),
        ("until:36h", "good old"),
        ("since:3d until:36h", "good"),
        ("duration:90", "bad good old"),
        ("duration>2m", ""),
        ("-duration:*", "new"),
        ("attempts:1", "new bad good old"),
        ("reward<0.5", "bad"),
        ("reward:*", "bad good"),
        ("reward!=0.9", "new bad old"),
        ("score.helpfulness>1", "good old"),
        ("score.other:*", ""),
        ("spans:0", "new"),
        ("spans>=2", "bad good"),
        ("errors:1..", "bad"),
        ("errors:0", "new good old"),
        ("tokens:15", "bad good"),
        ("-tokens:*", "new old"),
        ("cost>1", "good"),
        ("cost:0.5,2", "bad good"),
        ("span.tool:search", "bad old"),
        ("span.tool!=search", "new good"),
        ("-span.tool:*", "new good"),
        ("span.status:error", "bad"),
        ("span.cost>8", "good"),
        ("span.since:7d", ""),
        ("hello", "bad good old"),
        ("RO-NEW", "new"),
        ("status:failed OR cost>1", "bad good"),
        ("-(status:failed OR spans:0)", "good old"),
        ("worker:w1 (reward>0.5 OR since:1d)", "good"),
    ],
)
def test_a_filter_finds_these_rollouts_of_its_project(filled: Store, text: str, names: str) -> None:
    found = listed(filled, text)
    assert [item.rollout.rollout_id[3:] for item in found.items] == names.split()
    assert (found.total, found.is_exact) == (len(names.split()), True)


def test_a_total_is_exact_when_rollouts_decide_and_more_than_shown_otherwise(filled: Store) -> None:
    cheap, dear = listed(filled, "worker:* OR id:*", limit=1), listed(filled, "spans>=0", limit=1)
    assert (len(cheap.items), len(dear.items)) == (1, 1)
    assert (listed(filled, "id:*", limit=1).total, listed(filled, "id:*", limit=1).is_exact) == (4, True)
    assert (dear.total, dear.is_exact) == (2, False)
