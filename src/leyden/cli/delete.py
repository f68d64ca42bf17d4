"""`leyden delete`: rollouts, for good."""

import sys

import click

from leyden.cli.safe_text import one_line
from leyden.cli.session import connected, find_rollout, store_options
from leyden.cli.units import many


@click.command("delete")
@click.argument("rollouts", nargs=-1, metavar="[ROLLOUT]…")
@click.option("--filter", "filter_text", metavar="FILTER", help="Those that match: 'mode:test until:30d'.")
@store_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    rollouts: tuple[str, ...], filter_text: str | None, store: str | None, db: str | None, yes: bool
) -> None:
    """Delete rollouts with their attempts, spans and scores. The beginning of an id is enough.

    \b
    Examples:
      leyden delete ro-5f2c81
      leyden delete ro-5f2c81 ro-90ab44 --yes
      leyden delete --filter 'status:failed until:30d'
    """
    if bool(rollouts) == bool((filter_text or "").strip()):
        raise click.UsageError("Name the rollouts, or give a --filter that is not empty.")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to confirm: add --yes.")
    with connected(store, db) as client:
        ids = list(dict.fromkeys(find_rollout(client, given) for given in rollouts))
        if filter_text:
            ids = [item.rollout_id for item in client.list_rollouts(filter_text, limit=-1).items]
        if not ids:
            click.echo("No rollouts match.")
            return
        if not yes:
            for rollout_id in ids:
                click.echo(one_line(rollout_id))
            click.confirm(f"Delete {many(len(ids), 'rollout')} and all that was recorded?", abort=True)
        for rollout_id in ids:
            client.delete_rollout(rollout_id)
    click.echo(f"Deleted {many(len(ids), 'rollout')}.")
