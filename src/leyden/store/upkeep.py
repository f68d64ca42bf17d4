"""What is done to the database as a whole: giving space back, and copying it while others write.

Promises: a copy is one moment of the store, verified before it gets its name; nothing is given back while another program
has the file open. Refuses to know: what is in the tables.
"""

import os
import shlex
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput, NotFound, StoreBusy, StoreError
from leyden.store import migrations, sizes, tables
from leyden.store.engine import Database, open_database, translated

# Pages copied between two looks at whoever waits: 16 MiB.
STEP_PAGES = 2048


class Vacuumed(NamedTuple):
    """Bytes of the database before and after."""

    before: int
    after: int


def vacuum(database: Database) -> Vacuumed:
    """Give unused space back to the file system (SQLite), or to the tables (PostgreSQL), and merge the search index.

    Raises StoreBusy while another program has the file open, StoreFull when there is no room for the copy it works on.
    """
    if not database.is_sqlite:
        return _vacuum_postgres(database)
    path = database.label
    database.close()
    with _alone(path) as connection:
        before = os.path.getsize(path)
        connection.execute("INSERT INTO message_index (message_index) VALUES ('optimize')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Vacuumed(before, os.path.getsize(path))


@contextmanager
def _alone(path: str) -> Generator[sqlite3.Connection]:
    """A connection to a SQLite file that nobody else has open. Raises StoreBusy."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        with translated(path):
            # Every other connection, also an idle one, holds a shared lock that stands in the way of this one.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            yield connection
    except StoreBusy as error:
        raise StoreBusy(
            f"Another program has {path} open", hint="stop it first (`leyden up` is one), then try again"
        ) from error
    finally:
        connection.close()


def _vacuum_postgres(database: Database) -> Vacuumed:
    with database.read() as tx:
        before = sizes.total_bytes(tx)
        for table in tables.metadata.sorted_tables:
            tx.driver(f"VACUUM (ANALYZE) {table.name}")
        return Vacuumed(before, sizes.total_bytes(tx))


class Copied(NamedTuple):
    """A finished backup: its size, and how many packs lie at a URL and are not inside."""

    bytes: int
    packs_elsewhere: int


def backup(
    source: str, target: Path, *, force: bool = False, told: Callable[[float], None] = lambda _: None
) -> Copied:
    """Copy a SQLite database into one file while others read and write it; what they commit meanwhile is not in it.

    told: called with the share that is done, 0 to 1. Raises BadInput when the target exists (unless force) or is the
    database itself, NotFound without a database, StoreError when the copy does not hold together; then there is no file.
    """
    if not Path(source).exists():
        raise NotFound(f"There is no database at {source}", hint="--db names another")
    if target.exists() and (not force or target.samefile(source)):
        raise BadInput(f"{target} exists already", hint="give another name, or --force to overwrite it")
    draft = target.with_name(f".{target.name}.part")
    try:
        with translated(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            _copy(source, draft, told)
            found = _verified(draft)
            _keep(draft, target)
        return found
    finally:
        for path in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))):
            path.unlink(missing_ok=True)


def _copy(source: str, draft: Path, told: Callable[[float], None]) -> None:
    def progress(_status: int, remaining: int, total: int) -> None:
        told(1.0 if not total else 1 - remaining / total)

    ours, copy = sqlite3.connect(source, timeout=10, isolation_level=None), sqlite3.connect(draft)
    try:
        # Without a read transaction of our own every commit of another program would start the copy again.
        ours.execute("BEGIN")
        ours.execute("SELECT count(*) FROM sqlite_master").fetchone()
        ours.backup(copy, pages=STEP_PAGES, progress=progress, sleep=0)
    finally:
        ours.close()
        copy.close()


def _verified(draft: Path) -> Copied:
    database = open_database(str(draft))
    try:
        with database.read() as tx:
            said = [row[0] for row in tx.driver("PRAGMA quick_check(1)")]
            if said != ["ok"] or migrations.version(tx) is None:
                raise StoreError(
                    f"The copy does not hold together ({said[0]}), so it was not kept",
                    hint="`leyden db check` looks at the database itself",
                )
            elsewhere = 0
            if sa.inspect(tx.connection).has_table("pack"):
                elsewhere = tx.first(sa.select(sa.func.count(tables.pack.c.url)))[0]
    finally:
        database.close()
    return Copied(draft.stat().st_size, elsewhere)


def _keep(draft: Path, target: Path) -> None:
    """Give the draft its name, once its bytes are on the disk."""
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    for end in ("-wal", "-shm"):
        target.with_name(target.name + end).unlink(missing_ok=True)
    draft.replace(target)


def pg_dump(url: str, target: Path) -> str:
    """The command line that copies a PostgreSQL database; a password is left to PGPASSWORD or ~/.pgpass."""
    address = sa.make_url(url)
    safe = sa.URL.create(
        "postgresql", address.username, None, address.host, address.port, address.database, address.query
    )
    return shlex.join(["pg_dump", "--format=custom", f"--file={target}", safe.render_as_string()])
