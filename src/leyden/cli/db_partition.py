"""`leyden db partition`: spans in one table per day."""

from datetime import UTC, datetime

import click

from leyden.cli.session import db_option, opened
from leyden.store import partitions


@click.command("partition")
@db_option
def command(db: str | None) -> None:
    """Put spans in one table per day, so that retention drops old days whole. PostgreSQL 15 or newer; there is no way back.

    Every span is copied once while nobody writes, which needs room for the spans twice: do it early. Servers make the tables
    of the coming days by themselves. Asking for one rollout gets slower with every day that is kept.

    \b
    Example:
      leyden db partition --db postgresql://leyden@db/leyden
    """
    with opened(db) as store:
        made = store.writer.run(lambda tx: partitions.partition(tx, today=datetime.now(UTC).date()))
    click.echo(f"{store.database.label}: spans lie in {made} tables, one per day")
