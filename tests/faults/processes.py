"""Real `leyden up` processes on free ports, and waiting without sleeping blindly."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

SOURCE = Path(__file__).parent.parent.parent / "src"
LEYDEN = [sys.executable, "-c", "from leyden.cli.main import main; main()"]

T = TypeVar("T")


def until(look: Callable[[], T], *, timeout_s: float = 30.0) -> T:
    """What `look` finds, as soon as that is true. Fails when it stays false for `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"still {found!r} after {timeout_s:g} s"
        time.sleep(0.01)
    return found


def environment(**given: str) -> dict[str, str]:
    """This environment without anybody's settings, with the given ones."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LEYDEN_")}
    return {**own, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1", **given}


def leyden(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a `leyden` command to its end."""
    return subprocess.run(
        [*LEYDEN, *words], capture_output=True, text=True, timeout=60, check=False, env=environment(**env)
    )


class Server:
    """One running `leyden up` (or other words): its url, and ways to end it."""

    def __init__(self, database: str, *, words: Sequence[str] = ("up",), **env: str) -> None:
        self.process = subprocess.Popen(
            [*LEYDEN, *words, "--port", "0", "--db", database, "--log-level", "warning"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env),
        )  # fmt: skip
        self.log: list[str] = []
        assert self.process.stdout
        first = self.process.stdout.readline()
        # Somebody has to read on, or a full pipe would stop the server.
        self._readers = [
            threading.Thread(target=self._keep, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        if " listens on " not in first:
            self.kill()
            raise AssertionError(f"leyden {words[0]} did not start: {first}{''.join(self.log)}")
        self.url = first.split(" listens on ")[1].strip()

    def _keep(self, stream: "Iterator[str]") -> None:
        self.log.extend(stream)

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self.process.kill()
        self._ended()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.terminate()
        return self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(30)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return code


@contextmanager
def running(database: str, *, words: Sequence[str] = ("up",), **env: str) -> Iterator[Server]:
    """A server that is gone afterwards, whatever happens."""
    server = Server(database, words=words, **env)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
