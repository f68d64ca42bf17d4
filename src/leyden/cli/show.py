"""`leyden show`: one rollout as a tree of spans, or one span in full."""

import json
import re
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from leyden.cli.safe_text import many_lines, one_line, print_json
from leyden.cli.screen import pairs, screen
from leyden.cli.session import connected, find_rollout, only, store_options
from leyden.cli.tree import Branch, branches
from leyden.cli.units import ago, count, duration, many, moment
from leyden.errors import NotFound
from leyden.sdk.calls.rollouts import RolloutDetail
from leyden.sdk.client import Client
from leyden.types import Attempt, Span, SpanSummary

_KIND_STYLES = {"llm": "magenta", "tool": "cyan", "agent": "blue", "reward": "green"}
# Columns right of the tree: duration, then tokens in → out.
_TIME, _TOKENS = 9, 14
_PREVIEW_CHARS = 8  # less says nothing
# A model that answers with tool calls: their names tell more than the start of their JSON.
_TOOL_CALLS = re.compile(r'\[\{"type":\s*"tool_call"')
_CALLED = re.compile(r'"name":\s*"([^"]{1,100})"')
_PIPE_WIDTH = 100
_INPUT_CHARS = 300


@click.command("show")
@click.argument("rollout")
@click.option("--attempt", metavar="N|ID", help="Which attempt: its number or id.  [default: the latest]")
@click.option("--span", metavar="ID", help="One span with everything recorded in it.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    rollout: str, attempt: str | None, span: str | None, store: str | None, db: str | None, as_json: bool
) -> None:
    """Show one rollout as a tree of spans, or one of its spans in full. The beginning of an id is enough.

    \b
    Examples:
      leyden show ro-5f2c81
      leyden show ro-5f2c81 --attempt 1
      leyden show ro-5f2c81 --span 00f067aa
    """
    with connected(store, db) as client:
        detail = client.rollout_detail(find_rollout(client, rollout))
        if span is not None:
            found = _find_span(client, detail, span, attempt)
            print_json(found.model_dump(mode="json")) if as_json else _print_span(found)
            return
        chosen = _choose(detail, attempt)
        spans = client.span_summaries(
            detail.rollout_id, attempt_id=chosen.attempt_id if chosen else None
        ).items
    if as_json:
        print_json(detail.model_dump(mode="json") | {"spans": [_plain(s) for s in spans]})
        return
    _print_rollout(detail, chosen)
    click.echo()
    if not spans:
        click.echo("No spans.")
    _print_tree(branches(spans))


def _plain(span: SpanSummary) -> dict[str, Any]:
    return {name: getattr(span, name) for name in SpanSummary.__slots__}


def _choose(detail: RolloutDetail, given: str | None) -> Attempt | None:
    attempts = detail.attempt_list
    if given is None or given == "latest":
        return attempts[-1] if attempts else None
    for attempt in attempts:
        if given == str(attempt.sequence_id):
            return attempt
    ids = [a.attempt_id for a in attempts if a.attempt_id.startswith(given)]
    look = f"it has {many(len(attempts), 'attempt')}, numbered from 1"
    found = only(ids, given, noun="attempt", look=look)
    return next(a for a in attempts if a.attempt_id == found)


# ── The rollout ──────────────────────────────────────────────────────────────────────────────────────────────────


def _print_rollout(detail: RolloutDetail, chosen: Attempt | None) -> None:
    tokens = [
        f"{count(n)} tokens {way}"
        for n, way in ((detail.input_tokens, "in"), (detail.output_tokens, "out"))
        if n
    ]
    errors = [many(detail.errors, "error")] if detail.errors else []
    rows = [
        ("rollout", detail.rollout_id),
        ("status", detail.status.value + (f": {detail.failure_reason}" if detail.failure_reason else "")),
        ("started", f"{moment(detail.start_time)} ({ago(detail.start_time, now=time.time())})"),
        ("took", duration(detail.duration_s) if detail.duration_s and detail.duration_s > 0 else ""),
        ("holds", ", ".join([many(detail.spans, "span"), *errors, *tokens])),
        ("reward", "" if detail.reward is None else f"{detail.reward:g}"),
        ("mode", detail.mode or ""),
        ("agent", detail.agent or ""),
        ("source", detail.source or ""),
        ("input", _short(detail.input)),
        *(("attempt", _attempt(a, a is chosen)) for a in detail.attempt_list if len(detail.attempt_list) > 1),
    ]
    pairs([(name, value) for name, value in rows if value])


def _short(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _INPUT_CHARS else f"{text[:_INPUT_CHARS]}…"


def _attempt(attempt: Attempt, shown: bool) -> str:
    took = duration(attempt.end_time - attempt.start_time) if attempt.end_time is not None else ""
    reason = f": {attempt.failure_reason}" if attempt.failure_reason else ""
    words = (str(attempt.sequence_id), attempt.attempt_id, attempt.status.value + reason, took)
    return " ".join(filter(None, words)) + (" (shown)" if shown else "")


# ── The tree ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _print_tree(tree: Iterable[Branch]) -> None:
    console = screen()
    width = console.width if console.is_terminal else _PIPE_WIDTH
    lines = (line for branch in tree for line in _lines(branch, width, cut=console.is_terminal))
    while some := list(islice(lines, 500)):
        _print_lines(console, some)


def _print_lines(console: Console, lines: list[Text]) -> None:
    if console.is_terminal:
        console.print(Text("\n").join(lines), no_wrap=True, overflow="ellipsis")
    else:
        click.echo("\n".join(line.plain.rstrip() for line in lines))


def _lines(branch: Branch, width: int, *, cut: bool) -> Iterable[Text]:
    span = branch.span
    if span is None:
        yield Text(f"⚠ {branch.note}", style="yellow")
        return
    room = max(20, width - _TIME - _TOKENS)
    left = Text()
    left.append(branch.lead, style="dim")
    left.append(span.kind, style=_KIND_STYLES.get(span.kind, "dim"))
    left.append(f" {_name(span)}")
    if cut:
        left.truncate(room, overflow="ellipsis")
    _add_preview(left, span, room)
    left.pad_right(max(0, room - left.cell_len))
    left.append(duration(_seconds(span)).rjust(_TIME))
    left.append(_tokens(span).rjust(_TOKENS), style="dim")
    left.rstrip()
    yield left
    if span.status == "error" or span.error_type:  # some tools report an error in what they return
        line = Text()
        line.append(f"{branch.below}   ", style="dim")
        line.append(
            f"✗ {one_line(': '.join(filter(None, (span.error_type, span.error_message)))) or 'failed'}",
            style="red",
        )
        if cut:
            line.truncate(width, overflow="ellipsis")
        yield line


def _add_preview(left: Text, span: SpanSummary, room: int) -> None:
    """What a tool was asked and what a model said, in the room that is left; never more than that."""
    said = one_line((span.input_preview if span.kind == "tool" else span.output_preview) or "")
    free = room - left.cell_len - 1
    if not said or free < _PREVIEW_CHARS:
        return
    if called := _TOOL_CALLS.match(said) and _CALLED.findall(said):
        said = f"→ {', '.join(called)}"
    preview = Text(f"  {said}", style="dim")
    preview.truncate(free, overflow="ellipsis")
    left.append_text(preview)


def _name(span: SpanSummary) -> str:
    name = span.tool if span.kind == "tool" and span.tool else span.name
    if span.kind == "agent" and span.agent and span.agent not in name:
        name = f"{name} {span.agent}"
    if span.kind == "llm" and span.model and span.model not in name:
        name = f"{name} {span.model}"
    return one_line(name)


def _seconds(span: SpanSummary) -> float | None:
    return None if span.start_ns is None or span.end_ns is None else (span.end_ns - span.start_ns) / 1e9


def _tokens(span: SpanSummary) -> str:
    if span.input_tokens is None and span.output_tokens is None:
        return ""
    return f"{count(span.input_tokens) or '?'} → {count(span.output_tokens) or '?'}"


# ── One span ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _find_span(client: Client, detail: RolloutDetail, given: str, attempt: str | None) -> Span:
    chosen = _choose(detail, attempt) if attempt else None
    spans = client.span_summaries(detail.rollout_id, attempt_id=chosen.attempt_id if chosen else None).items
    ids = list(dict.fromkeys(s.span_id for s in spans if s.span_id.startswith(given)))
    found = only(ids, given, noun="span", look=f"`leyden show {detail.rollout_id} --json` lists them")
    places = [s for s in spans if s.span_id == found]
    if not places:
        raise NotFound(f"No span is {given!r}")
    # Attempts may repeat an id: the latest is meant.
    return client.span(detail.rollout_id, places[-1].attempt_id, found)


def _print_span(span: Span) -> None:
    status = span.status.status_code + (f": {span.status.description}" if span.status.description else "")
    took = None if span.start_time is None or span.end_time is None else span.end_time - span.start_time
    rows = [
        ("span", span.span_id),
        ("name", span.name),
        ("status", status),
        ("started", moment(span.start_time)),
        ("took", duration(took)),
        ("parent", span.parent_id or ""),
        ("trace", span.trace_id),
        ("rollout", span.rollout_id),
        ("attempt", span.attempt_id),
    ]
    pairs([(name, value) for name, value in rows if value])
    _print_attributes("attributes", span.attributes)
    for event in span.events:
        _print_attributes(
            f"event {one_line(event.name)} {moment(event.timestamp)}".rstrip(), event.attributes
        )
    for link in span.links:
        _print_attributes(f"link to span {one_line(link.context.span_id)}", link.attributes or {})
    _print_attributes("resource", span.resource.attributes)


def _print_attributes(title: str, attributes: dict[str, Any]) -> None:
    if not attributes:
        return
    click.echo()
    click.secho(title, bold=True)
    for name, value in attributes.items():
        text = _readable(value)
        if "\n" in text:
            click.echo(f"  {one_line(name)}:")
            click.echo("\n".join(f"    {line}" for line in text.splitlines()))
        else:
            click.echo(f"  {one_line(name)}: {text}")


def _readable(value: Any) -> str:
    """A value as people read it: JSON inside a string is laid out."""
    if isinstance(value, str):
        if value[:1] not in ("{", "["):
            return many_lines(value)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return many_lines(value)
    return many_lines(json.dumps(value, indent=2, ensure_ascii=False))
