"""What a gateway left of rollouts that are not there: their spend and their calls. Found for `check`, dropped by a rebuild.

A rollout that came again under the same id would begin with the money of the old one. Promises: nothing of a rollout that is there
goes, also when it comes meanwhile; a change drops at most `AT_ONCE` rollouts' rows.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from leyden.store import tables
from leyden.store.engine import Database, Tx
from leyden.store.writer import Writer

t = tables.rollout
TABLES = (tables.spend_rollout, tables.model_call)
AT_ONCE = 250


def _is_orphan(table: sa.Table) -> sa.ColumnElement[bool]:
    return ~sa.exists().where(t.c.rollout_id == table.c.rollout_id)


def count(tx: Tx) -> int:
    """How many rows there are of rollouts that are not."""
    counts = [sa.select(sa.func.count()).select_from(table).where(_is_orphan(table)) for table in TABLES]
    return sum(tx.first(select)[0] for select in counts)


def drop(database: Database, writer: Writer) -> int:
    """Drop those rows, some rollouts at a time while others write; how many."""
    return sum(_drop(writer, table, ids) for table in TABLES for ids in _batches(database, table))


def _batches(database: Database, table: sa.Table) -> Iterator[list[str]]:
    after = ""
    column = table.c.rollout_id
    while True:
        select = sa.select(column).distinct().where(_is_orphan(table), column > after).order_by(column)
        with database.read() as tx:
            ids = [row[0] for row in tx.all(select.limit(AT_ONCE))]
        if not ids:
            return
        after = ids[-1]
        yield ids


def _drop(writer: Writer, table: sa.Table, ids: list[str]) -> int:
    rows = sa.delete(table).where(table.c.rollout_id.in_(ids), _is_orphan(table))
    return writer.run(lambda tx: tx.run(rows))
