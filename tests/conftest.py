"""What every test may ask for: recorded runs, two databases, settings, a client, a clock.

With `LEYDEN_REQUIRE_ALL=1` a skipped test is a failed one: nothing may be left out without somebody noticing.
"""

import importlib.util
import os
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import postgres_cluster

if TYPE_CHECKING:
    from leyden.sdk.client import Client
    from leyden.settings import Settings

ROOT = Path(__file__).parent.parent
NOTHING_MAY_SKIP = os.environ.get("LEYDEN_REQUIRE_ALL") == "1"

# The published Agent Lightning client weighs 800 MB: its tests are there once `make compat` has installed it.
_HAS_PUBLISHED_CLIENT = bool(os.environ.get("LEYDEN_COMPAT_PYTHON")) or (ROOT / ".venv-compat").exists()
collect_ignore = [] if _HAS_PUBLISHED_CLIENT else ["compat"]
# The decoder in C is optional: `make setup` builds it where there is a C compiler.
if importlib.util.find_spec("leyden_native") is None:
    collect_ignore.append("ingest/test_native.py")

# A busy machine makes examples slowly; that says nothing about what they show.
hypothesis_settings.register_profile(
    "leyden", hypothesis_settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("leyden")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
_OUR_SETTINGS = ("LEYDEN_DATA", "LEYDEN_REQUIRE_ALL", "LEYDEN_TEST_POSTGRES")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: Report) -> Report:
    if NOTHING_MAY_SKIP and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under LEYDEN_REQUIRE_ALL=1: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _settings_of_this_machine_stay_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's LEYDEN_* variables and data directory never reach a test."""
    for name in os.environ:
        if name.startswith("LEYDEN_") and name not in _OUR_SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded runs: `LEYDEN_DATA`, else ../shared/data beside the checkout."""
    path = Path(os.environ.get("LEYDEN_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no recorded runs at {path}; set LEYDEN_DATA")
    return path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server's URL: `LEYDEN_TEST_POSTGRES`, else one started for this session (one per xdist worker)."""
    if given := os.environ.get("LEYDEN_TEST_POSTGRES"):
        yield given
        return
    if not postgres_cluster.installed():
        pytest.skip("no PostgreSQL: run make setup or set LEYDEN_TEST_POSTGRES")
    with postgres_cluster.cluster() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, dropped after the test."""
    import psycopg

    name = f"leyden_test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "leyden.db")
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def settings(database_url: str) -> "Settings":
    """Settings as a user without any environment has them, on the fresh database."""
    from leyden.settings import Settings

    return Settings(db=database_url)


@pytest.fixture
def client(settings: "Settings") -> "Iterator[Client]":
    """A client of a server inside this process: the real application and the real database, no port."""
    from leyden.sdk.client import Client
    from leyden.server.app import create_app

    with Client(app=create_app(settings)) as client:
        yield client


@contextmanager
def serving(settings: "Settings", *, port: int = 0) -> Iterator[str]:
    """The address of a real server on loopback; `port` 0 takes a free one."""
    import uvicorn

    from leyden.server.app import create_app
    from leyden.server.port import bind, config

    with bind("127.0.0.1", port) as listening:
        server = uvicorn.Server(config(create_app(settings)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    """The address of a real server over a fresh SQLite file."""
    from leyden.settings import Settings

    with serving(Settings(db=str(tmp_path / "served.db"))) as url:
        yield url


@dataclass
class Clock:
    """The time of day, in unix seconds, as the test sets it."""

    now: float = 1_800_000_000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still until the test moves it; `time.time()` reads it everywhere."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    monkeypatch.setattr(time, "time_ns", lambda: int(clock.now * 1_000_000) * 1000)
    return clock


def pytest_report_header() -> list[Any]:
    return [f"leyden: skips are failures: {NOTHING_MAY_SKIP}"]
