"""The first walk along the whole line, by the public door: recorded files → `leyden import` → `leyden analyze` → findings.

What the report says is compared with a recount that reads the raw files and knows nothing of the product.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from recount import Recount, data, recount, tau_runs, trail_kind, trail_runs, trail_spans


def leyden(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LEYDEN_DB": str(folder / "walk.db"), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "leyden", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("walk")
    tau, gaia = data("tau-bench", "gpt-4o-airline.json"), data("trail", "data", "GAIA")
    for words, runs in ((("tau-bench", str(tau)), 100), (("otel-json", str(gaia)), 35)):
        done = leyden(folder, "import", *words)
        assert done.returncode == 0, done.stderr
        assert f"Imported {runs} runs" in done.stdout
    done = leyden(folder, "analyze", "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module")
def truth() -> Recount:
    return recount([*tau_runs(), *trail_runs()])


@pytest.fixture(scope="module")
def recorded_name() -> dict[str, str]:
    """TRAIL's tools by the name they tell of themselves (`tool.name`), which the report uses, and by their span's name."""
    names: dict[str, str] = {}
    for path in sorted(data("trail", "data", "GAIA").glob("*.json")):
        for span, _ in trail_spans(json.loads(path.read_text())):
            if trail_kind(span) == "TOOL":
                names[span["span_attributes"].get("tool.name", span["span_name"])] = span["span_name"]
    return names


def test_every_run_and_token_of_the_files_is_in_the_report(
    walked: tuple[Path, dict[str, Any]], truth: Recount
) -> None:
    totals = walked[1]["totals"]
    assert (totals["runs"], totals["failed"]) == (135, truth.failed_runs)
    assert totals["tool_calls"] == truth.calls.total()
    assert totals["tool_failures"] == truth.failures.total()
    assert totals["input_tokens"] + totals["output_tokens"] == truth.tokens_in + truth.tokens_out
    assert totals["failed_without_error"] == truth.failed_runs - truth.failed_runs_with_tool_error


def test_calls_and_failures_of_each_tool_are_those_of_the_raw_files(
    walked: tuple[Path, dict[str, Any]], truth: Recount, recorded_name: dict[str, str]
) -> None:
    calls: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for tool in walked[1]["tools"]:
        name = recorded_name.get(tool["name"], tool["name"])
        calls[name] += tool["calls"]
        failures[name] += tool["failures"]
    assert calls == truth.calls
    assert +failures == +truth.failures


def test_the_first_finding_is_the_tool_and_the_words_that_fail_most(
    walked: tuple[Path, dict[str, Any]], truth: Recount, recorded_name: dict[str, str]
) -> None:
    first = walked[1]["findings"][0]
    worst, failures = truth.failures.most_common(1)[0]
    assert recorded_name[first["tool"]] == worst == "PageDownTool"
    assert first["impact"]["occurrences"] == failures == 39
    assert first["impact"]["runs"] == truth.failing_runs[worst]
    assert "unexpected keyword argument" in first["error_message"]
    assert "signature" in first["title"]
    assert first["evidence"]


def test_the_findings_about_tools_name_messages_that_the_files_hold_as_often_as_they_say(
    walked: tuple[Path, dict[str, Any]], truth: Recount, recorded_name: dict[str, str]
) -> None:
    named = [finding for finding in walked[1]["findings"] if finding["kind"] == "tool_failure"]
    told: Counter[str] = Counter()
    for finding in named:
        tool = recorded_name.get(finding["tool"], finding["tool"])
        told[tool] += finding["impact"]["occurrences"]
        assert any(finding["error_message"][:40] in message for message in truth.messages[tool])
    assert told == +truth.failures
    assert [recorded_name.get(f["tool"], f["tool"]) for f in named[:4]] == [
        "PageDownTool", "book_reservation", "update_reservation_flights", "update_reservation_flights",
    ]  # fmt: skip


def test_importing_again_changes_nothing(walked: tuple[Path, dict[str, Any]], truth: Recount) -> None:
    folder, before = walked
    done = leyden(folder, "import", "tau-bench", str(data("tau-bench", "gpt-4o-airline.json")))
    assert done.returncode == 0
    assert "100 runs unchanged" in done.stdout
    again = json.loads(leyden(folder, "analyze", "--json", "--no-save").stdout)
    assert again["totals"] == before["totals"]


def test_evidence_leads_to_spans_that_show_the_error(
    walked: tuple[Path, dict[str, Any]], truth: Recount
) -> None:
    folder, report = walked
    rollout_id, _, _ = report["findings"][0]["evidence"][0]
    shown = leyden(folder, "show", rollout_id)
    assert shown.returncode == 0
    assert "unexpected keyword argument" in shown.stdout
