"""Bring a database to this program's schema. A released migration is never edited; a change is a new file in `versions/`.

Alembic is imported only when there is something to do: on a database that is up to date, opening it costs one query.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from leyden.errors import SchemaTooNew, StoreError
from leyden.store.engine import Database, Tx

HEAD = "0003"
# Two programs that open one PostgreSQL database at once take turns on this lock.
LOCK = 0x6C657964


def upgrade(database: Database, *, to: str = HEAD) -> None:
    """Run the migrations that the database lacks, all in one transaction. Raises SchemaTooNew when a newer Leyden wrote it.

    Any number of programs may do so at once: one migrates, the others wait and find it done. One that dies in the middle leaves
    what was there. to: an older revision, to make the database of an older Leyden.
    """
    with database.read() as tx:
        if version(tx) == to:
            return
    with database.begin() as tx:
        if not tx.is_sqlite:
            tx.driver(f"SELECT pg_advisory_xact_lock({LOCK})")
        found = version(tx)
        if found != to:
            _run(tx, found, to=to, label=database.label)


def version(tx: Tx) -> str | None:
    """The revision a database is at, None for an empty one."""
    if not sa.inspect(tx.connection).has_table("alembic_version"):
        return None
    row = tx.first(sa.text("SELECT version_num FROM alembic_version"))
    return row[0] if row else None


def _run(tx: Tx, found: str | None, *, to: str, label: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if found is not None and found not in known:
        raise SchemaTooNew(
            f"The database {label} was written by a newer Leyden (schema {found}; this one knows up to {HEAD})",
            hint="upgrade Leyden, or open another database with --db",
        )
    if found is None and not tx.is_sqlite and _has_foreign_tables(tx):
        raise StoreError(
            f"The database {label} holds tables that are not Leyden's",
            hint="give Leyden a database of its own",
        )

    def upgrade_steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs(to, revision)  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(config, script, fn=upgrade_steps) as environment:
        environment.configure(
            connection=tx.connection, transactional_ddl=False, transaction_per_migration=False
        )
        environment.run_migrations()


def _has_foreign_tables(tx: Tx) -> bool:
    return bool({"rollout", "span"} & set(sa.inspect(tx.connection).get_table_names()))
