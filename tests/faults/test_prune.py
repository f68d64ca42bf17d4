"""What deletion promises under fire: a killed prune is finished by the next, and a backup taken in between is sound."""

import signal
import subprocess
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from faults.load import Load, Sender
from faults.processes import LEYDEN, environment, leyden, running, until
from leyden.settings import Settings
from leyden.store import check, deletion, retention, rollouts, tables
from leyden.store.opening import open_store
from leyden.store.retention import Policy
from store.test_deletion import NOW, add_rollout


def rows(database_url: str, table: sa.Table) -> int:
    store = open_store(Settings(db=database_url))
    try:
        with store.database.read() as tx:
            return tx.first(sa.select(sa.func.count()).select_from(table))[0]
    finally:
        store.close()


def test_a_prune_that_is_killed_leaves_a_sound_store_and_the_next_one_finishes(database_url: str) -> None:
    store = open_store(Settings(db=database_url))
    for number in range(3):
        store.writer.run(
            lambda tx, number=number: add_rollout(tx, f"ro-{number}", now=NOW + number, spans_of_it=3000)
        )
    prune = subprocess.Popen(
        [*LEYDEN, "db", "prune", "--keep-rollouts", "1", "--yes", "--db", database_url],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def begun() -> bool:
        with store.database.read() as tx:
            return tx.first(sa.select(sa.func.count()).select_from(tables.span))[0] < 9000

    until(begun)
    prune.send_signal(signal.SIGKILL)
    prune.communicate(timeout=30)
    with store.database.read() as tx:
        left = tx.first(sa.select(sa.func.count()).select_from(tables.span))[0]
        half = deletion.unfinished(tx)
        shown = [name for name in ("ro-0", "ro-1", "ro-2") if rollouts.find(tx, name, project="default")]
    assert 3000 < left < 9000, "the kill came too late to prove anything"
    assert half == ["ro-0"] or half == ["ro-1"], "it was killed between two slices"
    assert set(shown) & set(half) == set()
    assert check.problems(store.database) == []
    store.close()
    done = leyden("db", "prune", "--keep-rollouts", "1", "--yes", "--db", database_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(database_url, tables.rollout) == 1
    assert rows(database_url, tables.span) == rows(database_url, tables.span_payload) == 3000


def test_two_that_prune_at_once_delete_each_rollout_once_and_harm_nothing(database_url: str) -> None:
    stores = [open_store(Settings(db=database_url)) for _ in range(2)]
    for number in range(40):
        stores[0].writer.run(lambda tx, number=number: add_rollout(tx, f"ro-{number}", now=NOW + number))
    threads = [
        threading.Thread(target=retention.prune, args=(store, Policy("default", max_rollouts=5)), kwargs={"now": NOW})
        for store in stores
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for store in stores:
        store.close()
    assert rows(database_url, tables.rollout) == 5


@pytest.mark.parametrize("more", ["", "--force"])
def test_a_backup_taken_while_spans_arrive_opens_and_holds_together(tmp_path: Path, more: str) -> None:
    database, copy = str(tmp_path / "leyden.db"), tmp_path / "copies" / "copy.db"
    with running(database) as server:
        load = Load(server.url, requests=150, spans=50)
        sender = Sender(load, server.url)
        until(lambda: len(sender.acknowledged) >= 30)
        held = load.all_span_ids(sender.acknowledged)
        made = leyden("db", "backup", str(copy), "--db", database)
        sender.join()
        assert (made.returncode, made.stderr) == (0, "")
        if more:
            assert leyden("db", "backup", str(copy), "--db", database).returncode == 1
            again = leyden("db", "backup", str(copy), more, "--db", database)
            assert (again.returncode, again.stderr) == (0, "")
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]
    checked = leyden("db", "check", "--deep", "--db", str(copy))
    assert (checked.returncode, checked.stderr) == (0, "")
    with running(str(copy)) as server:
        found, shared = load.stored(server.url)
    assert held - set(found) == set()
    assert shared == 0


def test_a_file_that_a_server_has_open_is_not_vacuumed(tmp_path: Path) -> None:
    database = str(tmp_path / "leyden.db")
    with running(database):
        refused = leyden("db", "vacuum", "--db", database)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[0] == f"Error: Another program has {database} open"
    assert leyden("db", "vacuum", "--db", database).returncode == 0
