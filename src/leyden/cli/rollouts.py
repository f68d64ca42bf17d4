"""`leyden rollouts`: what was run, newest first."""

import time
from typing import Any

import click

from leyden.cli.main import Worded
from leyden.cli.safe_text import print_json
from leyden.cli.screen import Column, on_terminal, print_table
from leyden.cli.session import connected, store_options
from leyden.cli.units import ago, count, duration, moment, of_total, short_ids, since
from leyden.sdk.calls.rollouts import RolloutSummary
from leyden.types import RolloutStatus

COLUMNS = [
    Column("ROLLOUT"),
    Column("STATUS"),
    Column("STARTED", may_go=True),
    Column("TOOK", number=True, may_go=True),
    Column("SPANS", number=True),
    Column("ERRORS", number=True),
    Column("REWARD", number=True),
    Column("AGENT", cuts=True, may_go=True),
]


@click.command("rollouts", cls=Worded)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]…")
@click.option("--status", type=click.Choice([s.value for s in RolloutStatus]), help="Only these.")
@click.option("--mode", type=click.Choice(["train", "val", "test"]), help="Only these.")
@click.option("--agent", help="Only those of this agent.")
@click.option(
    "--since", "since_text", metavar="WHEN", help="Only those that began after: 12h, 7d, 2026-03-14."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    filter_words: tuple[str, ...], status: str | None, mode: Any, agent: str | None, since_text: str | None, limit: int,
    store: str | None, db: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List rollouts, newest first. FILTER says which: docs/how-to/filter.md has its fields.

    \b
    Examples:
      leyden rollouts --status failed --since 7d
      leyden rollouts 'status:failed reward<0.5 since:7d'
      leyden rollouts --agent support-agent --limit 100 --json
    """
    now = time.time()
    with connected(store, db) as client:
        page = client.list_rollouts(
            " ".join(filter_words) or None,
            status=status,
            mode=mode,
            agent=agent,
            since=since(since_text, now=now),
            limit=limit,
        )
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    if not page.items:
        filtered = any((filter_words, status, mode, agent, since_text))
        click.echo(
            "No rollouts match." if filtered else "No rollouts yet. `leyden up` says how to send some."
        )
        return
    person = on_terminal()
    ids = short_ids([item.rollout_id for item in page.items], at_least=15 if person else 10_000)
    print_table(COLUMNS, [_row(item, ids[item.rollout_id], person, now) for item in page.items])
    if person and page.total > len(page.items):
        click.echo(f"\n{len(page.items)} of {of_total(page, 'rollout')}; --limit shows more.")


def _row(item: RolloutSummary, name: str, person: bool, now: float) -> list[str]:
    return [
        name,
        item.status.value,
        ago(item.start_time, now=now) if person else moment(item.start_time),
        duration(item.duration_s) if item.duration_s and item.duration_s > 0 else "",
        count(item.spans),
        count(item.errors),
        "" if item.reward is None else f"{item.reward:.3g}",
        item.agent or "",
    ]
