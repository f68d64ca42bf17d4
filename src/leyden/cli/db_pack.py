"""`leyden db pack`: the payloads of ended rollouts, packed now."""

import click

from leyden.cli.session import connected, store_options
from leyden.cli.units import many, size


@click.command("pack")
@store_options
def command(store: str | None, db: str | None) -> None:
    """Pack the payloads of every ended rollout now. A server does it by itself, a few seconds after a rollout ends.

    \b
    Example:
      leyden db pack
    """
    with connected(store, db) as client:
        done = client.pack()
    if not done["rollouts"]:
        click.echo("Nothing waits to be packed.")
    else:
        click.echo(
            f"Packed {many(done['spans'], 'span')} of {many(done['rollouts'], 'rollout')}: "
            f"{size(done['raw_bytes'])} → {size(done['packed_bytes'])}."
        )
    if done["failed"]:
        click.echo(f"{many(done['failed'], 'rollout')} could not be packed: see the log.", err=True)
