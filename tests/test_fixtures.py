"""The fixtures keep their promises: a real PostgreSQL, a fresh database each time, a clock that stands still."""

import time
from pathlib import Path

import psycopg

from conftest import Clock


def test_the_postgres_database_is_real_and_empty(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        (tables,) = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() or (1,)
        (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
    assert tables == 0
    assert int(version.split(".")[0]) >= 14


def test_every_test_gets_a_database_of_its_own(database_url: str, tmp_path: Path) -> None:
    assert database_url.startswith("postgresql://") or Path(database_url).parent == tmp_path
    assert not Path(database_url).exists()


def test_the_clock_stands_still_until_it_is_moved(clock: Clock) -> None:
    before = time.time()
    clock.advance(900)
    assert time.time() - before == 900
    assert time.time_ns() == int(time.time()) * 1_000_000_000
