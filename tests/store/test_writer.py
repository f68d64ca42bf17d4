"""The writer: answers after the commit, undoes a failure alone, refuses when too much waits."""

import gc
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from leyden.errors import BadInput, StoreBusy, StoreFull
from leyden.settings import Settings
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.opening import Store, open_store
from leyden.store.writer import Writer


def add_project(name: str, then: Exception | None = None):
    def change(tx: Tx) -> None:
        tx.run(sa.insert(tables.project), {"name": name, "create_time": 1.0})
        if then is not None:
            raise then

    return change


def projects(store: Store) -> set[str]:
    with store.database.read() as tx:
        return {row[0] for row in tx.all(sa.select(tables.project.c.name))}


def test_a_change_that_fails_is_undone_alone_and_the_rest_of_its_group_is_kept(store: Store) -> None:
    gate = threading.Event()
    threads = [threading.Thread(target=store.writer.run, args=(lambda tx: gate.wait(10),))]
    failures: list[BaseException] = []

    def run(name: str, then: Exception | None) -> None:
        try:
            store.writer.run(add_project(name, then))
        except Exception as error:
            failures.append(error)

    plan = [("a", None), ("b", BadInput("no")), ("c", ValueError("bug")), ("d", None)]
    threads += [threading.Thread(target=run, args=item) for item in plan]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert projects(store) == {"a", "d"}
    assert sorted(type(error).__name__ for error in failures) == ["BadInput", "StoreError"]


def test_an_answer_comes_only_after_the_commit_that_another_connection_can_see(store: Store) -> None:
    store.writer.run(add_project("seen"))
    assert "seen" in projects(store)


def test_beyond_the_bound_new_writes_are_refused_at_once_and_none_is_lost(settings: Settings) -> None:
    store = open_store(settings)
    writer = Writer(store.database, max_pending=2, max_pending_bytes=100)
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        gate.wait(10)

    threads = [threading.Thread(target=writer.run, args=(hold,))]
    threads[0].start()
    entered.wait(10)
    threads += [
        threading.Thread(target=writer.run, args=(add_project(name),), kwargs={"size": 40})
        for name in ("a", "b")
    ]
    for thread in threads[1:]:
        thread.start()
    while writer.pending < 2:
        pass
    with pytest.raises(StoreBusy, match="already wait"):
        writer.run(add_project("c"))
    gate.set()
    for thread in threads:
        thread.join()
    assert projects(store) == {"a", "b"}
    writer.close()
    store.close()


def test_closing_commits_what_was_accepted(settings: Settings) -> None:
    store = open_store(settings)
    threads = [threading.Thread(target=store.writer.run, args=(add_project(f"p{n}"),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    again = open_store(settings)
    assert len(projects(again)) == 20
    again.close()


def test_a_full_disk_fails_the_write_with_its_name_and_keeps_what_was_there(tmp_path) -> None:
    store = open_store(Settings(db=str(tmp_path / "small.db")))
    store.writer.run(add_project("before"))
    pages = store.writer.run(lambda tx: tx.driver("PRAGMA page_count")[0][0])
    store.writer.run(lambda tx: tx.driver(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(StoreFull, match="No space left"):
        store.writer.run(
            lambda tx: tx.run(sa.insert(tables.project), {"name": "x" * 500_000, "create_time": 1.0})
        )
    assert projects(store) == {"before"}
    store.close()


def test_collecting_garbage_never_waits_for_a_database_that_is_locked(tmp_path: Path) -> None:
    # What a failed write leaves is freed by any thread, an event loop's among them.
    store = open_store(Settings(db=str(tmp_path / "leyden.db"), busy_timeout_s=0.2))
    other = sqlite3.connect(tmp_path / "leyden.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    gc.disable()
    try:
        for name in ("first", "second"):
            with pytest.raises(StoreBusy):
                store.writer.run(add_project(name))
        store.database.engine.connect().exec_driver_sql("PRAGMA busy_timeout=2000")
        waiting = threading.Thread(target=store.writer.run, args=(add_project("third"),))
        waiting.start()
        time.sleep(0.2)  # it waits in SQLite by then
        began = time.monotonic()
        gc.collect()
        took_s = time.monotonic() - began
        other.execute("ROLLBACK")
        waiting.join()
    finally:
        gc.enable()
        other.close()
        store.close()
    assert took_s < 1


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_taken_for_stored_once_the_file_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_replaced: bool
) -> None:
    file = tmp_path / "leyden.db"
    store = open_store(Settings(db=str(file)))
    store.writer.run(add_project("kept"))
    file.rename(tmp_path / "elsewhere.db")
    if is_replaced:
        file.write_bytes(b"")
    for name in ("a", "b"):
        with pytest.raises(StoreBusy, match=f"{file} was removed or replaced"):
            store.writer.run(add_project(name))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (tmp_path / "elsewhere.db").rename(file)
    store.writer.run(add_project("again"))
    assert projects(store) & {"kept", "again", "a", "b"} == {"kept", "again"}
    store.close()
