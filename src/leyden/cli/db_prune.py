"""`leyden db prune`: old rollouts, for good."""

import sys
from typing import Any

import click

from leyden.cli.session import connected, store_options
from leyden.cli.units import many, seconds, size, size_of

MODE = click.Choice(["train", "val", "test"])


def bounds(command: Any) -> Any:
    """Add --older-than, --keep-rollouts and --max-bytes: how much is kept."""
    for option in (
        click.option("--max-bytes", metavar="SIZE", help="Keep this much of payloads: 500MB, 10GB; the newest stay."),
        click.option("--keep-rollouts", type=click.IntRange(0), metavar="N", help="Keep the newest N rollouts that ended."),
        click.option("--older-than", metavar="AGE", help="Delete what ended longer ago than this: 12h, 30d, 8w."),
    ):  # fmt: skip
        command = option(command)
    return command


def as_bounds(older_than: str | None, keep_rollouts: int | None, max_bytes: str | None) -> dict[str, Any]:
    """The three options as the client takes them. Raises BadInput."""
    return {
        "max_age_s": None if older_than is None else seconds(older_than),
        "max_rollouts": keep_rollouts,
        "max_bytes": None if max_bytes is None else size_of(max_bytes),
    }


@click.command("prune")
@bounds
@click.option("--mode", type=MODE, help="Only rollouts of this mode.")
@click.option("--project", help="Of another project than the key's own.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
def command(
    older_than: str | None,
    keep_rollouts: int | None,
    max_bytes: str | None,
    mode: Any,
    project: str | None,
    dry_run: bool,
    yes: bool,
    store: str | None,
    db: str | None,
) -> None:
    """Delete ended rollouts beyond the bounds, oldest first, with everything recorded of them.

    Without a bound the stored policies are applied (`leyden db retention`). What a finding points at stays. Others may go on
    writing meanwhile. The file keeps its size, and reuses the space; `leyden db vacuum` gives it back.

    \b
    Examples:
      leyden db prune --older-than 30d --dry-run
      leyden db prune --mode train --keep-rollouts 10000 --yes
      leyden db prune --max-bytes 10GB
    """
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("Nobody is there to confirm: add --yes.")
    which: dict[str, Any] = {
        **as_bounds(older_than, keep_rollouts, max_bytes),
        "mode": mode,
        "project": project,
    }
    with connected(store, db) as client:
        if dry_run or not yes:
            would = client.prune(**which, dry_run=True)
            click.echo(f"{_said(would)} would go.{_kept(would)}")
            if dry_run or not would["rollouts"]:
                return
            click.confirm("Delete them and all that was recorded?", abort=True)
        gone = client.prune(**which)
    click.echo(f"Deleted {_said(gone)}.{_kept(gone)}")


def _said(counts: dict[str, Any]) -> str:
    return f"{many(counts['rollouts'], 'rollout')} with {many(counts['spans'], 'span')} ({size(counts['bytes'])} of payloads)"


def _kept(counts: dict[str, Any]) -> str:
    if not any(counts["kept"].values()):
        return ""
    reasons = ", ".join(f"{number:,} by a {name}" for name, number in counts["kept"].items())
    return f" Kept although they are due: {reasons}."
