"""Filters on the command line: spans, rollouts, analyze, delete."""

from collections.abc import Callable
from typing import Any

import pytest

from cli.runs import failed_tool, run, span
from leyden.types import Page

Leyden = Callable[..., Any]


@pytest.fixture(autouse=True)
def two_runs(stored: Callable[..., None]) -> None:
    """One good run, and one whose tool timed out."""
    bad = run(
        "ro-bad22",
        span("ro-bad22", "b1", name="answer"),
        failed_tool("ro-bad22", "b2", "b1"),
        status="failed",
        reward=0.0,
    )
    stored(run("ro-good1", span("ro-good1", "a1", name="answer"), reward=1.0), bad)  # fmt: skip


def test_spans_on_a_pipe_are_plain_lines_with_whole_ids(leyden: Leyden) -> None:
    head, *rows = leyden("spans", "status:error tool:search*").out.splitlines()
    assert head.split()[:4] == ["STARTED", "KIND", "NAME", "STATUS"]
    assert len(rows) == 1
    assert {"tool", "search_flights", "error", "ro-bad22", "b2"} <= set(rows[0].split())
    assert leyden("spans", "tool:none").out == "No spans match.\n"
    assert leyden("spans", "--", "-status:error").out.count("ro-") == 2


def test_spans_go_on_behind_a_cursor(leyden: Leyden) -> None:
    first = leyden("spans", "--limit", "2", "--json").json
    rest = leyden("spans", "--limit", "2", "--json", "--cursor", first["next_cursor"]).json
    ids = [item["span_id"] for page in (first, rest) for item in page["items"]]
    assert sorted(ids) == ["a1", "b1", "b2"]
    assert (first["total"], first["total_is_exact"], rest["next_cursor"]) == (3, True, None)


def test_rollouts_and_analysis_take_a_filter(leyden: Leyden) -> None:
    assert leyden("rollouts", "status:failed", "reward<0.5").out.count("ro-") == 1
    assert leyden("rollouts", "span.tool:none").out == "No rollouts match.\n"
    assert leyden("analyze", "--filter", "reward:1", "--json", "--no-save").json["totals"]["runs"] == 1
    assert leyden("analyze", "--filter", "id:nobody").out == "No runs match.\n"


def test_a_wrong_filter_is_pointed_at(leyden: Leyden) -> None:
    said = leyden("spans", "status:ok agnt:router")
    assert said.code == 1
    assert said.err.splitlines() == [
        "Error: unknown field 'agnt' at column 11; did you mean 'agent'?",
        "  status:ok agnt:router",
        "            ^",
    ]


def test_delete_takes_a_filter_but_never_an_empty_one(leyden: Leyden) -> None:
    assert leyden("delete", "--filter", "  ", "--yes").code == 2
    assert leyden("delete", "--yes").code == 2
    assert leyden("delete", "--filter", "id:nobody", "--yes").out == "No rollouts match.\n"
    assert leyden("delete", "--filter", "status:failed", "--yes").out == "Deleted 1 rollout.\n"
    assert leyden("rollouts", "--json").json["items"][0]["rollout_id"] == "ro-good1"


def test_a_total_that_is_not_exact_says_over() -> None:
    from leyden.cli.units import of_total

    page: Page[Any] = Page(items=[], limit=2, offset=0, total=1001, total_is_exact=False)
    assert of_total(page, "span") == "over 1,000 spans"
