"""`leyden findings`: what is worth fixing, and what people decided about it."""

from typing import Any

import click

from leyden.cli.safe_text import one_line, print_json
from leyden.cli.screen import Column, on_terminal, pairs, print_table, say
from leyden.cli.session import connected, only, store_options
from leyden.cli.units import count, duration, many, moment, money, short_ids
from leyden.sdk.client import Client
from leyden.types import Finding, FindingStatus

COLUMNS = [
    Column("FINDING"),
    Column("SEVERITY"),
    Column("STATUS"),
    Column("RUNS", number=True),
    Column("WHAT", wraps=True),
]


@click.group("findings", invoke_without_command=True)
@click.option("--status", type=click.Choice(["open", "accepted", "fixed", "dismissed"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, status: Any, limit: int, store: str | None, db: str | None, as_json: bool
) -> None:
    """List findings, the weightiest first, and decide about them. `leyden analyze` makes them.

    FINGERPRINT names a finding; the beginning of it is enough.

    \b
    Examples:
      leyden findings --status open
      leyden findings show fi-3fa9
      leyden findings accept fi-3fa9
    """
    if ctx.invoked_subcommand:
        # `leyden findings --store URL accept …` means the same as with the option at the end.
        ctx.obj = (store, db)
        return
    with connected(store, db) as client:
        page = client.findings(status=status, limit=limit)
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    if not page.items:
        click.echo("No findings match." if status else "No findings. `leyden analyze` looks for some.")
        return
    names = short_ids([f.fingerprint for f in page.items], at_least=8 if on_terminal() else 10_000)
    print_table(COLUMNS, [_row(item, names[item.fingerprint]) for item in page.items])
    if on_terminal() and page.total > len(page.items):
        click.echo(f"\n{len(page.items)} of {many(page.total, 'finding')}; --limit shows more.")


def _row(item: Finding, name: str) -> list[str]:
    return [name, item.severity, item.status, count(item.impact.runs), item.title]


def _find(client: Client, given: str) -> str:
    ids = [f.fingerprint for f in client.findings(limit=-1).items if f.fingerprint.startswith(given)]
    return only(ids, given, noun="finding", look="`leyden findings` lists them")


@command.command("show")
@click.argument("fingerprint")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(outer: Any, fingerprint: str, store: str | None, db: str | None, as_json: bool) -> None:
    """Show one finding: impact, recommendation, and where to look.

    \b
    Example:
      leyden findings show fi-3fa9
    """
    with _connected(outer, store, db) as client:
        finding = client.finding(_find(client, fingerprint))
    if as_json:
        print_json(finding.model_dump(mode="json"))
        return
    impact = finding.impact
    rows = [
        ("finding", finding.fingerprint),
        ("what", finding.title),
        ("severity", finding.severity),
        ("status", finding.status),
        ("agent", finding.agent),
        ("tool", finding.tool),
        ("error", " ".join(filter(None, (finding.error_type, finding.error_message)))),
        ("happened", f"{impact.occurrences:,} times in {many(impact.runs, 'run')}, {impact.failed_runs:,} of them failed"),
        ("time lost", duration(impact.time_s) if impact.time_s else None),
        ("tokens lost", f"{impact.tokens:,}" if impact.tokens else None),
        ("cost", money(impact.cost_usd) if impact.cost_usd else None),
        ("first seen", moment(finding.first_seen)),
        ("last seen", moment(finding.last_seen)),
    ]  # fmt: skip
    pairs([(name, value) for name, value in rows if value])
    click.echo()
    say(f"To do: {finding.recommendation}")
    if finding.evidence:
        click.echo("\nLook at:")
    for place in finding.evidence[:5]:
        click.echo(
            f"  leyden show {one_line(place.rollout_id)}"
            + (f" --span {one_line(place.span_id)}" if place.span_id else "")
        )


def _connected(outer: Any, store: str | None, db: str | None) -> Any:
    outer_store, outer_db = outer or (None, None)
    return connected(*((store, db) if store or db else (outer_store, outer_db)))


def _decision(name: str, status: FindingStatus, doc: str) -> None:
    @command.command(name, help=f"{doc}\n\n\b\nExample:\n  leyden findings {name} fi-3fa9")
    @click.argument("fingerprints", nargs=-1, required=True, metavar="FINGERPRINT…")
    @store_options
    @click.pass_obj
    def decide(outer: Any, fingerprints: tuple[str, ...], store: str | None, db: str | None) -> None:
        with _connected(outer, store, db) as client:
            for given in fingerprints:
                finding = client.set_finding_status(_find(client, given), status)
                click.echo(f"{finding.fingerprint} is {finding.status}: {one_line(finding.title)}")

    del decide


_decision("accept", "accepted", "Say that somebody will fix it.")
_decision("fix", "fixed", "Say that it is fixed; it opens again when it comes back.")
_decision("dismiss", "dismissed", "Say that it is not worth fixing.")
_decision("reopen", "open", "Take a decision back.")
