"""`leyden db rebuild`: the sums of charts, added up again."""

import click

from leyden.cli.session import db_option, opened
from leyden.cli.units import many
from leyden.store import recount


@click.command("rebuild")
@db_option
def command(db: str | None) -> None:
    """Add up the sums per hour and day again, from the spans. Others may use the database meanwhile.

    They are kept with every write, so this is for when `leyden db check` says that they are wrong.

    \b
    Example:
      leyden db rebuild
    """
    with opened(db) as store:
        wrong = recount.rebuild(store.database, store.writer)
    click.echo(f"Corrected {many(wrong, 'row')}." if wrong else "Every row was right.")
