"""`leyden db`: figures that fit a terminal, and commands that say what they did."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Leyden
from cli.runs import START, failed_tool, run, span
from leyden.cli.units import seconds, size, size_of
from leyden.errors import BadInput


@pytest.fixture
def three(stored: Any, db: Path) -> Path:
    """Three runs that ended long ago."""
    stored(
        *(
            run(f"ro-{n}", span(f"ro-{n}", "a" * 15 + str(n)), start_time=START - 10**8 + n, end_time=START - 10**8 + n + 1)
            for n in range(3)
        )
    )  # fmt: skip
    return db


def test_stats_say_where_the_bytes_are_within_eighty_columns(leyden: Leyden, three: Path) -> None:
    said = leyden("db", "stats")
    assert said.code == 0
    assert "3 spans as they came" in said.out
    assert max(len(line) for line in said.out.splitlines() if str(three) not in line) <= 80
    told = leyden("db", "stats", "--json").json
    assert told["groups"] == [
        {"project": "default", "mode": None, "status": "succeeded", "rollouts": 3, "spans": 3}
    ]
    parts = {part["name"]: part for part in told["parts"]}
    assert parts["spans"]["rows"] == 3
    assert parts["spans"]["table_bytes"] > 0
    assert sum(part["table_bytes"] + part["index_bytes"] for part in told["parts"]) <= told["total_bytes"]


def test_stats_of_postgresql_name_the_same_parts(leyden: Leyden, postgres_database: str, three: Path) -> None:
    theirs = leyden("db", "stats", "--db", postgres_database, "--json").json
    ours = leyden("db", "stats", "--json").json
    assert [part["name"] for part in theirs["parts"]] == [part["name"] for part in ours["parts"]]
    assert all(part["index_bytes"] > 0 for part in theirs["parts"])


def test_prune_says_first_what_would_go_and_asks(leyden: Leyden, three: Path) -> None:
    would = leyden("db", "prune", "--keep-rollouts", "1", "--dry-run")
    assert would.out.startswith("2 rollouts with 2 spans (")
    assert would.out.endswith(" would go.\n")
    assert leyden("db", "prune", "--keep-rollouts", "1").code == 2, "nobody is there to confirm"
    assert leyden("rollouts", "--json").json["total"] == 3
    assert leyden("db", "prune", "--keep-rollouts", "1", "--yes").out.startswith(
        "Deleted 2 rollouts with 2 spans"
    )
    assert leyden("rollouts", "--json").json["total"] == 1


def test_prune_says_what_a_finding_keeps(leyden: Leyden, stored: Any) -> None:
    stored(*(run(f"ro-{n}", failed_tool(f"ro-{n}", "a" * 15 + str(n))) for n in range(3)))
    assert leyden("analyze").code == 0
    said = leyden("db", "prune", "--keep-rollouts", "0", "--yes")
    assert "Kept although they are due: 3 by a finding." in said.out


def test_a_policy_is_set_shown_and_cleared(leyden: Leyden, db: Path) -> None:
    said = leyden("db", "retention", "set", "--mode", "train", "--older-than", "7d", "--max-bytes", "10GB")
    assert said.out == "Project default, mode train: age 7d 0h, rollouts any, bytes 10.0 GB.\n"
    assert leyden("db", "retention", "--json").json[0]["max_age_s"] == 7 * 86_400
    assert "train" in leyden("db", "retention").out
    assert leyden("db", "retention", "clear", "--mode", "train").code == 0
    assert leyden("db", "retention").out.startswith("No policies")
    assert leyden("db", "retention", "clear", "--mode", "train").err.startswith(
        "Error: Project 'default' has no"
    )


def test_check_is_quiet_about_a_sound_store_and_fails_on_a_damaged_one(leyden: Leyden, three: Path) -> None:
    sound = leyden("db", "check", "--deep")
    assert (sound.code, sound.out.splitlines()[-1]) == (0, "Everything holds together.")
    with sqlite3.connect(three) as file:
        file.execute("DELETE FROM span_payload WHERE id = 2")
    damaged = leyden("db", "check")
    assert (damaged.code, damaged.out.splitlines()[-1]) == (1, "1 problem found.")
    assert "WRONG  spans have a payload, once" in damaged.out
    assert "span 2 of ro-1 has no payload" in damaged.out


def test_rebuild_mends_wrong_sums(leyden: Leyden, three: Path) -> None:
    with sqlite3.connect(three) as file:
        file.execute("UPDATE rollup SET spans = 7 WHERE grain = 3600")
    assert leyden("db", "check").code == 1
    assert leyden("db", "rebuild").out == "Corrected 1 row.\n"
    assert leyden("db", "check").code == 0
    assert leyden("db", "rebuild").out == "Every row was right.\n"


def test_a_flipped_byte_in_the_file_is_found(leyden: Leyden, three: Path) -> None:
    with sqlite3.connect(three) as file:
        file.execute("PRAGMA journal_mode=DELETE")
        page = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'span'").fetchone()[0]
        size_ = file.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(three.read_bytes())
    content[(page - 1) * size_ + 3] ^= 0x55  # how many rows the page has
    three.write_bytes(content)
    assert leyden("db", "check").code == 1


def test_vacuum_gives_the_space_of_deleted_rollouts_back(leyden: Leyden, stored: Any, db: Path) -> None:
    stored(run("ro-1", *(span("ro-1", f"{n:016x}", attributes={"text": "x" * 50_000}) for n in range(20))))
    assert leyden("delete", "ro-1", "--yes").code == 0
    before = db.stat().st_size
    said = leyden("db", "vacuum")
    assert said.out == f"{db}: {size(before)} → {size(db.stat().st_size)}\n"
    assert db.stat().st_size < before / 2


def test_a_postgresql_is_vacuumed_while_in_use_and_copied_by_its_own_program(
    leyden: Leyden, postgres_database: str, tmp_path: Path
) -> None:
    assert leyden("db", "vacuum", "--db", postgres_database).code == 0
    refused = leyden("db", "backup", str(tmp_path / "x"), "--db", "postgresql://me:secret@host:5433/leyden")
    assert refused.code == 1
    assert refused.err.splitlines()[1].strip() == (
        f"pg_dump --format=custom --file={tmp_path / 'x'} postgresql://me@host:5433/leyden"
    )


def test_a_backup_is_never_written_over_anything_unasked(leyden: Leyden, three: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    refused = leyden("db", "backup", str(copy))
    assert (refused.code, copy.read_text()) == (1, "precious")
    assert "--force" in refused.err
    assert leyden("db", "backup", str(copy), "--force").code == 0
    assert leyden("rollouts", "--db", str(copy), "--json").json["total"] == 3
    assert leyden("db", "backup", str(three), "--force").code == 1, "not over the database itself"


def test_a_backup_of_a_damaged_file_is_not_kept(leyden: Leyden, three: Path, tmp_path: Path) -> None:
    test_a_flipped_byte_in_the_file_is_found(leyden, three)
    assert leyden("db", "backup", str(tmp_path / "copy.db")).code == 1
    assert list(tmp_path.glob("*copy.db*")) == []


def test_what_works_on_the_file_does_not_look_at_another_one_when_a_server_is_named(
    leyden: Leyden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEYDEN_DB")
    monkeypatch.setenv("LEYDEN_URL", "http://127.0.0.1:1")
    said = leyden("db", "stats")
    assert said.code == 2
    assert "add --db" in said.err


@pytest.mark.parametrize(
    ("text", "bytes_"), [("0", 0), ("1500", 1500), ("5kB", 5000), ("1.5 GiB", 3 * 2**29), ("2tb", 2 * 10**12)]
)
def test_a_size_is_read(text: str, bytes_: int) -> None:
    assert size_of(text) == bytes_


@pytest.mark.parametrize("text", ["", "GB", "-1", "5 parsecs", "1e9"])
def test_what_is_no_size_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        size_of(text)
    with pytest.raises(BadInput):
        seconds(text)
