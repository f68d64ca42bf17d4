"""A reader that holds its transaction for as long as it likes (a backup, a forgotten shell) stops nobody.

Promised: writes go on and are seen by everyone else; the reader keeps seeing what it saw; SQLite's log grows meanwhile and is cut back
once the reader is gone. Many short readers, one always beginning before another ends, do not let it grow.
"""

import sqlite3
from pathlib import Path
from threading import Event, Semaphore, Thread

import psycopg

from leyden.settings import Settings
from leyden.store import rollouts, spans
from leyden.store.engine import LOG_BYTES, Tx
from leyden.store.opening import Store, open_store
from leyden.store.rollouts import NewRollout
from store.conftest import make_span

NOW = 1_800_000_000.0
BATCH = 200
TEN_MILLISECONDS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000) SELECT count(*) FROM n"
)


def store_batch(store: Store, number: int, *, payload: bytes = b'{"sequence_id":0}') -> None:
    records = [
        make_span("ro-1", "at-1", number * BATCH + n, encoding="agl", payload=payload) for n in range(BATCH)
    ]
    store.writer.run(lambda tx: spans.insert(tx, records, project="default", now=NOW, quiet_s=900))


def started(url: str) -> Store:
    store = open_store(Settings(db=url))
    store.writer.run(
        lambda tx: rollouts.start(
            tx,
            NewRollout("1"),
            project="default",
            rollout_id="ro-1",
            attempt_id="at-1",
            worker_id=None,
            now=NOW,
        )
    )
    return store


def count(store: Store) -> int:
    def spans_of(tx: Tx) -> int:
        return rollouts.counts(tx, project="default")["spans"]

    with store.database.read() as tx:
        return spans_of(tx)


def test_writes_go_on_beside_a_reader_that_never_ends(database_url: str) -> None:
    store = started(database_url)
    try:
        store_batch(store, 0)
        if database_url.startswith("postgres"):
            reader = psycopg.connect(database_url)
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        else:
            reader = sqlite3.connect(database_url, isolation_level=None)
            reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM span").fetchone() == (BATCH,)
        for number in range(1, 11):
            store_batch(store, number)
            store.writer.checkpoint()
        assert count(store) == 11 * BATCH
        assert reader.execute("SELECT count(*) FROM span").fetchone() == (BATCH,)
        reader.close()
    finally:
        store.close()


def test_the_log_is_cut_back_when_the_reader_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "leyden.db"
    store = started(str(path))
    log = path.with_name("leyden.db-wal")
    try:
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM span").fetchone()
        number = 0
        while log.stat().st_size <= LOG_BYTES + 2**20:
            store_batch(store, number := number + 1, payload=b'{"text":"%b"}' % (b"x" * 20_000))
            store.writer.checkpoint()
        reader.close()
        for _ in range(3):
            store_batch(store, number := number + 1)
            store.writer.checkpoint()
        assert log.stat().st_size <= LOG_BYTES
        assert count(store) == number * BATCH
    finally:
        store.close()


def test_the_log_stays_short_while_somebody_reads_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "leyden.db"
    store = started(str(path))
    turns = [Semaphore(0), Semaphore(0)]
    over = Event()

    def read(mine: int) -> None:
        reader = sqlite3.connect(path, isolation_level=None)
        while not over.is_set():
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM span").fetchone()
            reader.execute(TEN_MILLISECONDS).fetchone()
            turns[1 - mine].release()
            turns[mine].acquire()  # the other one reads by now
            reader.execute("COMMIT")
        turns[1 - mine].release()
        reader.close()

    def copy() -> None:
        while not over.is_set():
            store.writer.checkpoint()

    threads = [Thread(target=read, args=(mine,)) for mine in (0, 1)] + [Thread(target=copy)]
    try:
        for thread in threads:
            thread.start()
        longest = 0
        for number in range(1, 80):
            store_batch(store, number, payload=b'{"text":"%b"}' % (b"x" * 20_000))
            longest = max(longest, path.with_name("leyden.db-wal").stat().st_size)
        assert path.stat().st_size > 4 * LOG_BYTES
        assert longest < 2 * LOG_BYTES
    finally:
        over.set()
        for thread in threads:
            thread.join()
        store.close()


def test_a_reader_that_pages_through_everything_never_waits_for_writers(database_url: str) -> None:
    """The other way round: a query answers while a write transaction is open."""
    store = started(database_url)
    try:
        store_batch(store, 0)

        def looking(tx: Tx) -> int:
            spans.next_sequence_ids(tx, [("ro-1", "at-1")], project="default")
            return count(store)

        assert store.writer.run(looking) == BATCH
    finally:
        store.close()
