"""`leyden db partition`: spans in one table per day, and old days dropped whole."""

import click

from leyden.cli.session import connected, store_options
from leyden.cli.units import many


@click.command("partition")
@click.option(
    "--drop-before",
    type=click.IntRange(1),
    metavar="DAYS",
    help="Drop the days that are longer ago, with the ended rollouts in them that nothing keeps.",
)
@store_options
def command(drop_before: int | None, store: str | None, db: str | None) -> None:
    """Keep spans in one table per day. PostgreSQL 15 or newer; from some hundred million spans on it pays.

    The first time it copies every span while writers wait, and needs room for them twice. Servers make the tables of coming days by
    themselves and drop days that retention has emptied; --drop-before drops days whole, which is faster and keeps one server busy.

    \b
    Examples:
      leyden db partition --db postgresql://user@host/leyden
      leyden db partition --drop-before 90 --store http://127.0.0.1:4747
    """
    with connected(store, db) as client:
        done = client.partition_spans(drop_before_days=drop_before)
    click.echo(f"Spans lie in {many(done['days'], 'day')}, and a table for what fits in none.")
    if drop_before is not None:
        click.echo(f"Dropped {many(done['dropped'], 'span')}.")
