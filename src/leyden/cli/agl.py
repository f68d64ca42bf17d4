"""The `agl` command, for those who start Agent Lightning's store with it: the same flags, this server."""

import click

from leyden import __version__
from leyden.cli.main import Group

COMMANDS = {"store": ("leyden.cli.agl_store", "Start the store (the same server as `leyden up`).")}


@click.command("agl", cls=Group, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="agl (leyden %(version)s)")
def main() -> None:
    """Agent Lightning's command line on Leyden's store.

    \b
    Example:
      agl store --port 4747
    """
