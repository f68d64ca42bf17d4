"""`leyden keys`: who may use a server."""

import time
from typing import Any

import click

from leyden.cli.safe_text import one_line, print_json
from leyden.cli.screen import Column, print_table
from leyden.cli.session import connected, only, store_options
from leyden.cli.units import ago

SCOPES = click.Choice(["ingest", "read", "run", "admin"])


@click.group("keys")
def command() -> None:
    """Create, list and revoke the keys of a server.

    A key is asked for by every server that other machines can reach. Its scopes say what it may do: ingest (send traces
    and scores), read, run (queue and claim rollouts), admin (everything, with keys and deleting).

    \b
    Examples:
      leyden keys create --name ci --scope ingest --scope read
      leyden keys list
      leyden keys revoke key-5f2c81aa
    """


@command.command("create")
@click.option("--name", required=True, help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    type=SCOPES,
    multiple=True,
    default=("ingest", "read", "run"),
    show_default=True,
    help="What it may do; repeatable.",
)
@click.option("--project", default="default", show_default=True, help="The project it works in.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    name: str, scopes: tuple[Any, ...], project: str, store: str | None, db: str | None, as_json: bool
) -> None:
    """Make a key and print it: this once.

    \b
    Example:
      leyden keys create --name ci --scope ingest
    """
    with connected(store, db, must_exist=False) as client:
        made = client.create_key(name, scopes=scopes, project=project)
    if as_json:
        print_json(made)
        return
    click.echo(made["key"])
    click.echo(
        f"{made['id']} for {one_line(name)}: {', '.join(scopes)}. Keep it now: it cannot be shown again.\n"
        "Use it as LEYDEN_API_KEY, or in the header `Authorization: Bearer …`.",
        err=True,
    )


@command.command("list")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(store: str | None, db: str | None, as_json: bool) -> None:
    """List keys, without their secrets.

    \b
    Example:
      leyden keys list
    """
    with connected(store, db) as client:
        found = client.keys()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No keys. `leyden keys create --name me` makes one.")
        return
    now = time.time()
    print_table(
        [Column("ID"), Column("NAME", cuts=True), Column("SCOPES"), Column("PROJECT", may_go=True), Column("CREATED", may_go=True), Column("STATE")],
        [
            [
                key["id"],
                key["name"],
                " ".join(key["scopes"]),
                key["project"],
                ago(key["create_time"], now=now),
                "revoked" if key["revoke_time"] else "valid",
            ]
            for key in found
        ],
    )  # fmt: skip


@command.command("revoke")
@click.argument("key_id", metavar="KEY")
@store_options
def revoke(key_id: str, store: str | None, db: str | None) -> None:
    """Refuse a key from now on. KEY is its id, or the beginning of it.

    \b
    Example:
      leyden keys revoke key-5f2c81aa
    """
    with connected(store, db) as client:
        existing = client.keys()
        ids = [key["id"] for key in existing if key["id"].startswith(key_id)]
        found = only(ids, key_id, noun="key", look="`leyden keys list` shows them")
        client.revoke_key(found)
    click.echo(f"Revoked {found}.")
