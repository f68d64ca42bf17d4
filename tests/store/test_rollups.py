"""Rollups equal a recount of the spans, whatever was stored, refused, undone or deleted before."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.analysis.sketch import bucket_of, counts_in
from leyden.ingest.record import SpanRecord
from leyden.settings import Settings
from leyden.store import recount, rollouts, rollups, spans, tables
from leyden.store.engine import Tx, open_database
from leyden.store.opening import Store, open_store
from leyden.store.rollouts import NewRollout
from store.conftest import delete, make_span

NOW = 1_800_000_000.0
HOUR_NS = 3600 * 10**9
ROLLOUTS = {"ro-1": "default", "ro-2": "default", "ro-3": "other"}

Rows = dict[tuple[Any, ...], tuple[tuple[int, ...], dict[int, int]]]


def stored(store: Store) -> Rows:
    """The rollups as the table has them."""
    with store.database.read() as tx:
        rows = tx.all(sa.select(tables.rollup).where(tables.rollup.c.grain > 0))
    return {tuple(row[:9]): (tuple(row[9:20]), counts_in(row[20])) for row in rows}


def counted(store: Store) -> Rows:
    """The same from the spans, the slow and obvious way."""
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    buckets: dict[tuple[Any, ...], Counter[int]] = {}
    with store.database.read() as tx:
        found = [row._asdict() for row in tx.all(sa.select(tables.span))]
    for span in found:
        second = (span["start_ns"] or 0) // 10**9
        names = [span[name] or "" for name in ("agent", "provider", "model", "tool", "kind", "status")]
        for grain in (3600, 86_400):
            key = (span["project"], grain, second // grain * grain, *names)
            count = sums.setdefault(key, Counter())
            count["spans"] += 1
            count["errors"] += span["status"] == "error" or span["fingerprint"] is not None
            for name in rollups.COUNTS[2:7]:
                count[name] += span[name] or 0
            if span["cost_usd"] is not None:
                count["cost_nano"] += round(span["cost_usd"] * 1e9)
                count["priced"] += 1
            buckets.setdefault(key, Counter())
            if span["start_ns"] is not None and span["end_ns"] is not None:
                took = max(0, span["end_ns"] - span["start_ns"])
                count["timed"] += 1
                count["duration_ns"] += took
                buckets[key][bucket_of(took / 1e9)] += 1
    return {key: (tuple(n[name] for name in rollups.COUNTS), dict(buckets[key])) for key, n in sums.items()}


def begin(store: Store, rollout_id: str) -> None:
    store.writer.run(
        lambda tx: rollouts.start(
            tx, NewRollout("null"), project=ROLLOUTS[rollout_id], rollout_id=rollout_id, attempt_id="at-1", worker_id=None, now=NOW
        )
    )  # fmt: skip


def insert(tx: Tx, *records: SpanRecord) -> None:
    spans.insert(tx, records, project=ROLLOUTS[records[0].rollout_id], now=NOW, quiet_s=900)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def records(draw: st.DrawFn, rollout_id: str) -> SpanRecord:
    start = draw(optional(st.integers(0, 60).map(lambda h: int(NOW * 1e9) - h * HOUR_NS)))
    took = draw(st.integers(-5, 10**10) | st.just(0) | st.integers(0, 10**18))
    return make_span(
        rollout_id, "at-1", draw(st.integers(1, 30)), start_ns=start,
        end_ns=draw(st.sampled_from([None, (start or 0) + took])), kind=draw(st.sampled_from(["llm", "tool", "agent"])),
        status=draw(st.sampled_from(["ok", "error", "unset"])), fingerprint=draw(optional(st.just("f"))),
        agent=draw(optional(st.sampled_from(["desk", "router", ""]))), tool=draw(optional(st.just("look_up"))),
        model=draw(optional(st.sampled_from(["gpt-4o", "haiku"]))), provider=draw(optional(st.just("openai"))),
        input_tokens=draw(optional(st.integers(0, 2**53))), output_tokens=draw(optional(st.integers(0, 9))),
        cache_read_tokens=draw(optional(st.integers(0, 9))), reasoning_tokens=draw(optional(st.integers(0, 9))),
        cost_usd=draw(optional(st.integers(0, 10**6).map(lambda micro: micro / 1e6))),
    )  # fmt: skip


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["insert", "insert", "insert", "delete", "fail", "group"]))
    rollout_id = draw(st.sampled_from(sorted(ROLLOUTS)))
    batch = draw(st.lists(records(rollout_id), min_size=1, max_size=8))
    return kind, (rollout_id, batch)


class Undone(Exception):
    """What a change that fails raises."""


def take(store: Store, kind: str, rollout_id: str, batch: list[SpanRecord]) -> None:
    project = ROLLOUTS[rollout_id]
    if kind == "insert":
        store.writer.run(lambda tx: insert(tx, *batch))
    elif kind == "delete":
        store.writer.run(lambda tx: delete(tx, rollout_id, project=project))
        begin(store, rollout_id)
    elif kind == "group":
        # Two changes of one group, a deletion between them: what the writer does under load.
        def change(tx: Tx) -> None:
            insert(tx, *batch[: len(batch) // 2 + 1])
            delete(tx, rollout_id, project=project)

        store.writer.run(change)
        begin(store, rollout_id)
    else:

        def half(tx: Tx) -> None:
            insert(tx, *batch[:1])
            with suppressed(), tx.savepoint():
                insert(tx, *batch)
                raise Undone

        store.writer.run(half)


@contextmanager
def suppressed() -> Iterator[None]:
    with pytest.raises(Undone):
        yield


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps(), max_size=10))
def test_rollups_equal_a_recount_at_every_step(store: Store, story: list[tuple[str, Any]]) -> None:
    for rollout_id in ROLLOUTS:
        begin(store, rollout_id)
    for kind, (rollout_id, batch) in story:
        take(store, kind, rollout_id, batch)
        assert stored(store) == counted(store)
    with store.database.read() as tx:
        assert list(recount.verify(tx)) == []
    for rollout_id, project in ROLLOUTS.items():
        store.writer.run(lambda tx, r=rollout_id, p=project: delete(tx, r, project=p))
    assert stored(store) == {}


def spoil(store: Store) -> None:
    r = tables.rollup
    store.writer.run(
        lambda tx: tx.run(sa.update(r).where(r.c.grain == 3600).values(spans=r.c.spans + 3, latency=b""))
    )
    store.writer.run(lambda tx: tx.run(sa.delete(r).where(r.c.grain == 86_400, r.c.agent == "desk")))


def test_a_rebuild_mends_what_was_spoiled_and_counts_it(store: Store) -> None:
    for rollout_id in ROLLOUTS:
        begin(store, rollout_id)
        store.writer.run(
            lambda tx, r=rollout_id: insert(
                tx,
                *(
                    make_span(r, "at-1", n, start_ns=n * 7 * HOUR_NS, agent=f"a{n % 3}" if n % 2 else "desk")
                    for n in range(40)
                ),
            )
        )
    right = stored(store)
    spoil(store)
    with store.database.read() as tx:
        wrong = list(recount.verify(tx))
    assert wrong
    assert "lacks" in str(wrong[0])
    assert recount.rebuild(store.database, store.writer) == len(wrong)
    assert stored(store) == right == counted(store)
    assert recount.rebuild(store.database, store.writer) == 0


def build_first_schema(url: str, rows: list[dict[str, Any]]) -> None:
    """A database as version 0001 left it, holding spans."""
    database = open_database(url)
    first = import_module("leyden.store.migrations.versions.0001_first")
    with database.begin() as tx:
        with Operations.context(MigrationContext.configure(tx.connection)):
            first.upgrade()
        tx.driver("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        tx.driver("INSERT INTO alembic_version VALUES ('0001')")
        tx.run(sa.insert(tables.span), rows)
    database.close()


def test_a_database_from_before_rollups_gets_them_when_it_is_opened(settings: Settings) -> None:
    rows = [
        {
            **make_span("ro-1", "at-1", n, start_ns=n * 9 * HOUR_NS if n % 5 else None)._asdict(),
            "id": n, "project": f"p{n % 2}", "sequence_id": n,
        }
        for n in range(1, 30)
    ]  # fmt: skip
    build_first_schema(
        settings.database_url, [{c.name: row[c.name] for c in tables.span.columns} for row in rows]
    )
    store = open_store(settings)
    assert stored(store) == counted(store) != {}
    store.close()


def test_two_rebuilds_at_once_mend_once(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    begin(store, "ro-1")
    store.writer.run(
        lambda tx: insert(tx, *(make_span("ro-1", "at-1", n, start_ns=n * HOUR_NS) for n in range(60)))
    )
    right = stored(store)
    spoil(store)
    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(recount.rebuild, store.database, store.writer) for _ in range(3)]
        for done in both:
            done.result()
    assert stored(store) == right


def test_numbers_beyond_any_sense_never_refuse_a_batch(store: Store) -> None:
    begin(store, "ro-1")
    absurd = [
        make_span(
            "ro-1",
            "at-1",
            n,
            agent="ä€𝄞" * 3000,
            start_ns=5,
            end_ns=2**63 - 1,
            cost_usd=1e300,
            input_tokens=2**63 - 1,
        )
        for n in range(1, 5)
    ]
    store.writer.run(lambda tx: insert(tx, *absurd))
    assert len(stored(store)) == 2
    with store.database.read() as tx:
        assert list(recount.verify(tx)) == []
    store.writer.run(lambda tx: delete(tx, "ro-1", project="default"))
    assert stored(store) == {}
