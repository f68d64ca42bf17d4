"""A report for eyes: tables for a terminal, or Markdown.

Recorded text is shown as text: console markup, Markdown and terminal control characters in it have no effect.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from leyden.analysis.report import Report
from leyden.analysis.stats import UNKNOWN_MODEL, CallStats
from leyden.cli.screen import Column, fit
from leyden.cli.units import count, duration, many, money
from leyden.types import Finding, Impact

_STYLE = {"high": "bold red", "medium": "yellow", "low": "dim"}
_ROWS = 12
_NO_RUNS = "No run was read: nothing can be said yet."


def print_report(
    report: Report,
    console: Console,
    *,
    top: int = 5,
    command: str = "leyden",
    place: str = "",
    saved: bool = True,
) -> None:
    """The whole report: figures, the first thing to do, the `top` findings, tools, agents, models, data problems, what next.

    command, place: how the reader calls `leyden` and names this store ("--store URL"), for the commands to copy.
    saved: the findings were kept, so that `leyden findings` lists them.
    """
    look = _Look(command, place)
    for number, line in enumerate(headline(report)):
        _print(console, Text(line, style="" if number else "bold"))
    if first := to_do(report):
        console.print()
        _hang(console, "→", Text(f"Do first: {first}", style="bold"))
    console.print()
    if not report.totals.runs:
        _print(console, Text(_NO_RUNS))
        return
    console.print(Text("What to fix first", style="bold underline"))
    print_findings(report.findings[:top], console, look=look)
    more = len(report.findings) - top
    if more > 0:
        console.print()
        _print(
            console,
            Text(
                f"… and {more} more: {look.at('findings' if saved else 'analyze --no-save --markdown')}",
                style="dim",
            ),
        )
    symbols = ""
    for section in _sections(report):
        console.print()
        console.print(Text(section.title, style="bold"))
        symbols += _print_table(section, console)
    if legend := [words for symbol, words in _LEGEND.items() if symbol in symbols]:
        console.print()
        _print(console, Text("   ".join(legend), style="dim"))
    if problems := _problems(report):
        console.print()
        console.print(Text("Problems in the data", style="bold"))
        for line in problems:
            _hang(console, "·", Text(line))
    steps = _next_steps(report, look)[: None if saved else 1]
    if steps:
        console.print()
        console.print(Text("Next", style="bold"))
    for typed, what in steps:
        _command(console, typed, what)


class _Look(NamedTuple):
    """How the reader calls `leyden` on the store that was analysed."""

    command: str = "leyden"
    place: str = ""

    def at(self, what: str) -> str:
        return " ".join(filter(None, (self.command, what, self.place)))


def print_findings(findings: Sequence[Finding], console: Console, *, look: _Look | None = None) -> None:
    """Findings with their counts and recommendation, in the order given."""
    if not findings:
        console.print(Text("Nothing to fix was found."))
        return
    for number, finding in enumerate(findings, 1):
        title = Text()
        title.append(f"{finding.severity.upper():<6} ", style=_STYLE[finding.severity])
        title.append(clean(finding.title), style="bold")
        console.print()
        _hang(console, f"{number}.", title)
        _hang(console, "", Text(_impact(finding), style="dim"))
        _hang(console, "→", Text(clean(finding.recommendation)))
        if finding.evidence:
            _command(console, (look or _Look()).at(f"show {clean(finding.evidence[0].rollout_id)}"))


def to_markdown(report: Report) -> str:
    """The whole report as Markdown, every finding included."""
    lines = ["# What the runs say", "", *(f"- {_md(line)}" for line in headline(report)), ""]
    if first := to_do(report):
        lines += [f"**Do first:** {_md(first)}", ""]
    if not report.totals.runs:
        return "\n".join([*lines, _NO_RUNS, ""])
    lines += ["## What to fix first", ""]
    if not report.findings:
        lines += ["Nothing to fix was found.", ""]
    for number, finding in enumerate(report.findings, 1):
        lines += [
            f"{number}. **{finding.severity}**: {_md(finding.title)}  ",
            f"   {_md(_impact(finding))}  ",
        ]
        lines += [f"   → {_md(finding.recommendation)}  "]
        if finding.evidence:
            rollouts = dict.fromkeys(e.rollout_id for e in finding.evidence)
            lines += [f"   Evidence: {', '.join(_md_code(each) for each in list(rollouts)[:3])}"]
        lines += [""]
    for title, stats, columns, notes in _sections(report):
        lines += [f"## {title}", "", "| " + " | ".join(name for name, _ in columns) + " |"]
        lines += ["|" + "|".join("---" if i == 0 else "---:" for i in range(len(columns))) + "|"]
        lines += ["| " + " | ".join(_md(cell(row)) for _, cell in columns) + " |" for row in stats]
        lines += ["", *(f"{_md(note)}\n" for note in notes)]
    if problems := _problems(report):
        lines += ["## Problems in the data", "", *(f"- {_md(line)}" for line in problems), ""]
    if steps := _next_steps(report, _Look()):
        lines += ["## Next", "", *(f"- {_md_code(typed)}: {_md(what)}" for typed, what in steps), ""]
    return "\n".join(lines)


def headline(report: Report) -> list[str]:
    """The report in two or three sentences of figures."""
    totals = report.totals
    first = f"{many(totals.runs, 'run')}, {totals.failed:,} failed"
    if totals.runs and totals.failed:
        first += f" ({totals.failed / totals.runs:.0%})"
    if totals.mean_reward is not None:
        first += f", mean reward {totals.mean_reward:.2f}"
        first += f" over {totals.scored:,} scored" if totals.scored < totals.runs else ""
    tools = "no tool calls"
    if totals.tool_calls:
        tools = f"{totals.tool_failures:,} of {many(totals.tool_calls, 'tool call')} failed"
    lines = [
        first,
        f"{many(totals.spans, 'span')}, {many(totals.errors, 'error')}, {tools}",
        _models_line(report),
    ]
    if totals.failed_without_error:
        lines.append(
            f"{totals.failed_without_error:,} of the {totals.failed:,} failed runs show no error: tool errors do not explain them"
            if totals.failed > 1
            else "The failed run shows no error: tool errors do not explain it"
        )
    return lines


def _models_line(report: Report) -> str:
    totals = report.totals
    if not totals.model_calls:
        return "no model calls"
    cost = "cost unknown"
    if totals.cost_usd is not None:
        cost = money(totals.cost_usd)
        if totals.priced_calls < totals.model_calls:
            cost = f"at least {cost} ({totals.priced_calls:,} of {totals.model_calls:,} calls priced)"
    tokens = "tokens unknown"
    if totals.input_tokens is not None or totals.output_tokens is not None:
        tokens = f"{totals.input_tokens or 0:,} tokens in, {totals.output_tokens or 0:,} out"
    return f"{many(totals.model_calls, 'model call')}, {tokens}, {cost}"


def to_do(report: Report) -> str:
    """What the first finding asks for, in one sentence; "" without a finding."""
    if not report.findings:
        return ""
    # Recommendations begin with the thing to do (analysis/recommend.py).
    return re.split(r"(?<=\.)\s", clean(report.findings[0].recommendation), maxsplit=1)[0]


def clean(text: str) -> str:
    """Recorded text on one line without control characters, so that it can neither move the cursor nor colour anything."""
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+", " ", text
    ).strip()


# ── Pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────

_Column = tuple[str, Callable[[CallStats], str]]

_NAME: _Column = ("name", lambda s: clean(s.name))
_CALLS: _Column = ("calls", lambda s: f"{s.calls:,}")
_FAILED: _Column = ("failed", lambda s: f"{s.failures:,}" if s.failures else "–")
_RATE: _Column = ("rate", lambda s: f"{s.failure_rate:.0%}" if s.failures else "–")
_RUNS: _Column = ("runs", lambda s: f"{s.runs:,}")
_P50: _Column = ("p50", lambda s: _latency(s, s.latency_p50_s))
_P95: _Column = ("p95", lambda s: _latency(s, s.latency_p95_s))
_IN: _Column = ("tok in", lambda s: count(s.input_tokens) or "?")
_OUT: _Column = ("tok out", lambda s: count(s.output_tokens) or "?")
_TOKENS: _Column = ("tokens", lambda s: count(_tokens(s)) or ("?" if s.model_calls else "–"))
_COST: _Column = ("cost", lambda s: _lower_bound(s))
_TOOL_CALLS: _Column = ("tool calls", lambda s: f"{s.tool_calls:,}" if s.tool_calls else "–")
_TOOL_FAILED: _Column = ("failed", lambda s: f"{s.tool_failures:,}" if s.tool_failures else "–")

_LEGEND = {
    "?": "? not recorded",
    "–": "– none",
    "≥": "≥ at least: some calls have no known price",
}
_GAP = 3


class _Section(NamedTuple):
    title: str
    stats: list[CallStats]
    columns: list[_Column]
    notes: list[str]


def _sections(report: Report) -> list[_Section]:
    """The tables that have rows; a column that says nothing in any of them is left out."""
    unnamed = f"{UNKNOWN_MODEL}: these calls do not say which model answered (gen_ai.request.model)"
    notes = [unnamed] if any(model.name == UNKNOWN_MODEL for model in report.models) else []
    sections = [
        _Section("Tools", report.tools, [_NAME, _CALLS, _FAILED, _RATE, _RUNS, _P50, _P95], []),
        _Section(
            "Agents", report.agents, [_NAME, _RUNS, _TOOL_CALLS, _TOOL_FAILED, _P50, _P95, _TOKENS, _COST], []
        ),
        _Section("Models", report.models, [_NAME, _CALLS, _FAILED, _P50, _P95, _IN, _OUT, _COST], notes),
    ]
    return [s._replace(columns=_telling(s.stats, s.columns)) for s in sections if s.stats]


def _telling(stats: Sequence[CallStats], columns: list[_Column]) -> list[_Column]:
    return [c for c in columns if c in (_FAILED, _TOOL_FAILED) or {c[1](row) for row in stats} - {"?", "–"}]


def _print_table(section: _Section, console: Console) -> str:
    """Print a table that fits: names give way, then the columns on the right. Returns the symbols it shows."""
    rows = [[Text(cell(row)) for _, cell in section.columns] for row in section.stats[:_ROWS]]
    titles = [name for name, _ in section.columns]
    wanted = [max(len(title), *(row[i].cell_len for row in rows)) for i, title in enumerate(titles)]
    columns = [Column(title, cuts=not i, may_go=bool(i)) for i, title in enumerate(titles)]
    widths = fit(columns, wanted, room=console.width - (_GAP - 2) * (len(titles) - 1))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    shown = [i for i, width in enumerate(widths) if width]
    for i in shown:
        justify = "right" if i else "left"
        table.add_column(titles[i], justify=justify, overflow="ellipsis", no_wrap=True, width=widths[i])
    for row, stats in zip(rows, section.stats, strict=False):
        table.add_row(*(row[i] for i in shown), style="red" if stats.failure_rate >= 0.5 else "")
    console.print(table)
    if len(section.stats) > _ROWS:
        console.print(Text(f"… and {len(section.stats) - _ROWS} more.", style="dim"))
    for note in section.notes:
        _print(console, Text(note, style="dim"))
    return "".join(row[i].plain[:1] for row in rows for i in shown if i)


def _print(console: Console, text: Text) -> None:
    """One paragraph, broken at words, without blanks at the ends of lines."""
    _hang(console, None, text)


def _hang(console: Console, mark: str | None, body: Text) -> None:
    """A paragraph whose lines hang to the right of a mark of at most three characters."""
    lead = "" if mark is None else f"{mark:>3} "
    for line in body.wrap(console, max(20, console.width - len(lead))):
        line.rstrip()
        console.print(Text(lead) + line, overflow="ignore", no_wrap=True, crop=False)
        lead = " " * len(lead)


def _command(console: Console, typed: str, what: str = "") -> None:
    """A command to copy: never broken by us, so that what is copied is one line."""
    line = Text("    ")
    line.append(typed, style="cyan")
    if what and line.cell_len + 3 + len(what) <= console.width:
        line.append(f"   {what}", style="dim")
    console.print(line, soft_wrap=True)


def _impact(finding: Finding) -> str:
    impact = finding.impact
    if finding.kind == "failed_rollouts":
        parts = [many(impact.runs, "run")]
    elif finding.kind == "slow":
        parts = [f"{many(impact.occurrences, 'call')} in {many(impact.runs, 'run')}"]
    else:
        happened = "once" if impact.occurrences == 1 else f"{impact.occurrences:,}×"
        parts = [f"{happened} in {many(impact.runs, 'run')}{_of_them_failed(impact)}"]
    if impact.time_s >= 0.05:
        parts.append(f"{duration(impact.time_s)} spent")
    if impact.tokens:
        parts.append(f"{count(impact.tokens)} tokens")
    if impact.cost_usd is not None:
        parts.append(money(impact.cost_usd))
    if finding.agent:
        parts.append(f"agent {clean(finding.agent)}")
    return " · ".join(parts)


def _of_them_failed(impact: Impact) -> str:
    if not impact.failed_runs:
        return ""
    if impact.failed_runs == impact.runs:
        return ", which failed" if impact.runs == 1 else ", all of which failed"
    return f", {impact.failed_runs:,} of them failed"


def _problems(report: Report) -> list[str]:
    return [
        f"{problem.count:,} {problem.message}"
        + (f" (for example in {clean(problem.examples[0].rollout_id)})" if problem.examples else "")
        for problem in report.data_problems
    ]


def _next_steps(report: Report, look: _Look) -> list[tuple[str, str]]:
    """Commands to type next, each with what it does."""
    shown = [f.evidence[0].rollout_id for f in report.findings if f.evidence]
    if not shown:
        return [(look.at("rollouts"), "every run")]
    return [
        (look.at(f"show {clean(shown[0])}"), "a run of the first finding"),
        (look.at("findings"), "all findings; accept, fix or dismiss them"),
    ]


def _latency(stats: CallStats, value: float | None) -> str:
    # Over a few calls of many it would pass for the latency of all.
    return duration(value) if value is not None and stats.timed_calls * 2 >= stats.calls else "?"


def _tokens(stats: CallStats) -> int | None:
    if stats.input_tokens is None and stats.output_tokens is None:
        return None
    return (stats.input_tokens or 0) + (stats.output_tokens or 0)


def _lower_bound(stats: CallStats) -> str:
    if stats.cost_usd is None:
        return "?" if stats.model_calls else "–"
    return ("≥" if stats.priced_calls < stats.model_calls else "") + money(stats.cost_usd)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", clean(text))


def _md_code(text: str) -> str:
    return "`" + clean(text).replace("`", "'") + "`"
