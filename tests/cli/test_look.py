"""Looking at what is stored: rollouts, show, analyze, findings, info; and deleting."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.runs import failed_tool, run, span
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings

Leyden = Callable[..., Any]
Stored = Callable[..., None]

EVIL = "\x1b]0;owned\x07\x1b[31m[bold]red[/bold] [link=x]\x9b2J\u202egnp.exe\r\n:smile:"


@pytest.fixture
def two_runs(stored: Stored) -> None:
    """One good run, and one whose tool timed out under a parent."""
    good = run("ro-good1", span("ro-good1", "a1", name="answer"), reward=1.0)
    bad = run(
        "ro-bad22",
        span("ro-bad22", "b1", name="answer", end_time=1_800_000_009.5),
        failed_tool("ro-bad22", "b2", "b1"),
        span("ro-bad22", "b3", "b1", name="think"),
        status="failed",
        failure_reason="gave up",
        reward=0.0,
    )
    stored(good, bad)


# ── rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("two_runs")
def test_rollouts_on_a_pipe_are_plain_lines_with_whole_ids(leyden: Leyden) -> None:
    said = leyden("rollouts")
    head, *rows = said.out.splitlines()
    assert head.split() == ["ROLLOUT", "STATUS", "STARTED", "TOOK", "SPANS", "ERRORS", "REWARD", "AGENT"]
    cells = {row.split()[0]: re.split(r"\s{2,}", row) for row in rows}
    assert cells["ro-bad22"][1] == "failed"
    assert cells["ro-bad22"][3:] == ["10.0 s", "3", "1", "0"]
    assert cells["ro-good1"][3:] == ["10.0 s", "1", "0", "1"]
    assert "\x1b" not in said.out
    assert not any(line != line.rstrip() for line in said.out.splitlines())


@pytest.mark.usefixtures("two_runs")
def test_rollouts_filter_and_count(leyden: Leyden) -> None:
    assert leyden("rollouts", "--status", "failed").out.count("ro-") == 1
    assert leyden("rollouts", "--limit", "1").out.count("ro-") == 1
    assert leyden("rollouts", "--agent", "nobody").out == "No rollouts match.\n"
    page = leyden("rollouts", "--json").json
    assert page["total"] == 2
    assert {item["rollout_id"] for item in page["items"]} == {"ro-bad22", "ro-good1"}


def test_an_empty_store_says_how_to_fill_it(leyden: Leyden, stored: Stored) -> None:
    stored()
    assert "leyden up" in leyden("rollouts").out
    assert "leyden up" in leyden("analyze").out
    assert "leyden analyze" in leyden("findings").out


# ── show ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("two_runs")
def test_show_draws_the_tree_with_the_error_under_its_span(leyden: Leyden) -> None:
    said = leyden("show", "ro-b")
    head, tree = said.out.split("\n\n")
    assert re.search(r"^status +failed: gave up$", head, re.M)
    assert re.search(r"^holds +3 spans, 1 error$", head, re.M)
    lines = tree.splitlines()
    assert re.fullmatch(r"span answer +9\.5 s", lines[0])
    assert re.fullmatch(r'├─ tool search_flights  \{"to": "SEA"\} +1\.0 s', lines[1])
    assert lines[2] == "│     ✗ TimeoutError: no answer in 30 s"
    assert re.fullmatch(r"└─ span think +1\.0 s", lines[3])


@pytest.mark.usefixtures("two_runs")
def test_show_as_json_holds_the_rollout_and_its_spans(leyden: Leyden) -> None:
    shown = leyden("show", "ro-bad22", "--json").json
    assert shown["failure_reason"] == "gave up"
    assert [s["span_id"] for s in shown["spans"]] == ["b1", "b2", "b3"]
    assert shown["spans"][1]["error_type"] == "TimeoutError"


@pytest.mark.usefixtures("two_runs")
def test_show_one_span_holds_everything_recorded_in_it(leyden: Leyden) -> None:
    text = leyden("show", "ro-bad22", "--span", "b2").out
    assert re.search(r"^status +ERROR: no answer in 30 s$", text, re.M)
    assert '  gen_ai.tool.call.arguments:\n    {\n      "to": "SEA"\n    }\n' in text
    span = leyden("show", "ro-bad22", "--span", "b2", "--json").json
    assert span["attributes"]["gen_ai.tool.name"] == "search_flights"


@pytest.mark.usefixtures("two_runs")
def test_an_id_that_begins_several_or_none_is_refused_with_what_to_do(leyden: Leyden) -> None:
    several = leyden("show", "ro-")
    assert several.code == 1
    assert "2 rollouts begin with 'ro-'" in several.err
    assert "ro-bad22" in several.err
    none = leyden("show", "good1")  # the end of an id, not its beginning
    assert none.code == 1
    assert "`leyden rollouts`" in none.err
    assert leyden("show", "ro-bad22", "--span", "zz").code == 1
    assert leyden("show", "ro-bad22", "--attempt", "7").code == 1


def test_an_id_that_also_begins_another_is_found_whole(leyden: Leyden, stored: Stored) -> None:
    stored(run("ro-1", span("ro-1", "s")), run("ro-11", span("ro-11", "s")))
    assert leyden("show", "ro-1", "--json").json["rollout_id"] == "ro-1"


def test_ids_with_odd_characters_are_found(leyden: Leyden, stored: Stored) -> None:
    for name in ("run 1?x=1#y", "läuft & läuft", "50%"):
        stored(run(name, span(name, "s 1?")))
        assert leyden("show", name, "--json").json["rollout_id"] == name
        assert leyden("show", name, "--span", "s 1?", "--json").json["span_id"] == "s 1?"


def test_each_attempt_can_be_shown_and_the_latest_is_without_asking(leyden: Leyden, db: Path) -> None:
    with Client(app=create_app(Settings(db=str(db)))) as client:
        first = client.start_rollout({"task": 1})
        client.update_attempt(first.rollout_id, status="failed", failure_reason="crashed")
        second = client.start_attempt(first.rollout_id)
        for attempt, name in ((first.attempt, "old"), (second.attempt, "new")):
            made = span(first.rollout_id, f"{name}-1", name=name, attempt_id=attempt.attempt_id)
            client.add_span(made | {"sequence_id": 1})
    shown = leyden("show", first.rollout_id).out
    assert re.search(r"^attempt +1 at-\w+ failed: crashed", shown, re.M)
    assert re.search(r"^attempt +2 at-\w+ \w+.*\(shown\)$", shown, re.M)
    assert "span new" in shown
    assert "span old" not in shown
    assert "span old" in leyden("show", first.rollout_id, "--attempt", "1").out
    assert "span old" in leyden("show", first.rollout_id, "--attempt", first.attempt.attempt_id).out


# ── What is recorded is text, whatever it says ───────────────────────────────────────────────────────────────────


def test_recorded_text_neither_steers_the_terminal_nor_reads_as_markup(
    leyden: Leyden, stored: Stored
) -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": EVIL, EVIL: [EVIL]}
    wrong = {"status_code": "ERROR", "description": EVIL}
    odd_event = {"name": EVIL, "attributes": {EVIL: EVIL}, "timestamp": None}
    resource = {"attributes": {"x": EVIL}, "schema_url": ""}
    first = span("ro-evil", "s1", name=EVIL, attributes=attributes, status=wrong, events=[odd_event])
    second = failed_tool("ro-evil", "s2", "s1", resource=resource)
    stored(
        run("ro-evil", first, second, input=EVIL, status="failed", failure_reason=EVIL, metadata={"x": EVIL})
    )
    for words in (
        ["rollouts"], ["rollouts", "--json"], ["show", "ro-evil"], ["show", "ro-evil", "--json"],
        ["show", "ro-evil", "--span", "s1"], ["show", "ro-evil", "--span", "s1", "--json"],
        ["analyze"], ["analyze", "--json"], ["findings"], ["findings", "--json"],
    ):  # fmt: skip
        said = leyden(*words)
        assert said.code == 0, (words, said.err)
        assert not set(said.out) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}, words
        if "--json" in words:
            json.loads(said.out)
    assert "[bold]red[/bold]" in leyden("show", "ro-evil").out
    assert ":smile:" in leyden("show", "ro-evil").out


# ── analyze, findings ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("two_runs")
def test_analyze_writes_the_form_that_the_file_asks_for(leyden: Leyden, tmp_path: Path) -> None:
    said = leyden("analyze", "--out", str(tmp_path / "report.json"))
    assert "2 runs" in said.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["totals"]["failed"] == 1
    leyden("analyze", "--out", str(tmp_path / "report.md"))
    assert (tmp_path / "report.md").read_text().startswith("#")
    leyden("analyze", "--markdown", "--out", str(tmp_path / "report.txt"))
    assert (tmp_path / "report.txt").read_text().startswith("#")
    assert leyden("analyze", "--json").json["totals"] == report["totals"]
    assert leyden("analyze", "--markdown").out.startswith("#")
    assert leyden("analyze", "--out", str(tmp_path / "no" / "report.md")).code == 2


@pytest.mark.usefixtures("two_runs")
def test_analyze_takes_some_rollouts_or_those_since(leyden: Leyden) -> None:
    assert leyden("analyze", "--rollout", "ro-g", "--json").json["totals"]["runs"] == 1
    assert leyden("analyze", "--since", "2020-01-01", "--json").json["totals"]["runs"] == 2
    assert leyden("analyze", "--since", "2100-01-01").out == "No runs match.\n"
    refused = leyden("analyze", "--since", "soon")
    assert refused.code == 1
    assert "7d" in refused.err


@pytest.mark.usefixtures("two_runs")
def test_findings_are_kept_unless_told_otherwise_and_can_be_decided_about(leyden: Leyden) -> None:
    leyden("analyze", "--no-save")
    assert leyden("findings", "--json").json["total"] == 0
    leyden("analyze")
    found = leyden("findings", "--json").json["items"]
    assert found
    print_ = found[0]["fingerprint"]
    assert print_ in leyden("findings").out
    shown = leyden("findings", "show", print_).out
    assert "leyden show ro-bad22 --span b2" in shown
    for word, status in (
        ("accept", "accepted"),
        ("fix", "fixed"),
        ("dismiss", "dismissed"),
        ("reopen", "open"),
    ):
        said = leyden("findings", word, print_[:10])
        assert said.out.startswith(f"{print_} is {status}: ")
        assert leyden("findings", "show", print_, "--json").json["status"] == status
    assert leyden("findings", "accept", "fi-nope").code == 1


# ── info, delete ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("two_runs")
def test_info_names_the_database_and_counts_it(leyden: Leyden, db: Path) -> None:
    text = leyden("info").out
    assert re.search(rf"^database +{re.escape(str(db))}$", text, re.M)
    assert re.search(r"^spans +4$", text, re.M)
    assert leyden("info", "--json").json["counts"]["rollouts"] == 2


@pytest.mark.usefixtures("two_runs")
def test_delete_wants_a_yes_and_takes_everything_of_the_rollout(leyden: Leyden) -> None:
    refused = leyden("delete", "ro-g")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert leyden("rollouts", "--json").json["total"] == 2
    assert leyden("delete", "ro-g", "ro-good1", "--yes").out == "Deleted 1 rollout.\n"
    assert leyden("info", "--json").json["counts"]["spans"] == 3
    assert leyden("show", "ro-good1").code == 1


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_printed_alone_once_and_can_be_revoked(leyden: Leyden) -> None:
    made = leyden("keys", "create", "--name", "ci [bold]", "--scope", "ingest")
    assert re.fullmatch(r"lk_\S+\n", made.out)
    assert "cannot be shown again" in made.err
    listed = leyden("keys", "list")
    assert "ci [bold]" in listed.out
    assert made.out.strip() not in listed.out
    (key,) = leyden("keys", "list", "--json").json
    assert key["scopes"] == ["ingest"]
    assert leyden("keys", "revoke", key["id"][:8]).out == f"Revoked {key['id']}.\n"
    assert "revoked" in leyden("keys", "list").out
    assert leyden("keys", "revoke", "key-nope").code == 1


def test_keys_are_made_also_where_settings_ask_for_one(
    leyden: Leyden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_REQUIRE_KEYS", "1")
    monkeypatch.setenv("LEYDEN_HOST", "0.0.0.0")
    monkeypatch.setenv("LEYDEN_API_KEY", "lk_of_another_store")
    assert leyden("keys", "create", "--name", "first", "--scope", "admin").code == 0


# ── A server ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_server_answers_the_same_commands(leyden: Leyden, server_url: str) -> None:
    with Client(server_url) as client:
        client.import_runs([run("ro-far", failed_tool("ro-far", "s1"), status="failed")])
    at = ("--store", server_url)
    assert "ro-far" in leyden("rollouts", *at).out
    assert "search_flights" in leyden("show", "ro-f", *at).out
    assert leyden("analyze", *at, "--json").json["totals"]["runs"] == 1
    assert leyden("findings", *at).out.count("fi-") >= 1
    assert leyden("info", *at, "--json").json["counts"]["spans"] == 1
    found = leyden("findings", *at, "--json").json["items"][0]["fingerprint"]
    assert (
        leyden("findings", *at, "accept", found).code == 0
    )  # the option of the group holds for its commands
    assert leyden("delete", "ro-far", "--yes", *at).code == 0
