"""`leyden metrics` on the terminal and as JSON."""

from collections.abc import Callable
from typing import Any

from cli.runs import failed_tool, run, span

Leyden = Callable[..., Any]
SINCE = ("--since", "2027-01-01", "--until", "2027-03-01")


def test_metrics_shows_a_line_per_agent_tool_or_model(leyden: Leyden, stored: Callable[..., None]) -> None:
    stored(run("ro-1", span("ro-1", "a1", name="answer"), failed_tool("ro-1", "a2", "a1")))
    head, *rows = leyden("metrics", "--by", "tool", *SINCE).out.splitlines()
    assert head.split() == ["TOOL", "SPANS", "ERRORS", "P50", "P95", "TOKENS", "COST", "OVER", "TIME"]
    assert rows[0].split()[1:3] == ["1", "100.0%"]
    assert rows[-1].endswith("a bar is spans per day.")
    assert all(len(row) <= 80 for row in rows)
    chart = leyden("metrics", "--by", "kind", "--json", *SINCE).json
    assert chart["total"]["spans"] == 2


def test_metrics_without_spans_says_so(leyden: Leyden, stored: Callable[..., None]) -> None:
    stored(run("ro-1", span("ro-1", "a1", name="answer")))
    assert leyden("metrics", "--agent", "nobody", *SINCE).out == "No spans match.\n"
    assert "is not a time" in leyden("metrics", "--since", "soon").err
