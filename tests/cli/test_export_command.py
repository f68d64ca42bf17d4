"""`leyden export` and `leyden import leyden`: complete, safe to repeat, and clear about what is broken."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from cli.runs import failed_tool, run, span
from leyden.cli import export_parquet

Leyden = Callable[..., Any]


@pytest.fixture
def filled(stored: Callable[..., None]) -> None:
    stored(
        run("ro-1", span("ro-1", "a"), failed_tool("ro-1", "b", "a"), reward=1.0, status="failed"),
        run("ro-2", span("ro-2", "a", attributes={"text": "日本 \u2028 x"}), mode="train"),
    )


def body(export: str) -> str:
    return export.split("\n", 1)[1]


@pytest.mark.usefixtures("filled")
def test_an_export_piped_into_an_import_makes_the_same_store(leyden: Leyden, tmp_path: Path) -> None:
    made = leyden("export").out
    other = str(tmp_path / "other.db")
    said = leyden("import", "leyden", "-", "--db", other, input=made)
    assert (said.code, said.out, said.err) == (0, "Imported 2 rollouts with 3 spans.\n", "")
    assert body(leyden("export", "--db", other).out) == body(made)
    again = leyden("import", "leyden", "-", "--db", other, input=made)
    assert again.out == "Imported 0 rollouts with 0 spans. 2 rollouts unchanged.\n"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_is_compressed_by_its_name_and_reads_again(leyden: Leyden, tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    said = leyden("export", "--out", str(path))
    assert said.code == 0
    assert said.out == ""
    assert said.err == f"Exported 2 rollouts with 3 spans to {path}.\n"
    assert [p.name for p in path.parent.iterdir()] == [name]
    other = str(tmp_path / "other.db")
    assert leyden("import", "leyden", str(path), "--db", other).code == 0
    assert body(leyden("export", "--db", other).out) == body(leyden("export").out)


@pytest.mark.usefixtures("filled")
def test_parquet_is_lossless_and_reads_with_other_tools(leyden: Leyden, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    path = tmp_path / "week"
    assert leyden("export", "--format", "parquet", "--out", str(path)).code == 0
    table = parquet.read_table(path / "spans.parquet")
    assert table.column("tool").to_pylist() == [None, "search_flights", None]
    assert parquet.read_table(path / "rollouts.parquet").column("status").to_pylist() == [
        "failed",
        "succeeded",
    ]
    assert body(b"".join(export_parquet.lines(path)).decode()) == body(leyden("export").out)
    other = str(tmp_path / "other.db")
    assert leyden("import", "leyden", str(path), "--db", other).out == "Imported 2 rollouts with 3 spans.\n"
    assert body(leyden("export", "--db", other).out) == body(leyden("export").out)


@pytest.mark.usefixtures("filled")
def test_parquet_holds_prices_and_a_folder_without_what_version_2_added_is_read(
    leyden: Leyden, tmp_path: Path
) -> None:
    assert leyden("costs", "prices", "set", "ollama/*", "--input", "1.5", "--output", "2").code == 0
    path, other = tmp_path / "week", str(tmp_path / "other.db")
    assert leyden("export", "--format", "parquet", "--out", str(path)).code == 0
    assert body(b"".join(export_parquet.lines(path)).decode()) == body(leyden("export").out)
    (path / "prices.parquet").unlink()
    said = leyden("import", "leyden", str(path), "--db", other)
    assert "should hold 1 lines of type price and has 0" in said.err
    assert leyden("costs", "prices", "delete", "ollama/*").code == 0
    assert leyden("export", "--format", "parquet", "--out", str(path), "--force").code == 0
    for name in ("prices", "spend", "rollout_spend", "model_calls"):
        (path / f"{name}.parquet").unlink()
    assert leyden("import", "leyden", str(path), "--db", other).code == 0


@pytest.mark.usefixtures("filled")
def test_otlp_json_is_one_request_a_line(leyden: Leyden) -> None:
    requests = [
        json.loads(line) for line in leyden("export", "--format", "otlp-json").out.strip().split("\n")
    ]
    names = [
        s["name"] for r in requests for g in r["resourceSpans"] for c in g["scopeSpans"] for s in c["spans"]
    ]
    assert names == ["work", "execute_tool search_flights", "work"]


@pytest.mark.usefixtures("filled")
def test_filters_choose_rollouts(leyden: Leyden) -> None:
    def ids(*words: str) -> list[str]:
        lines = map(json.loads, leyden("export", *words).out.strip().split("\n"))
        return [line["rollout_id"] for line in lines if line["type"] == "rollout"]

    assert ids("--mode", "train") == ["ro-2"]
    assert ids("--status", "failed") == ["ro-1"]
    assert ids("status:succeeded") == ["ro-2"]
    assert ids("--format", "jsonl") == ["ro-1", "ro-2"]
    assert ids("--rollout", "ro-2", "--rollout", "ro-1") == ["ro-1", "ro-2"]
    assert ids("--since", "2100-01-01") == []
    assert ids("--until", "2100-01-01") == ["ro-1", "ro-2"]
    assert leyden("export", "--rollout", "nope").code == 1


@pytest.mark.usefixtures("filled")
def test_nothing_is_written_over_unless_forced(leyden: Leyden, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    said = leyden("export", "--out", str(path))
    assert said.code == 1
    assert "--force" in said.err
    assert path.read_text() == "mine"
    assert leyden("export", "--out", str(path), "--force").code == 0
    assert leyden("export", "--format", "parquet", "--out", str(tmp_path / "dir")).code == 0
    assert leyden("export", "--format", "parquet", "--out", str(tmp_path / "dir"), "--force").code == 0


def test_parquet_does_not_go_into_a_pipe(leyden: Leyden) -> None:
    said = leyden("export", "--format", "parquet")
    assert said.code == 2
    assert "--out DIR" in said.err


@pytest.mark.usefixtures("filled")
def test_an_export_that_fails_leaves_no_file(leyden: Leyden, tmp_path: Path) -> None:
    said = leyden("export", "--out", str(tmp_path / "x" / "a.jsonl"), "--store", "http://127.0.0.1:9")
    assert said.code == 1
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("suffix", ["jsonl"])
def test_a_file_cut_short_says_where_and_what_was_imported(
    leyden: Leyden, tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    made = leyden("export").out.encode()
    name = {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(pack, "")
    path = tmp_path / f"a.{suffix}{name}"
    kept = b"".join(made.splitlines(keepends=True)[:-1])
    path.write_bytes(pack(kept))
    said = leyden("import", "leyden", str(path), "--db", str(tmp_path / "other.db"))
    assert said.code == 1
    assert "cut short after line" in said.err
    assert "2 rollouts and 3 spans before it are in the store" in said.err
    whole = tmp_path / "b.jsonl"
    whole.write_bytes(made)
    assert leyden("import", "leyden", str(whole), "--db", str(tmp_path / "other.db")).code == 0


@pytest.mark.usefixtures("filled")
def test_what_is_there_with_other_content_stays_and_is_named(
    leyden: Leyden, tmp_path: Path, stored: Callable[..., None]
) -> None:
    other = tmp_path / "other.db"
    stored(run("ro-1", span("ro-1", "z"), input="another"), into=other)
    made = leyden("export").out
    said = leyden("import", "leyden", "-", "--db", str(other), input=made)
    assert said.code == 3
    assert said.out == "Imported 1 rollout with 1 span.\n"
    assert "rollout ro-1: it is there with other content and stays as it is" in said.err
    assert leyden("rollouts", "--json", "--db", str(other)).json["total"] == 2
    assert "another" in leyden("export", "--db", str(other)).out


@pytest.mark.usefixtures("filled")
def test_what_was_changed_in_a_file_is_noticed(leyden: Leyden, tmp_path: Path) -> None:
    changed = leyden("export").out.replace("find a flight", "find a train", 1)
    said = leyden("import", "leyden", "-", "--db", str(tmp_path / "other.db"), input=changed)
    assert said.code == 1
    assert "the digest of the export does not fit" in said.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the input is empty"),
        ("hello\n", "no export of Leyden"),
        ('{"type":"header","format":"leyden-export","version":3,"leyden":"9.1"}\n', "reads up to 2"),
        ('{"type":"header","format":"leyden-export","version":1}\n{"type":"span"}\n', "Line 2 of the export"),
        ('{"type":"header","format":"leyden-export","version":1}\n{"type":"mystery"}\n', "Line 2 of the export"),
        ('{"type":"header","format":"leyden-export","version":1}\n{"type":"end","counts":{"span":2},"digest":""}\n', "2 lines of type span"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_one_clear_line(leyden: Leyden, text: str, told: str) -> None:
    said = leyden("import", "leyden", "-", input=text)
    assert said.code == 1
    assert told in said.err
    assert len(said.err.splitlines()) <= 2
