"""`leyden import`: everything that can be stored is, and the rest is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Leyden = Callable[..., Any]


def conversation(text: str) -> str:
    said = [{"role": "user", "content": text}, {"role": "assistant", "content": f"about {text}"}]
    return json.dumps({"messages": said})


def lines(path: Path, *records: str) -> str:
    path.write_text("\n".join(records) + "\n")
    return str(path)


def test_an_import_says_how_much_it_stored_and_again_changes_nothing(leyden: Leyden, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", conversation("rain"), conversation("snow"))
    said = leyden("import", "messages", path)
    assert said.code == 0
    assert said.out.startswith("Imported 2 runs with ")
    assert said.err == ""
    again = leyden("import", "messages", path)
    assert again.code == 0
    assert again.out == "Imported 0 runs with 0 spans. 2 runs unchanged.\n"


def test_a_bad_record_is_named_and_the_rest_is_stored(leyden: Leyden, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", conversation("rain"), "{\x1b[31m", conversation("snow"))
    said = leyden("import", "messages", path)
    assert said.code == 3
    assert said.out.startswith("Imported 2 runs")
    assert f"{path}: line 2" in said.err
    assert "\x1b" not in said.err


def test_nothing_but_bad_records_is_a_failure(leyden: Leyden, tmp_path: Path) -> None:
    said = leyden("import", "messages", lines(tmp_path / "a.jsonl", "{"))
    assert said.code == 1
    assert said.out.startswith("Imported 0 runs")


def test_only_the_first_bad_records_are_named_and_the_rest_counted(leyden: Leyden, tmp_path: Path) -> None:
    paths = [lines(tmp_path / f"{i}.jsonl", "{") for i in range(30)]
    said = leyden("import", "messages", lines(tmp_path / "good.jsonl", conversation("rain")), *paths)
    assert said.code == 3
    assert len(said.err.splitlines()) == 22
    assert said.err.endswith("… and 10 more\n")


def test_a_run_too_large_for_the_server_costs_no_other(
    leyden: Leyden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_MAX_BODY_BYTES", "20000")
    texts = [conversation(f"{i} " * 300) for i in range(20)]
    path = lines(tmp_path / "a.jsonl", *texts, conversation("x" * 30_000))
    said = leyden("import", "messages", path)
    assert said.code == 3
    assert said.out.startswith("Imported 20 runs")
    assert len(said.err.splitlines()) == 2
    assert leyden("rollouts", "--json").json["total"] == 20


def test_a_path_that_is_missing_or_not_given_is_a_usage_error(leyden: Leyden, tmp_path: Path) -> None:
    assert leyden("import", "messages").code == 2
    assert leyden("import", "messages", str(tmp_path / "nope.jsonl")).code == 2
    assert leyden("import", "smoke-signals", str(tmp_path)).code == 2


def test_a_format_without_its_files_says_where_it_looked(
    leyden: Leyden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.ingest.readers import READERS

    reader = READERS["claude-code"]._replace(default=tmp_path / "nothing")
    monkeypatch.setitem(READERS, "claude-code", reader)
    said = leyden("import", "claude-code")
    assert said.code == 1
    assert str(tmp_path / "nothing") in said.err


def test_an_empty_folder_is_said_to_hold_nothing(leyden: Leyden, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = leyden("import", "messages", str(tmp_path / "empty"))
    assert said.code == 1
    assert "empty" in said.err


def test_a_server_that_goes_away_is_an_error_that_says_what_was_stored(
    leyden: Leyden, tmp_path: Path
) -> None:
    path = lines(tmp_path / "a.jsonl", conversation("rain"))
    said = leyden("import", "messages", path, "--store", "http://127.0.0.1:9")
    assert said.code == 1
    assert said.out.startswith("Imported 0 runs")
    assert "http://127.0.0.1:9" in said.err
