"""The schema that migrations build is the schema that `tables.py` declares, on every database."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from leyden.errors import SchemaTooNew
from leyden.settings import Settings
from leyden.store import migrations, tables
from leyden.store.opening import Store, open_store


def test_all_migrations_together_build_exactly_the_declared_tables(store: Store) -> None:
    with store.database.read() as tx:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _is_declared}
        context = MigrationContext.configure(tx.connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def _is_declared(name: str | None, kind: str, _parents: object) -> bool:
    """The full-text index is an object of each database's own kind, with tables behind it on SQLite."""
    return not (kind == "table" and (name or "").startswith("message_index"))


def test_the_head_named_in_the_code_is_the_newest_migration() -> None:
    from pathlib import Path

    versions = Path(migrations.__file__).parent / "versions"
    assert max(path.name[:4] for path in versions.glob("0*.py")) == migrations.HEAD


def test_opening_again_changes_nothing(settings: Settings) -> None:
    open_store(settings).close()
    again = open_store(settings)
    with again.database.read() as tx:
        assert migrations.version(tx) == migrations.HEAD
    again.close()


def test_a_database_of_a_newer_leyden_is_refused_in_one_line(settings: Settings) -> None:
    store = open_store(settings)
    store.writer.run(lambda tx: tx.run(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    store.close()
    with pytest.raises(SchemaTooNew, match="newer Leyden") as caught:
        open_store(settings)
    assert "\n" not in str(caught.value)
