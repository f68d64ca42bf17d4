"""`leyden db retention`: how long rollouts are kept."""

from typing import Any

import click

from leyden.cli.db_prune import as_bounds, bounds
from leyden.cli.safe_text import print_json
from leyden.cli.screen import Column, print_table
from leyden.cli.session import connected, store_options
from leyden.cli.units import duration, size

MODE = click.Choice(["train", "val", "test"])


@click.group("retention", invoke_without_command=True)
@click.option("--project", help="Of another project than the key's own.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, project: str | None, store: str | None, db: str | None, as_json: bool
) -> None:
    """Show how long rollouts are kept, and change it. A server applies it every few minutes.

    A policy is about one mode of a project, or about all modes without one of their own. Nothing is deleted where there is
    none, unless LEYDEN_KEEP_DAYS or LEYDEN_KEEP_BYTES says so.

    \b
    Examples:
      leyden db retention
      leyden db retention set --older-than 30d
      leyden db retention set --mode train --older-than 7d --max-bytes 10GB
      leyden db retention clear --mode train
    """
    if ctx.invoked_subcommand is not None:
        return
    with connected(store, db) as client:
        found = client.retention(project=project)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No policies: everything is kept, unless settings say otherwise.")
        return
    print_table(
        [Column("PROJECT", cuts=True), Column("MODE"), Column("AGE", number=True), Column("ROLLOUTS", number=True), Column("BYTES", number=True)],
        [_row(policy) for policy in found],
    )  # fmt: skip


def _row(policy: dict[str, Any]) -> list[str]:
    count, held = policy["max_rollouts"], policy["max_bytes"]
    return [
        policy["project"],
        policy["mode"] or "any other",
        duration(policy["max_age_s"]) or "any",
        "any" if count is None else f"{count:,}",
        "any" if held is None else size(held),
    ]


@command.command("set")
@bounds
@click.option(
    "--mode", type=MODE, help="About this mode alone; default: all modes without a policy of their own."
)
@click.option("--project", help="Of another project than the key's own.")
@store_options
def set_policy(
    older_than: str | None,
    keep_rollouts: int | None,
    max_bytes: str | None,
    mode: Any,
    project: str | None,
    store: str | None,
    db: str | None,
) -> None:
    """Keep rollouts within these bounds from now on. Without any bound, all of the mode are kept.

    \b
    Examples:
      leyden db retention set --older-than 30d
      leyden db retention set --mode val
    """
    with connected(store, db, must_exist=False) as client:
        kept = as_bounds(older_than, keep_rollouts, max_bytes)
        policy = client.set_retention(**kept, mode=mode or "", project=project)
    name, mode, age, count, held = _row(policy)
    click.echo(f"Project {name}, mode {mode}: age {age}, rollouts {count}, bytes {held}.")


@command.command("clear")
@click.option("--mode", type=MODE, help="The policy of this mode; default: the one for all modes.")
@click.option("--project", help="Of another project than the key's own.")
@store_options
def clear(mode: Any, project: str | None, store: str | None, db: str | None) -> None:
    """Remove a policy.

    \b
    Example:
      leyden db retention clear --mode train
    """
    with connected(store, db) as client:
        client.clear_retention(mode=mode or "", project=project)
    click.echo("Removed the policy.")
