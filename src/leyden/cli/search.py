"""`leyden search`: find spans by what they say."""

import time
from typing import Any, get_args

import click
from rich.text import Text

from leyden.cli.main import Worded
from leyden.cli.safe_text import inline, one_line, print_json
from leyden.cli.screen import on_terminal, screen
from leyden.cli.session import connected, store_options
from leyden.cli.units import ago, many, moment, short_ids, since
from leyden.sdk.calls.search import SearchHit, SearchPage, SnippetPiece
from leyden.sdk.client import Client
from leyden.types import SpanKind

_MATCH = "bold yellow"
_INDENT = "    "
# Rollouts that ended just now are indexed within moments; this long a command on a file of its own waits for that.
_WAIT_S, _LOOK_S = 30.0, 0.1


@click.command("search", cls=Worded)
@click.argument("words", nargs=-1, required=True, metavar="QUERY…")
@click.option("--agent", help="Only spans of this agent.")
@click.option("--model", help="Only calls of this model.")
@click.option("--tool", help="Only calls of this tool.")
@click.option("--kind", type=click.Choice(get_args(SpanKind)), help="Only spans of this kind.")
@click.option("--status", type=click.Choice(["unset", "ok", "error"]), help="Only spans with this status.")
@click.option("--mode", type=click.Choice(["train", "val", "test"]), help="Only rollouts of this mode.")
@click.option("--rollout", metavar="ID", help="Only this rollout; its whole id.")
@click.option("--min-reward", type=float, help="Only rollouts rewarded with at least this.")
@click.option("--max-reward", type=float, help="Only rollouts rewarded with at most this.")
@click.option(
    "--since", "since_text", metavar="WHEN", help="Only spans that began after: 12h, 7d, 2026-03-14."
)
@click.option("--until", "until_text", metavar="WHEN", help="Only spans that began before.")
@click.option(
    "--filter",
    metavar="TEXT",
    help='Only spans that match, such as "cost>0.01 duration>30s": docs/how-to/filter.md.',
)
@click.option("--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="How many.")
@click.option("--cursor", help="Go on where a page ended.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    words: tuple[str, ...], since_text: str | None, until_text: str | None, rollout: str | None, store: str | None, db: str | None,
    as_json: bool, **filters: Any,
) -> None:  # fmt: skip
    """Find spans by what they say: messages, tool arguments and results, errors. Newest first.

    \b
    A query is made of
      refund approved    both words, in any order, in one text
      "was approved"     these words in a row
      refun*             words that begin so
      refund OR credit   one of the two
      -test -"dry run"   and not that (after --, or inside quotes for your shell)
    Case and accents do not matter. Rollouts are found once they ended.

    \b
    Examples:
      leyden search "connection refused" --agent router --since 7d
      leyden search "refun* OR credit" --status error
      leyden search refund --max-reward 0 --json
    """
    now = time.time()
    filters |= {
        "since": since(since_text, now=now),
        "until": since(until_text, now=now),
        "rollout_id": rollout,
    }
    with connected(store, db) as client:
        page = _search(client, _query(words), filters)
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    _print(page, now)


def _query(words: tuple[str, ...]) -> str:
    """The query as it was meant: what the shell took as one argument with spaces in it was in quotes there, so it is a phrase.

    An argument with quotes of its own, or with more than words, says itself what it means.
    """
    return " ".join(f'"{word}"' if " " in word.strip() and _is_plain(word) else word for word in words)


def _is_plain(words: str) -> bool:
    parts = words.split()
    return '"' not in words and "OR" not in parts and not any(p[0] == "-" or p[-1] == "*" for p in parts)


def _search(client: Client, query: str, filters: dict[str, Any]) -> SearchPage:
    """Ask; in a database of our own, once what ended just now is packed and indexed."""
    page = client.search(query, **filters)
    if page.waiting and client.wire.in_process:
        client.pack()
    least, until = page.waiting, time.monotonic() + _WAIT_S
    while page.waiting and client.wire.in_process and time.monotonic() < until:
        time.sleep(_LOOK_S)
        page = client.search(query, **filters)
        if page.waiting < least:
            least, until = page.waiting, time.monotonic() + _WAIT_S
    return page


def _print(page: SearchPage, now: float) -> None:
    person = on_terminal()
    ids = short_ids([hit.span.rollout_id for hit in page.items], at_least=15 if person else 10_000)
    for n, hit in enumerate(page.items):
        if n:
            click.echo()
        _print_hit(hit, ids[hit.span.rollout_id], person, now)
    if not page.items:
        click.echo("Nothing found." if page.complete else "Nothing found yet; there is more to look through.")
    if page.cursor and (person or not page.complete):
        click.echo(f"\nMore: the same with --cursor {page.cursor}")
    if page.waiting:
        click.echo(f"\n{many(page.waiting, 'rollout')} ended a moment ago and cannot be searched yet.")


def _print_hit(hit: SearchHit, rollout_id: str, person: bool, now: float) -> None:
    span = hit.span
    began = None if span.start_ns is None else span.start_ns / 1e9
    said = [span.kind, span.tool if span.kind == "tool" and span.tool else span.name]
    if span.agent and span.agent not in said[1]:
        said.append(f"of {span.agent}")
    if span.model and span.model not in said[1]:
        said.append(span.model)
    head = Text(one_line(" ".join(said)), style="bold")
    if span.status == "error":
        head.append("  error", style="red")
    head.append(f"  {ago(began, now=now) if person else moment(began)}".rstrip(), style="dim")
    if hit.rollout.reward is not None:
        head.append(f"  reward {hit.rollout.reward:.3g}", style="dim")
    lines = [head, *(_snippet(pieces) for pieces in hit.snippets)]
    lines.append(
        Text(f"{_INDENT}leyden show {one_line(rollout_id)} --span {one_line(span.span_id)}", style="dim")
    )
    console = screen()
    for line in lines:
        if not person:
            click.echo(line.plain)
        elif line is head or line is lines[-1]:
            console.print(
                line, no_wrap=True, overflow="ellipsis" if line is head else "ignore", crop=line is head
            )
        else:
            for part in line.wrap(console, console.width - len(_INDENT)):
                console.print(Text(_INDENT) + part)


def _snippet(pieces: list[SnippetPiece]) -> Text:
    line = Text("" if on_terminal() else _INDENT)
    for piece in pieces:
        line.append(inline(piece.text), style=_MATCH if piece.match else "")
    return line
