"""`leyden spans`: single steps of all runs, newest first."""

import time

import click

from leyden.cli.main import Worded
from leyden.cli.safe_text import print_json
from leyden.cli.screen import Column, on_terminal, print_table
from leyden.cli.session import connected, store_options
from leyden.cli.units import ago, count, duration, moment, of_total
from leyden.types import SpanSummary

COLUMNS = [
    Column("STARTED"),
    Column("KIND"),
    Column("NAME", cuts=True),
    Column("STATUS"),
    Column("TOOK", number=True, may_go=True),
    Column("TOKENS", number=True, may_go=True),
    Column("COST", number=True, may_go=True),
    Column("ROLLOUT", cuts=True),
    Column("AGENT", cuts=True, may_go=True),
    Column("SPAN", may_go=True),
]


@click.command("spans", cls=Worded)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]…")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Go on behind a page: `next_cursor` of its --json.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    filter_words: tuple[str, ...],
    limit: int,
    cursor: str | None,
    store: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """List spans of all rollouts, newest first. FILTER says which: docs/how-to/filter.md has its fields.

    \b
    Examples:
      leyden spans 'agent:router status:error since:7d'
      leyden spans 'tool:search* duration>2s' --limit 100 --json
    """
    now = time.time()
    with connected(store, db) as client:
        page = client.find_spans(" ".join(filter_words) or None, limit=limit, cursor=cursor)
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    if not page.items:
        click.echo("No spans match." if filter_words else "No spans yet. `leyden up` says how to send some.")
        return
    person = on_terminal()
    print_table(COLUMNS, [_row(item, person, now) for item in page.items])
    if person and page.next_cursor:
        click.echo(f"\n{len(page.items)} of {of_total(page, 'span')}; --limit shows more.")


def _row(item: SpanSummary, person: bool, now: float) -> list[str]:
    started = None if item.start_ns is None else item.start_ns / 1e9
    took = None if item.start_ns is None or item.end_ns is None else (item.end_ns - item.start_ns) / 1e9
    spent = [tokens for tokens in (item.input_tokens, item.output_tokens) if tokens is not None]
    return [
        ago(started, now=now) if person else moment(started),
        item.kind,
        item.tool or item.name,
        item.status,
        duration(took),
        count(sum(spent)) if spent else "",
        "" if item.cost_usd is None else f"${item.cost_usd:.3g}",
        item.rollout_id,
        item.agent or "",
        item.span_id,
    ]
