"""Open a store: a database with its tables brought up to date, and the writer in front of it."""

from dataclasses import dataclass

from leyden.settings import Settings
from leyden.store import bucket, migrations, recount
from leyden.store.engine import Database, open_database
from leyden.store.writer import Writer


@dataclass(frozen=True)
class Store:
    """An open store. Read with `database.read()`, change with `writer.run(change)`; close when done.

    pack_url: where new packs go, "" for the database itself.
    """

    database: Database
    writer: Writer
    pack_url: str = ""

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
    return Store(
        database,
        Writer(database, max_pending=settings.max_pending, max_pending_bytes=settings.max_pending_bytes),
        pack_url,
    )
