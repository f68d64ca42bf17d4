"""`leyden db vacuum`: unused space, given back."""

import click

from leyden.cli.session import db_option, opened
from leyden.cli.units import size
from leyden.store import indexing, upkeep


@click.command("vacuum")
@db_option
def command(db: str | None) -> None:
    """Give unused space back, and merge the search index.

    SQLite writes the file anew, which needs as much free disk space again and nobody else in it. PostgreSQL frees the space for
    new rows (VACUUM ANALYZE) and goes on serving.

    \b
    Example:
      leyden db vacuum
    """
    with opened(db) as store:
        indexing.sweep(store)
        done = upkeep.vacuum(store.database)
    click.echo(f"{store.database.label}: {size(done.before)} → {size(done.after)}")
