"""The command as a user runs it: in this process through its own entry point, or as a program of its own."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from cli.program import LEYDEN, environment
from leyden.cli.main import main
from leyden.ingest.record import RecordedRun
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Leyden = Callable[..., Said]


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database that commands use when they are not told another; not there yet."""
    path = tmp_path / "leyden.db"
    monkeypatch.setenv("LEYDEN_DB", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.fixture
def leyden(db: Path) -> Leyden:
    """Run `leyden WORDS…` and see its exit code and both outputs."""

    def call(*words: str, input: str | None = None) -> Said:
        done = CliRunner().invoke(main, list(words), input=input, catch_exceptions=False)
        return Said(done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def stored(db: Path) -> Callable[..., None]:
    """Store finished runs in the database."""

    def store(*runs: RecordedRun, into: Path = db) -> None:
        with Client(app=create_app(Settings(db=str(into)))) as client:
            client.import_runs(runs)

    return store


class Program(NamedTuple):
    """A running `leyden`. `first` is the first line it printed."""

    process: "subprocess.Popen[str]"
    first: str

    @property
    def url(self) -> str:
        return self.first.split()[-1]

    def stop(self, signal: int) -> Said:
        """Send a signal and wait for the end."""
        self.process.send_signal(signal)
        # Not `communicate`: it would miss what was read ahead with the first line.
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return Said(self.process.wait(30), self.first + out, err)


@pytest.fixture
def started(db: Path) -> Callable[..., Any]:
    """A context manager that runs `leyden WORDS…` (or another program) and waits for its first line."""

    @contextmanager
    def start(*words: str, program: Sequence[str] = LEYDEN) -> Iterator[Program]:
        process = subprocess.Popen(
            [*program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PYTHONUNBUFFERED="1"),
        )
        try:
            assert process.stdout is not None
            yield Program(process, process.stdout.readline())
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=30)

    return start
