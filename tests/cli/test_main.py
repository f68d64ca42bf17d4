"""How every command begins and ends: help, missing packages, errors, pipes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import leyden as package
from cli.program import LEYDEN, environment
from cli.runs import run, span
from leyden.cli.agl import main as agl
from leyden.cli.main import main

# click keeps the help option that a command was first asked for: ask as the program does.
SETTINGS: dict[str, Any] = main.context_settings
HEAVY = ("alembic", "fastapi", "rich", "sqlalchemy", "starlette", "uvicorn")


def program(code: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=60,
        check=False,
    )


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


EVERY = [*commands(main, ("leyden",)), *commands(agl, ("agl",))]


def test_help_loads_no_server_and_no_command() -> None:
    code = (
        "import sys; from leyden.cli.main import main\n"
        "try: main(['--help'])\n"
        f"finally: print('LOADED', [m for m in {HEAVY} if m in sys.modules], 'leyden.cli.up' in sys.modules)"
    )
    done = program(code)
    assert "LOADED [] False" in done.stdout


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ("uvicorn", ["up"]),
        ("fastapi", ["up"]),
        ("rich", ["import", "tau-bench", "."]),
        ("sqlalchemy", ["import", "tau-bench", "."]),
        ("rich", ["info"]),
        ("fastapi", ["info"]),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(
    absent: str, words: list[str], tmp_path: Path
) -> None:
    database = tmp_path / "there.db"
    database.touch()
    code = f"import sys; sys.modules[{absent!r}] = None; from leyden.cli.main import main; main()"
    done = program(code, *words, LEYDEN_DB=str(database))
    assert done.returncode == 1
    assert 'needs: pip install "leyden[server]"' in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_every_help_explains_itself_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    ctx = click.Context(command, info_name=" ".join(path), **SETTINGS)
    text = command.get_help(ctx)
    assert f"  {' '.join(path)}" in text.split("Example")[1]
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_every_example_in_a_help_parses(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The list of the formats of an import has a line that begins with "leyden" too.
    examples = (command.help or "").partition("Example")[2]
    for line in examples.splitlines():
        words = line.split("&&")[0].split("|")[0].split()
        if words[:1] not in (["leyden"], ["agl"]) or len(words) < 2 or words[0] != path[0]:
            continue
        words = words[: words.index("#")] if "#" in words else words
        top = main if words[0] == "leyden" else agl
        _parse(top, words[1:])


def _parse(group: click.Group, words: list[str]) -> None:
    ctx = click.Context(group)
    command = group.get_command(ctx, words[0])
    assert command is not None, words
    if isinstance(command, click.Group) and len(words) > 1 and not words[1].startswith("-"):
        _parse(command, words[1:])
        return
    Path("runs").mkdir(exist_ok=True)  # the path of an example is the reader's
    command.make_context(words[0], words[1:], **SETTINGS)


def test_the_version_is_one_line(leyden: Callable[..., Any]) -> None:
    assert leyden("--version").out == f"leyden {package.__version__}\n"


@pytest.mark.parametrize("words", [["bogus"], ["show"], ["rollouts", "--limit", "0"], ["findings", "nope"], ["up", "--port", "x"]])  # fmt: skip
def test_a_usage_error_exits_2_and_names_the_help(leyden: Callable[..., Any], words: list[str]) -> None:
    said = leyden(*words)
    assert said.code == 2
    assert "--help" in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["search", "spans", "rollouts", "export"])
def test_a_word_that_was_read_as_an_option_is_told_where_it_goes(
    leyden: Callable[..., Any], stored: Callable[..., None], command: str
) -> None:
    stored(run("ro-1", span("ro-1", "s1")))
    said = leyden(command, "-test")
    assert (said.code, said.out) == (2, "")
    *_, hint = said.err.splitlines()
    assert hint == f"  words that begin with - go after --: leyden {command} -- refund -test"
    assert leyden(command, "--", "refund", "-test").code == 0
    assert "go after" not in leyden(command, "--stroe").err, "a misspelt option is no word"


@pytest.mark.parametrize("words", [["rollouts"], ["info"], ["analyze"], ["show", "ro-1"], ["findings"], ["keys", "list"]])  # fmt: skip
def test_a_database_that_is_not_there_is_named_and_not_made(
    leyden: Callable[..., Any], db: Path, words: list[str]
) -> None:
    said = leyden(*words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"Error: There is no database at {db}\n")
    assert "leyden up" in said.err
    assert not db.exists()


def test_a_file_that_is_no_database_is_an_error_of_two_lines(
    leyden: Callable[..., Any], tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("not a database at all, just some text that is long enough to be looked at\n" * 20)
    said = leyden("info", "--db", str(note))
    assert said.code == 1
    assert str(note) in said.err
    assert len(said.err.splitlines()) <= 2


def test_no_server_at_the_address_is_an_error_of_two_lines(leyden: Callable[..., Any]) -> None:
    said = leyden("rollouts", "--store", "http://127.0.0.1:9")
    assert (said.code, said.out) == (1, "")
    assert "http://127.0.0.1:9" in said.err
    assert "leyden up" in said.err


def test_store_and_db_together_are_refused(leyden: Callable[..., Any]) -> None:
    assert leyden("info", "--store", "http://127.0.0.1:9", "--db", "x.db").code == 2


def test_an_address_that_is_none_is_a_usage_error(leyden: Callable[..., Any]) -> None:
    said = leyden("info", "--store", "localhost:4747")
    assert said.code == 2
    assert "http://" in said.err


def test_the_option_db_wins_over_a_server_named_in_the_environment(
    leyden: Callable[..., Any], stored: Callable[..., None], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(run("ro-1", span("ro-1", "s1")))
    monkeypatch.setenv("LEYDEN_URL", "http://127.0.0.1:9")
    assert leyden("rollouts").code == 1
    assert "ro-1" in leyden("rollouts", "--db", str(db)).out


def test_a_bad_setting_is_named(leyden: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_PORT", "many")
    said = leyden("up")
    assert said.code == 1
    assert "LEYDEN_PORT" in said.err


def test_a_defect_is_one_line_and_its_traceback_is_a_setting_away(
    leyden: Callable[..., Any], stored: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("the jar is\x1b[2J cracked")

    monkeypatch.setattr("leyden.sdk.client.Client.info", broken)
    said = leyden("info")
    assert said.code == 1
    assert said.err.splitlines()[0] == "Error: ZeroDivisionError: the jar is␛[2J cracked"
    assert "LEYDEN_DEBUG=1" in said.err
    assert "Traceback" not in said.err
    monkeypatch.setenv("LEYDEN_DEBUG", "1")
    assert "Traceback" in leyden("info").err


def test_a_reader_that_leaves_ends_the_command_quietly(stored: Callable[..., None]) -> None:
    stored(run("ro-1", *(span("ro-1", f"{i:016x}", name="x" * 200) for i in range(2000))))
    shown = subprocess.Popen(
        [*LEYDEN, "show", "ro-1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert shown.stdout is not None
    assert shown.stderr is not None
    shown.stdout.readline()
    shown.stdout.close()
    error = shown.stderr.read()
    shown.stderr.close()
    assert (shown.wait(30), error) == (141, "")
