"""`leyden db`: the database itself. A subcommand is a module with a `command`, and one line here."""

import click

from leyden.cli.main import Group

SUBCOMMANDS = {
    "stats": ("leyden.cli.db_stats", "Say where the bytes are, and what waits to be done."),
    "retention": ("leyden.cli.db_retention", "Say how long rollouts are kept, per mode."),
    "prune": ("leyden.cli.db_prune", "Delete old rollouts now."),
    "vacuum": ("leyden.cli.db_vacuum", "Give unused space back."),
    "pack": ("leyden.cli.db_pack", "Pack the payloads of ended rollouts now."),
    "check": ("leyden.cli.db_check", "Look whether everything holds together."),
    "rebuild": ("leyden.cli.db_rebuild", "Add up the sums of charts again."),
    "partition": ("leyden.cli.db_partition", "Put spans in one table per day (PostgreSQL)."),
    "backup": ("leyden.cli.db_backup", "Copy the database while it is in use."),
}


@click.command("db", cls=Group, modules=SUBCOMMANDS)
def command() -> None:
    """Look after the database: its size, what is kept, its health, its backup.

    \b
    Examples:
      leyden db stats
      leyden db prune --older-than 30d --dry-run
      leyden db backup ./leyden-backup.db
    """
