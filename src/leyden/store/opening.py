"""Open a store: a database with its tables brought up to date, and the writer in front of it.

Promises: once the file of a SQLite database is removed or replaced, writes fail: what went into the old one would be gone at the next start.
"""

import logging
import os
from dataclasses import dataclass

from leyden.errors import StoreBusy
from leyden.settings import Settings
from leyden.store import bucket, migrations, recount
from leyden.store.engine import Database, open_database
from leyden.store.writer import Writer

log = logging.getLogger("leyden.store")


class OpenedFile:
    """The file that a path named when it was opened, and whether it still does. For any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened = _identity(path)
        self._is_there = True

    def check(self) -> None:
        """Raises StoreBusy when it was removed or replaced: a sender keeps what it has until the server runs again.

        Costs a `stat`, about two microseconds.
        """
        try:
            found = _identity(self._path)
        except OSError:  # a folder that cannot be looked into says nothing about the file
            return
        was_there, self._is_there = self._is_there, found == self._opened
        if self._is_there:
            return
        if was_there:
            log.error(
                "the database file %s was removed or replaced: nothing is stored any more. "
                "Put it back or restore a backup, and start the server again",
                self._path,
            )
        raise StoreBusy(
            f"The database file {self._path} was removed or replaced while it was open",
            hint="put it back or restore a backup, and start the server again; until then nothing is stored",
        )


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from every other one; None when there is none. Raises OSError when nobody can tell."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class Store:
    """An open store. Read with `database.read()`, change with `writer.run(change)`; close when done.

    pack_url: where new packs go, "" for the database itself. file: the one that SQLite has open.
    """

    database: Database
    writer: Writer
    pack_url: str = ""
    file: OpenedFile | None = None

    def check(self) -> None:
        """Ask whether it would store something. Raises StoreBusy, StoreError."""
        if self.file is not None:
            self.file.check()
        self.database.ping()

    def close(self) -> None:
        """Commit what was accepted and close every connection."""
        self.writer.close()
        self.database.close()


def open_store(settings: Settings) -> Store:
    """Open the database of the settings and migrate it.

    Raises StoreError and its kinds, SchemaTooNew, BadInput, MissingExtra.
    """
    pack_url = bucket.base_url(settings.pack_url)
    database = open_database(
        settings.database_url, busy_timeout_s=settings.busy_timeout_s, synchronous=settings.sqlite_synchronous
    )
    try:
        migrations.upgrade(database)
        recount.fill(database)
    except BaseException:
        database.close()
        raise
    is_file = database.is_sqlite and database.label != ":memory:"
    file = OpenedFile(database.label) if is_file else None
    writer = Writer(
        database,
        max_pending=settings.max_pending,
        max_pending_bytes=settings.max_pending_bytes,
        check=file.check if file is not None else None,
    )
    return Store(database, writer, pack_url, file)
