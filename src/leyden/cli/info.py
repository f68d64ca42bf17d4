"""`leyden info`: which store this is and what it holds."""

import click

from leyden.cli.safe_text import print_json
from leyden.cli.screen import pairs
from leyden.cli.session import connected, store_options


@click.command("info")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(store: str | None, db: str | None, as_json: bool) -> None:
    """Say which store this is and what it holds.

    \b
    Examples:
      leyden info
      leyden info --store http://127.0.0.1:4747 --json
    """
    with connected(store, db) as client:
        info = client.info()
    if as_json:
        print_json(info)
        return
    rows = [(name, str(info.get(name, ""))) for name in ("version", "database", "project", "decoder")]
    pairs([*rows, *((name, f"{number:,}") for name, number in info["counts"].items())])
