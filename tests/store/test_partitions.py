"""Spans in one table per day: nothing is lost on the way there, and a day goes in one step with all that belonged to it."""

from collections.abc import Iterator
from datetime import date, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from leyden.errors import BadInput, StoreError
from leyden.settings import Settings
from leyden.store import attempts, partitions, recount, retention, rollouts, spans
from leyden.store.engine import Tx
from leyden.store.opening import Store, open_store
from leyden.store.query import Paging
from leyden.store.retention import Policy
from leyden.store.rollouts import NewRollout
from leyden.store.spans import SpanFilter
from store.conftest import make_span

FIRST = date(2026, 11, 20)
DAY_NS = partitions.DAY_NS
START_NS = partitions._start_ns(FIRST)  # pyright: ignore[reportPrivateUsage]
NOW = 1_800_000_000.0


@pytest.fixture
def database_url(postgres_database: str) -> str:
    return postgres_database


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = open_store(Settings(db=database_url))
    yield opened
    opened.close()


def keep(tx: Tx, rollout_id: str, *starts: int | None) -> None:
    """A rollout with one span for each start."""
    rollouts.start(
        tx,
        NewRollout("1"),
        project="default",
        rollout_id=rollout_id,
        attempt_id="at-1",
        worker_id=None,
        now=NOW,
    )
    add(tx, rollout_id, 1, *starts)


def add(tx: Tx, rollout_id: str, number: int, *starts: int | None) -> None:
    records = [make_span(rollout_id, "at-1", number + n, start_ns=start) for n, start in enumerate(starts)]
    spans.insert(tx, records, project="default", now=NOW, quiet_s=900)


def numbers(store: Store, rollout_id: str) -> list[int]:
    with store.database.read() as tx:
        rows, _ = spans.query_payloads(tx, SpanFilter(rollout_id), Paging(limit=-1), project="default")
        summaries, _ = spans.summaries(tx, SpanFilter(rollout_id), Paging(limit=-1), project="default")
        assert len(rows) == len(summaries)
        return [int(row.span_id, 16) for row in summaries]


def table_of(store: Store, rollout_id: str) -> list[str]:
    with store.database.read() as tx:
        where = sa.text("SELECT tableoid::regclass::text FROM span WHERE rollout_id = :id ORDER BY start_ns")
        return [row[0] for row in tx.all(where, {"id": rollout_id})]


def count(store: Store, table: str) -> int:
    with store.database.read() as tx:
        return tx.driver(f"SELECT count(*) FROM {table}")[0][0]


def check_sums(store: Store) -> None:
    with store.database.read() as tx:
        assert list(recount.verify(tx)) == []


def test_every_span_is_there_afterwards_and_a_span_sent_again_stays_one(store: Store) -> None:
    starts = [START_NS, START_NS + DAY_NS - 1, START_NS + DAY_NS, START_NS - DAY_NS, None, -5]
    store.writer.run(lambda tx: keep(tx, "ro-1", *starts))
    made = store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    assert made == 9  # the day before, today and a week
    assert numbers(store, "ro-1") == [1, 2, 3, 4, 5, 6]
    assert table_of(store, "ro-1") == [
        "span_default", "span_d20261119", "span_d20261120", "span_d20261120", "span_d20261121", "span_default",
    ]  # fmt: skip
    store.writer.run(lambda tx: add(tx, "ro-1", 1, *starts))
    store.writer.run(lambda tx: add(tx, "ro-1", 100, *[START_NS] * 200))
    assert numbers(store, "ro-1") == [*range(1, 7), *range(100, 300)]
    assert store.writer.run(lambda tx: partitions.partition(tx, today=FIRST)) == made
    check_sums(store)


def test_days_are_made_ahead_and_take_what_came_early(store: Store) -> None:
    assert store.writer.run(lambda tx: partitions.ahead(tx, today=FIRST)) == 0
    store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    assert store.writer.run(lambda tx: partitions.ahead(tx, today=FIRST)) == 0
    early = START_NS + 10 * DAY_NS
    store.writer.run(lambda tx: keep(tx, "ro-1", early))
    assert table_of(store, "ro-1") == ["span_default"]
    assert store.writer.run(lambda tx: partitions.ahead(tx, today=FIRST + timedelta(days=4))) == 4
    assert table_of(store, "ro-1") == ["span_d20261130"]
    assert numbers(store, "ro-1") == [1]
    store.writer.run(lambda tx: add(tx, "ro-1", 1, early))
    assert numbers(store, "ro-1") == [1]


def test_a_day_goes_with_the_spans_of_those_who_go_and_leaves_the_others(store: Store) -> None:
    store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    store.writer.run(lambda tx: keep(tx, "ro-old", START_NS, START_NS + 1, START_NS + DAY_NS))
    store.writer.run(lambda tx: keep(tx, "ro-kept", START_NS + 2, START_NS + DAY_NS))

    def say(tx: Tx) -> None:
        """Two texts: one that only the old rollout says, one that both say."""
        ids = [row[0] for row in tx.driver("SELECT id FROM span ORDER BY rollout_id DESC, start_ns")]
        for message, said_by in ((1, ids[:1]), (2, [ids[1], ids[3]])):
            tx.driver(f"INSERT INTO message (id, hash) VALUES ({message}, '\\x0{message}')")
            tx.driver(f"INSERT INTO message_index VALUES ({message}, 'word')")
            for span in said_by:
                tx.driver(f"INSERT INTO message_hit VALUES ({message}, {span})")

    store.writer.run(say)
    dropped = partitions.drop_day(store.database, FIRST, going=["ro-old", "ro-gone-before"])
    assert dropped == (2, 1)
    check_sums(store)
    while store.writer.run(lambda tx: partitions.clear(tx, limit=1)):
        pass
    assert numbers(store, "ro-old") == [3]
    assert numbers(store, "ro-kept") == [1, 2]
    assert table_of(store, "ro-kept") == ["span_default", "span_d20261121"]
    assert count(store, "span_payload") == 3
    assert [count(store, table) for table in ("message_hit", "message", "message_index")] == [1, 1, 1]
    with store.database.read() as tx:
        assert FIRST not in partitions.days(tx)
        assert tx.driver("SELECT 1 FROM pg_class WHERE relname LIKE 'span_gone%'") == []
    assert partitions.drop_day(store.database, FIRST, going=[]) == (0, 0)
    check_sums(store)


def test_a_day_that_somebody_holds_stays_whole(store: Store, postgres_database: str) -> None:
    store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    store.writer.run(lambda tx: keep(tx, "ro-1", START_NS))
    with psycopg.connect(postgres_database) as reader:
        reader.execute("SELECT count(*) FROM span")
        with pytest.raises(StoreError, match="lock timeout"):
            partitions.drop_day(store.database, FIRST, going=["ro-1"])
    assert table_of(store, "ro-1") == ["span_d20261120"]
    check_sums(store)


def test_retention_drops_the_days_of_what_it_lets_go_and_keeps_the_rest(store: Store) -> None:
    store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    for number in range(4):
        store.writer.run(lambda tx, n=number: keep(tx, f"ro-old-{n}", START_NS + n, START_NS + DAY_NS))
        store.writer.run(lambda tx, n=number: finish(tx, f"ro-old-{n}"))
    store.writer.run(lambda tx: keep(tx, "ro-active", START_NS + 9))
    gone = retention.prune(store, Policy("default", max_age_s=0.0), now=NOW + 100)
    assert (gone.rollouts, gone.spans) == (4, 8)
    assert table_of(store, "ro-active") == ["span_default"]
    assert [count(store, table) for table in ("span", "span_payload", "rollout", "attempt")] == [1, 1, 1, 1]
    with store.database.read() as tx:
        assert FIRST not in partitions.days(tx)
    check_sums(store)


def finish(tx: Tx, rollout_id: str) -> None:
    attempts.update(
        tx,
        project="default",
        rollout_id=rollout_id,
        attempt_id="at-1",
        changes={"status": "succeeded"},
        now=NOW,
        lease_s=60,
    )


def test_a_partitioned_database_opens_again(store: Store, settings: Settings) -> None:
    store.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    store.writer.run(lambda tx: keep(tx, "ro-1", START_NS))
    again = open_store(settings)
    assert numbers(again, "ro-1") == [1]
    again.close()


def test_sqlite_says_that_it_has_none(tmp_path: object) -> None:
    opened = open_store(Settings(db=f"{tmp_path}/leyden.db"))
    with pytest.raises(BadInput, match="SQLite has no partitions"):
        opened.writer.run(lambda tx: partitions.partition(tx, today=FIRST))
    with opened.database.read() as tx:
        assert partitions.days(tx) == []
    opened.close()
