"""`leyden keys`: who may use a server."""

import time
from typing import Any

import click
from pydantic import ValidationError

from leyden.cli.safe_text import one_line, print_json
from leyden.cli.screen import Column, print_table
from leyden.cli.session import connected, only, store_options
from leyden.cli.units import ago, count, duration, seconds
from leyden.errors import BadInput
from leyden.types import KeyLimits

SCOPES = click.Choice(["ingest", "read", "run", "gateway", "admin"])


@click.group("keys")
def command() -> None:
    """Create, list and revoke the keys of a server.

    A key is asked for by every server that other machines can reach. Its scopes say what it may do: ingest (send traces
    and scores), read, run (queue and claim rollouts), gateway (call models, nothing else), admin (everything, with keys and
    deleting). Its limits say how much of the gateway it may use.

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
@click.option(
    "--model", "models", multiple=True, help="A model it may call, or a glob; repeatable. Default all."
)
@click.option("--rpm", type=click.IntRange(1), help="Calls per minute.")
@click.option("--tpm", type=click.IntRange(1), help="Tokens per minute.")
@click.option(
    "--usd-per-day", type=click.FloatRange(0, min_open=True), help="What its calls of a day (UTC) may cost."
)
@click.option(
    "--usd-per-rollout", type=click.FloatRange(0, min_open=True), help="What calls of one rollout may cost."
)
@click.option("--concurrency", type=click.IntRange(1), help="Calls at once.")
@click.option("--expires", metavar="SPAN", help="Refused after: 12h, 30d.")
@click.option("--rollout", metavar="ID", help="The only rollout whose calls it may make.")
@click.option("--attempt", metavar="ID", help="The only attempt of it.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    name: str, scopes: tuple[Any, ...], project: str, models: tuple[str, ...], rpm: int | None, tpm: int | None,
    usd_per_day: float | None, usd_per_rollout: float | None, concurrency: int | None, expires: str | None, rollout: str | None,
    attempt: str | None, store: str | None, db: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a key and print it: this once.

    Limits hold for calls through the gateway.

    \b
    Examples:
      leyden keys create --name ci --scope ingest
      leyden keys create --name bot --scope gateway --model 'gpt-4o*' --rpm 60 --usd-per-day 5
    """
    limits = limits_of(
        models=models, requests_per_minute=rpm, tokens_per_minute=tpm, usd_per_day=usd_per_day, usd_per_rollout=usd_per_rollout,
        concurrency=concurrency, expire_time=time.time() + seconds(expires) if expires else None, rollout_id=rollout,
        attempt_id=attempt,
    )  # fmt: skip
    with connected(store, db, must_exist=False) as client:
        made = client.create_key(name, scopes=scopes, project=project, limits=limits)
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
    columns = [Column("ID"), Column("NAME", cuts=True), Column("SCOPES"), Column("PROJECT", may_go=True), Column("CREATED", may_go=True), Column("STATE")]  # fmt: skip
    rows = [
        [
            key["id"],
            key["name"],
            " ".join(key["scopes"]),
            key["project"],
            ago(key["create_time"], now=now),
            _state(key, now=now),
        ]
        for key in found
    ]
    if any(key["limits"] for key in found):
        columns.append(Column("LIMITS", wraps=True))
        for row, key in zip(rows, found, strict=True):
            row.append(said(KeyLimits.model_validate(key["limits"]), now=now))
    print_table(columns, rows)


def limits_of(**given: Any) -> KeyLimits:
    """Limits as somebody typed them. Raises BadInput."""
    try:
        return KeyLimits(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"These limits cannot be: {first['loc'][0]}: {first['msg']}") from None


def _state(key: dict[str, Any], *, now: float) -> str:
    expires = key["limits"].get("expire_time")
    if key["revoke_time"]:
        return "revoked"
    return "expired" if expires is not None and expires <= now else "valid"


def said(limits: KeyLimits, *, now: float) -> str:
    """Limits in a few words, `gpt-4o*, 60/min, $5/day`; nothing when there are none."""
    left_s = limits.expire_time - now if limits.expire_time is not None else 0
    words = [
        *limits.models,
        f"{limits.requests_per_minute}/min" if limits.requests_per_minute else "",
        f"{count(limits.tokens_per_minute)} tokens/min" if limits.tokens_per_minute else "",
        f"${limits.usd_per_day:g}/day" if limits.usd_per_day else "",
        f"${limits.usd_per_rollout:g}/rollout" if limits.usd_per_rollout else "",
        f"{limits.concurrency} at once" if limits.concurrency else "",
        f"{duration(left_s)} left" if left_s > 0 else "",
        limits.rollout_id or "",
        limits.attempt_id or "",
    ]
    return ", ".join(word for word in words if word)


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
