"""`leyden db rebuild`: the sums of charts, added up again."""

import click

from leyden.cli.session import connected, store_options
from leyden.cli.units import many


@click.command("rebuild")
@click.option("--dry-run", is_flag=True, help="Only count what is wrong.")
@store_options
def command(dry_run: bool, store: str | None, db: str | None) -> None:
    """Add up the sums per hour and day again, from the spans. Others may use the database meanwhile.

    They are kept with every write, so this is for when `leyden db check` says that they are wrong. Costs and calls of rollouts
    that are not there any more are dropped.

    \b
    Example:
      leyden db rebuild
    """
    with connected(store, db) as client:
        done = client.rebuild_rollups(dry_run=dry_run)
    wrong = many(done["wrong"], "row")
    if not done["wrong"]:
        click.echo("Every row was right.")
    else:
        click.echo(f"{wrong} would be corrected." if dry_run else f"Corrected {wrong}.")
