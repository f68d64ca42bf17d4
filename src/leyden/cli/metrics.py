"""`leyden metrics`: how much, how often, how long, at what cost, and how that went over time."""

import time
from typing import Any

import click

from leyden.cli.safe_text import print_json
from leyden.cli.screen import Column, print_table
from leyden.cli.session import connected, store_options
from leyden.cli.units import count, day, duration, since
from leyden.sdk.calls.metrics import Chart, ChartGroup, Measured

DIMENSIONS = ["agent", "provider", "model", "tool", "kind", "status"]
# What most people mean by "by model": its calls, not everything else that ran meanwhile.
MEANT = {"model": ["llm", "embedding"], "provider": ["llm", "embedding"], "tool": ["tool"]}
BARS = "▁▂▃▄▅▆▇█"
BARS_SHOWN = 20


@click.command("metrics")
@click.option(
    "--by", "by", type=click.Choice(DIMENSIONS), default="agent", show_default=True, help="Group by."
)
@click.option(
    "--since",
    "since_text",
    metavar="WHEN",
    default="30d",
    show_default=True,
    help="From: 12h, 7d, 2026-03-14.",
)
@click.option("--until", "until_text", metavar="WHEN", help="Up to; default now.")
@click.option(
    "--step",
    type=click.Choice(["auto", "hour", "day"]),
    default="auto",
    show_default=True,
    help="Of the bars.",
)
@click.option("--agent", multiple=True, help="Only this agent; may be repeated.")
@click.option("--model", multiple=True, help="Only this model.")
@click.option("--tool", multiple=True, help="Only this tool.")
@click.option("--kind", multiple=True, help="Only spans of this kind; by model, provider or tool: its calls.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many groups.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    by: Any, since_text: str, until_text: str | None, step: Any, agent: tuple[str, ...], model: tuple[str, ...],
    tool: tuple[str, ...], kind: tuple[str, ...], limit: int, store: str | None, db: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show spans, errors, latency, tokens and cost per agent, model or tool.

    The bars are spans per day, or per hour when they begin at most three days ago. A cost marked + leaves out calls without a price.

    \b
    Examples:
      leyden metrics --since 30d --by model
      leyden metrics --since 12h --by tool --agent support-agent
    """
    now = time.time()
    kinds = list(kind) or MEANT.get(by, [])
    given = {"agent": list(agent), "model": list(model), "tool": list(tool), "kind": kinds}
    with connected(store, db) as client:
        chart = client.chart(
            since=since(since_text, now=now), until=since(until_text, now=now), step=step, by=[by],
            where={name: values for name, values in given.items() if values}, limit=limit,
        )  # fmt: skip
    if as_json:
        print_json(chart.model_dump(mode="json"))
        return
    if not chart.groups:
        click.echo("No spans match.")
        return
    rows = [_row(next(iter(group.by.values())), group.total, bars(group, chart)) for group in chart.groups]
    if len(rows) > 1:
        rows.append(_row("all", chart.total, ""))
    print_table(_columns(by), rows)
    unit = "hour" if chart.step_s == 3600 else "day"
    click.echo(f"\n{day(chart.since)} to {day(chart.until - 1)}; a bar is spans per {unit}.")


def _columns(by: str) -> list[Column]:
    return [
        Column(by.upper(), cuts=True),
        Column("SPANS", number=True),
        Column("ERRORS", number=True),
        Column("P50", number=True),
        Column("P95", number=True),
        Column("TOKENS", number=True, may_go=True),
        Column("COST", number=True),
        Column("OVER TIME", may_go=True),
    ]


def _row(name: str | None, total: Measured, shape: str) -> list[str]:
    tokens = (total.input_tokens or 0) + (total.output_tokens or 0)
    return [
        "(others)" if name is None else name or "(none)",
        count(total.spans),
        f"{total.error_rate:.1%}" if total.error_rate else "",
        duration(total.p50_s),
        duration(total.p95_s),
        count(tokens) if tokens else "",
        _cost(total),
        shape,
    ]


def _cost(total: Measured) -> str:
    if total.cost_usd is None:
        return ""
    return f"${total.cost_usd:,.2f}{'+' if (total.priced_share or 0) < 1 else ''}"


def bars(group: ChartGroup, chart: Chart) -> str:
    """Spans over time as small bars, at most 20; a step without spans is a space, and neighbours share a bar when there are more."""
    steps = (chart.until - chart.since) // chart.step_s
    width = min(steps, BARS_SHOWN)
    sums = [0] * width
    for point in group.points:
        sums[(point.time - chart.since) // chart.step_s * width // steps] += point.spans or 0
    most = max(sums, default=0)
    return "".join(BARS[(n * len(BARS) - 1) // most] if n else " " for n in sums).rstrip()
