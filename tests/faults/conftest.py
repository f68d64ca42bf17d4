"""Whatever goes wrong in a test here, the store that it leaves behind holds together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leyden.store import check, migrations
from leyden.store.engine import open_database


@pytest.fixture(autouse=True)
def every_store_holds_together(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Ends each test with `leyden db check --deep` of its PostgreSQL database and of every `leyden.db` in its folder.

    A test whose store lies elsewhere, or is gone by then, asks for `problems` itself. A file that is deliberately no store has another name.
    """
    # Asked for before the test, so that the database is dropped after the check.
    fixtures = {"database_url", "postgres_database"} & set(request.fixturenames)
    databases: set[str] = {request.getfixturevalue(name) for name in fixtures}
    yield
    databases.update(str(path) for path in tmp_path.rglob("leyden.db"))
    assert [f"{database}: {problem}" for database in databases for problem in problems(database)] == []


def problems(database: str) -> list[str]:
    """Everything that `leyden db check --deep` finds wrong; nothing in a database that has no tables yet."""
    opened = open_database(database)
    try:
        with opened.read() as tx:
            is_empty = migrations.version(tx) is None
        return [] if is_empty else check.problems(opened)
    finally:
        opened.close()
