"""Several programs that start at once on one database, and one that dies while it migrates."""

import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from faults.processes import LEYDEN, environment, leyden, until
from leyden.settings import Settings
from leyden.store import migrations
from leyden.store.engine import open_database
from leyden.store.opening import open_store

ROLLOUTS = 60_000
FILL = f"""
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROLLOUTS})
    INSERT INTO rollout (rollout_id, project, status, input, config, start_time, attempts, attempt_id, span_seq)
    SELECT 'ro-' || i, 'default', 'succeeded', '1', '{{}}', i, 1, 'at-1', 1 FROM n
"""
FILL_ATTEMPTS = """
    INSERT INTO attempt (rollout_id, attempt_id, sequence_id, status, start_time)
    SELECT rollout_id, 'at-1', 1, 'succeeded', start_time FROM rollout
"""
FILL_SPANS = """
    INSERT INTO span (id, project, rollout_id, attempt_id, sequence_id, trace_id, span_id, name, kind, status, derived_by)
    SELECT seq, 'default', rollout_id, 'at-1', 1, 't', 's', 'chat', 'llm', 'ok', 1 FROM rollout
"""
FILL_PAYLOADS = (
    "INSERT INTO span_payload (id, encoding, payload) SELECT id, 'agl', CAST('{}' AS %s) FROM span"
)


def start(*words: str) -> "subprocess.Popen[str]":
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*LEYDEN, *words], env=environment(), **pipes)


def end(process: "subprocess.Popen[str]") -> str:
    """What it wrote to stderr, after checking that it ended well."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def check_is_whole(url: str, *, rollouts: int) -> None:
    store = open_store(Settings(db=url))
    with store.database.read() as tx:
        assert migrations.version(tx) == migrations.HEAD
        assert tx.first(sa.text("SELECT count(*), sum(unpacked) FROM rollout")) == (
            rollouts,
            rollouts or None,
        )
    store.close()


def test_programs_that_start_at_once_on_an_empty_database_all_work(database_url: str) -> None:
    started = [start("keys", "create", "--name", f"key-{n}", "--db", database_url) for n in range(4)]
    assert all("Error" not in end(process) for process in started)
    said = leyden("keys", "list", "--db", database_url).stdout
    assert [name for name in ("key-0", "key-1", "key-2", "key-3") if name not in said] == []


def older(url: str) -> None:
    """The database of an older Leyden, large enough that migrating it takes a moment."""
    database = open_database(url)
    migrations.upgrade(database, to="0001")
    with database.begin() as tx:
        for fill in (FILL, FILL_ATTEMPTS, FILL_SPANS, FILL_PAYLOADS % ("BLOB" if tx.is_sqlite else "BYTEA")):
            tx.driver(fill)
        if not tx.is_sqlite:
            tx.driver("SELECT setval('span_id_seq', (SELECT max(id) FROM span))")
    database.close()


def test_a_program_killed_while_it_migrates_sqlite_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "leyden.db"
    older(str(path))
    looker = sqlite3.connect(path, isolation_level=None, timeout=0)

    def is_migrating() -> bool:
        try:
            looker.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        looker.execute("ROLLBACK")
        return False

    process = start("info", "--db", str(path))
    until(is_migrating)
    process.send_signal(signal.SIGSTOP)  # in the middle, for as long as the look takes
    assert looker.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    process.kill()
    process.communicate(timeout=60)
    assert looker.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert looker.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    looker.close()
    end(start("info", "--db", str(path)))
    check_is_whole(str(path), rollouts=ROLLOUTS)


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'UPDATE rollout%'
"""


def test_a_program_killed_while_it_migrates_postgresql_leaves_what_was_there(postgres_database: str) -> None:
    older(postgres_database)
    with (
        psycopg.connect(postgres_database) as holder,
        psycopg.connect(postgres_database, autocommit=True) as looker,
    ):
        holder.execute("LOCK TABLE span IN ACCESS EXCLUSIVE MODE")
        first = start("info", "--db", postgres_database)
        until(lambda: looker.execute(WAITING).fetchall() == [(1,)])
        second = start("info", "--db", postgres_database)  # waits for the first
        first.kill()
        first.communicate(timeout=60)
        assert looker.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        holder.rollback()
        end(second)
    check_is_whole(postgres_database, rollouts=ROLLOUTS)


@pytest.mark.parametrize("words", [("rollouts",), ("up", "--port", "0")], ids=lambda words: words[0])
def test_an_older_program_refuses_a_newer_database_in_one_line(
    database_url: str, words: tuple[str, ...]
) -> None:
    store = open_store(Settings(db=database_url))
    store.writer.run(lambda tx: tx.run(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    store.close()
    run = leyden(*words, "--db", database_url)
    assert (run.returncode, run.stdout) == (1, "")
    first, hint = run.stderr.splitlines()
    assert "was written by a newer Leyden (schema 9999" in first
    assert "upgrade Leyden" in hint
