"""A report for eyes: tables for a terminal, or Markdown.

Recorded text is shown as text: console markup, Markdown and terminal control characters in it have no effect.
"""

import re
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leyden.analysis.report import Report
from leyden.analysis.stats import CallStats
from leyden.types import Finding

_STYLE = {"high": "bold red", "medium": "yellow", "low": "dim"}
_ROWS = 12


def print_report(report: Report, console: Console, *, top: int = 10) -> None:
    """The whole report on a terminal: headline, the `top` findings, tools, agents, models, data problems, what next."""
    for number, line in enumerate(headline(report)):
        console.print(Text(line, style="" if number else "bold"))
    console.print()
    console.print(Text("What to fix first", style="bold underline"))
    print_findings(report.findings[:top], console)
    if len(report.findings) > top:
        console.print(Text(f"… and {len(report.findings) - top} more findings.", style="dim"))
    for title, stats, columns in _sections(report):
        console.print()
        console.print(Text(title, style="bold"))
        console.print(_table(stats, columns))
        if len(stats) > _ROWS:
            console.print(Text(f"… and {len(stats) - _ROWS} more.", style="dim"))
    if _sections(report):
        console.print(Text("\n? unknown   – none   ≥ some calls have no known price", style="dim"))
    if report.data_problems:
        console.print()
        console.print(Text("Problems in the data", style="bold"))
        for line in _problems(report):
            console.print(_hanging("·", line))
    for line in _next_steps(report):
        console.print()
        console.print(Text(line, style="cyan"))


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Findings with their counts and recommendation, in the order given."""
    if not findings:
        console.print(Text("Nothing to fix was found."))
        return
    for number, finding in enumerate(findings, 1):
        title = Text()
        title.append(f"{finding.severity.upper():<6} ", style=_STYLE[finding.severity])
        title.append(clean(finding.title), style="bold")
        console.print()
        console.print(_hanging(f"{number}.", title))
        console.print(_hanging("", Text(_impact(finding), style="dim")))
        console.print(_hanging("→", Text(clean(finding.recommendation))))
        if finding.evidence:
            console.print(
                _hanging("", Text(f"leyden show {clean(finding.evidence[0].rollout_id)}", style="cyan"))
            )


def to_markdown(report: Report) -> str:
    """The whole report as Markdown, every finding included."""
    lines = [
        "# What the runs say",
        "",
        *(f"- {_md(line)}" for line in headline(report)),
        "",
        "## What to fix first",
        "",
    ]
    if not report.findings:
        lines += ["Nothing to fix was found.", ""]
    for number, finding in enumerate(report.findings, 1):
        lines += [
            f"{number}. **{finding.severity}**: {_md(finding.title)}  ",
            f"   {_md(_impact(finding))}  ",
        ]
        lines += [f"   → {_md(finding.recommendation)}  "]
        if finding.evidence:
            lines += [f"   Evidence: {', '.join(_md_code(e.rollout_id) for e in finding.evidence[:3])}"]
        lines += [""]
    for title, stats, columns in _sections(report):
        lines += [f"## {title}", "", "| " + " | ".join(name for name, _ in columns) + " |"]
        lines += ["|" + "|".join("---" if i == 0 else "---:" for i in range(len(columns))) + "|"]
        lines += ["| " + " | ".join(_md(cell(row)) for _, cell in columns) + " |" for row in stats]
        lines += [""]
    if report.data_problems:
        lines += ["## Problems in the data", "", *(f"- {_md(line)}" for line in _problems(report)), ""]
    if next_steps := _next_steps(report):
        lines += [_md(line) for line in next_steps] + [""]
    return "\n".join(lines)


def headline(report: Report) -> list[str]:
    """The report in two or three sentences of figures."""
    totals = report.totals
    first = f"{_count(totals.runs, 'run')}, {totals.failed} failed"
    if totals.runs and totals.failed:
        first += f" ({totals.failed / totals.runs:.0%})"
    if totals.mean_reward is not None:
        first += f", mean reward {totals.mean_reward:.2f}"
        first += f" over {totals.scored:,} scored" if totals.scored < totals.runs else ""
    cost = "cost unknown"
    if totals.cost_usd is not None:
        cost = _usd(totals.cost_usd)
        if totals.priced_calls < totals.model_calls:
            cost = f"at least {cost} ({totals.priced_calls:,} of {totals.model_calls:,} calls priced)"
    tokens = "tokens unknown"
    if totals.input_tokens is not None or totals.output_tokens is not None:
        tokens = f"{totals.input_tokens or 0:,} tokens in, {totals.output_tokens or 0:,} out"
    lines = [
        first,
        f"{_count(totals.spans, 'span')}, {_count(totals.errors, 'error')}, "
        f"{totals.tool_failures:,} of {_count(totals.tool_calls, 'tool call')} failed",
        f"{_count(totals.model_calls, 'model call')}, {tokens}, {cost}",
    ]
    if totals.failed_without_error:
        lines.append(
            f"{totals.failed_without_error} of the {totals.failed} failed runs show no error: tool errors do not explain them"
        )
    return lines


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
_P50: _Column = ("p50", lambda s: _seconds(s.latency_p50_s))
_P95: _Column = ("p95", lambda s: _seconds(s.latency_p95_s))
_IN: _Column = ("tok in", lambda s: _short_count(s.input_tokens))
_OUT: _Column = ("tok out", lambda s: _short_count(s.output_tokens))
_TOKENS: _Column = ("tokens", lambda s: _short_count(_tokens(s)))
_COST: _Column = ("cost", lambda s: _lower_bound(s))
_TOOL_CALLS: _Column = ("tool calls", lambda s: f"{s.tool_calls:,}")
_TOOL_FAILED: _Column = ("failed", lambda s: f"{s.tool_failures:,}" if s.tool_failures else "–")


def _sections(report: Report) -> list[tuple[str, list[CallStats], list[_Column]]]:
    sections = [
        ("Tools", report.tools, [_NAME, _CALLS, _FAILED, _RATE, _RUNS, _P50, _P95]),
        ("Agents", report.agents, [_NAME, _RUNS, _TOOL_CALLS, _TOOL_FAILED, _P50, _P95, _TOKENS, _COST]),
        ("Models", report.models, [_NAME, _CALLS, _FAILED, _P50, _P95, _IN, _OUT, _COST]),
    ]
    return [section for section in sections if section[1]]


def _table(stats: Sequence[CallStats], columns: list[_Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, (name, _) in enumerate(columns):
        table.add_column(
            name,
            justify="right" if i else "left",
            overflow="ellipsis",
            no_wrap=True,
            min_width=None if i else 16,
        )
    for row in stats[:_ROWS]:
        style = "red" if row.failure_rate >= 0.5 else ""
        table.add_row(*(Text(cell(row)) for _, cell in columns), style=style)
    return table


def _hanging(mark: str, body: Text | str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=3, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark), body if isinstance(body, Text) else Text(body))
    return grid


def _impact(finding: Finding) -> str:
    impact = finding.impact
    parts = [f"{impact.occurrences:,}× in {_count(impact.runs, 'run')}"]
    if impact.failed_runs:
        parts[0] += f", {impact.failed_runs:,} of them failed"
    if impact.time_s >= 0.05:
        parts.append(f"{_seconds(impact.time_s)} spent")
    if impact.tokens:
        parts.append(f"{_short_count(impact.tokens)} tokens")
    if impact.cost_usd is not None:
        parts.append(_usd(impact.cost_usd))
    if finding.agent:
        parts.append(f"agent {clean(finding.agent)}")
    return " · ".join(parts)


def _problems(report: Report) -> list[str]:
    return [
        f"{problem.count:,} {problem.message}"
        + (f" (such as {clean(problem.examples[0].rollout_id)})" if problem.examples else "")
        for problem in report.data_problems
    ]


def _next_steps(report: Report) -> list[str]:
    with_evidence = [f for f in report.findings if f.evidence]
    if not report.totals.runs:
        return ["No run was read: nothing can be said yet."]
    if not with_evidence:
        return []
    return [f"Where to look next: leyden show {clean(with_evidence[0].evidence[0].rollout_id)}"]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def _short_count(n: int | None) -> str:
    if n is None:
        return "?"
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if n >= size:
            return f"{n / size:.0f}{unit}" if n >= 100 * size else f"{n / size:.1f}{unit}"
    return str(n)


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    if value < 1:
        return f"{value * 1000:.0f}ms" if value >= 0.0095 else f"{value * 1000:.1f}ms"
    if value < 60:
        return f"{value:.1f}s"
    return f"{value / 60:.1f}min" if value < 3600 else f"{value / 3600:.1f}h"


def _tokens(stats: CallStats) -> int | None:
    if stats.input_tokens is None and stats.output_tokens is None:
        return None
    return (stats.input_tokens or 0) + (stats.output_tokens or 0)


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.4f}"


def _lower_bound(stats: CallStats) -> str:
    if stats.cost_usd is None:
        return "?" if stats.model_calls else "–"
    return ("≥" if stats.priced_calls < stats.model_calls else "") + _usd(stats.cost_usd)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", clean(text))


def _md_code(text: str) -> str:
    return "`" + clean(text).replace("`", "'") + "`"
