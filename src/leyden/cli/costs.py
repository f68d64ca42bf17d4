"""`leyden costs`: what calls through the gateway cost, and own prices."""

import time
from typing import Any

import click

from leyden.cli.safe_text import one_line, print_json
from leyden.cli.screen import Column, print_table
from leyden.cli.session import connected, store_options
from leyden.cli.units import ago, count, money, since
from leyden.errors import BadInput
from leyden.sdk.calls.spend import Cost

DIMENSIONS = ["key", "agent", "operation", "provider", "model", "day"]
UNKNOWN = "unknown"


@click.group("costs", invoke_without_command=True)
@click.option(
    "--by", "by", type=click.Choice(DIMENSIONS), default="model", show_default=True, help="Group by."
)
@click.option(
    "--since", "since_text", metavar="WHEN", default="30d", show_default=True, help="From: 7d, 2026-03-14."
)
@click.option("--until", "until_text", metavar="WHEN", help="Up to; default now.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, by: Any, since_text: str, until_text: str | None, store: str | None, db: str | None, as_json: bool
) -> None:  # fmt: skip
    """Show what calls through the gateway cost, per key, agent, operation, provider, model or day.

    Days are those of UTC. INPUT holds what was CACHED. A cost marked + leaves out the calls under UNPRICED, whose price nobody knows; "unknown" is not 0.

    \b
    Examples:
      leyden costs --by key --since 7d
      leyden costs prices set 'ollama/*' --input 0 --output 0
    """
    if ctx.invoked_subcommand is not None:
        return
    now = time.time()
    with connected(store, db) as client:
        found = client.costs(by=by, since=since(since_text, now=now), until=since(until_text, now=now))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    if not found.groups:
        click.echo("No calls through the gateway in these days.")
        return
    rows = [_row(group.name or group.value or "(none)", group) for group in found.groups]
    if len(rows) > 1:
        rows.append(_row("all", found.total))
    print_table(_columns(by), rows)


def _columns(by: str) -> list[Column]:
    return [
        Column(by.upper(), cuts=True),
        Column("CALLS", number=True),
        Column("ERRORS", number=True, may_go=True),
        Column("INPUT", number=True, may_go=True),
        Column("CACHED", number=True, may_go=True),
        Column("OUTPUT", number=True, may_go=True),
        Column("COST", number=True),
        Column("UNPRICED", number=True),
    ]


def _row(name: str, cost: Cost) -> list[str]:
    written = cost.cache_write_tokens + cost.cache_write_1h_tokens
    return [
        name,
        count(cost.calls),
        count(cost.errors) if cost.errors else "",
        count(cost.input_tokens + cost.audio_input_tokens + written + cost.cache_read_tokens),
        count(cost.cache_read_tokens) if cost.cache_read_tokens else "",
        count(cost.output_tokens + cost.reasoning_tokens + cost.audio_output_tokens),
        UNKNOWN if cost.cost_usd is None else money(cost.cost_usd) + ("+" if cost.unpriced_calls else ""),
        count(cost.unpriced_calls) if cost.unpriced_calls else "",
    ]


# ── Own prices ───────────────────────────────────────────────────────────────────────────────────────────────────


@command.group("prices")
def prices() -> None:
    """Set, list and delete prices of your own; they win over the list that Leyden comes with.

    \b
    Examples:
      leyden costs prices set 'ollama/*' --input 0 --output 0
      leyden costs prices list
    """


RATES = {
    "input": "What is sent",
    "output": "What is generated",
    "cache_read": "What is read from a prompt cache",
    "cache_write": "What is written to one",
    "cache_write_1h": "What is written to one for an hour",
    "reasoning": "Reasoning",
    "audio_input": "Audio that is sent",
    "audio_output": "Audio that is generated",
}


def rate_options(function: Any) -> Any:
    """An option per rate."""
    function = click.option("--call", type=float, metavar="USD", help="Each call, USD.")(function)
    for name, meaning in reversed(RATES.items()):
        option = f"--{name.replace('_', '-')}"
        function = click.option(option, name, type=float, metavar="USD", help=f"{meaning}, USD per million tokens.")(
            function
        )  # fmt: skip
    return function


@prices.command("set")
@click.argument("pattern")
@rate_options
@store_options
def set_price(pattern: str, store: str | None, db: str | None, **rates: float | None) -> None:
    """Set what a model costs from now on. PATTERN is a model, PROVIDER/MODEL, or a glob of either.

    What is left out costs what it is a part of: reasoning as output, cached and audio tokens as input or output.

    \b
    Examples:
      leyden costs prices set 'ollama/*' --input 0 --output 0
      leyden costs prices set gpt-4o --input 2 --cache-read 1 --output 8
    """
    given = {name: rate for name, rate in rates.items() if rate is not None}
    if not given:
        raise BadInput("No price was given", hint="add --input and --output")
    with connected(store, db, must_exist=False) as client:
        client.set_price(pattern, given)
    click.echo(f"{one_line(pattern)}: {_rates(given)}")


@prices.command("list")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_prices(store: str | None, db: str | None, as_json: bool) -> None:
    """List the prices that were set.

    \b
    Example:
      leyden costs prices list
    """
    with connected(store, db) as client:
        found = client.prices()
    if as_json:
        print_json([price.model_dump(mode="json") for price in found])
        return
    if not found:
        click.echo("No prices of your own: calls are priced by the list.")
        return
    now = time.time()
    print_table(
        [Column("PATTERN", cuts=True), Column("USD PER MILLION TOKENS", wraps=True), Column("SET", may_go=True)],
        [[price.pattern, _rates(price.rates), ago(price.create_time, now=now)] for price in found],
    )  # fmt: skip


@prices.command("delete")
@click.argument("pattern")
@store_options
def delete_price(pattern: str, store: str | None, db: str | None) -> None:
    """Price by the list again what PATTERN names.

    \b
    Example:
      leyden costs prices delete 'ollama/*'
    """
    with connected(store, db) as client:
        client.delete_price(pattern)
    click.echo(f"Deleted the price of {one_line(pattern)}.")


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
