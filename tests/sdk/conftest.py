"""A sink to send to, and an SDK that is switched off after every test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import leyden
from fakes.sink import Sink
from leyden.sdk import config, content


@pytest.fixture
def sink() -> Iterator[Sink]:
    it = Sink()
    yield it
    it.close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("LEYDEN_URL", "LEYDEN_API_KEY", "LEYDEN_ENABLED", "LEYDEN_SAMPLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEYDEN_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setattr(content, "_complained", False)
    yield
    leyden.shutdown(timeout_s=1)
    # Whatever a test provoked, nothing of ours went wrong inside.
    assert config.running is None


@pytest.fixture
def start(sink: Sink) -> Callable[..., config.Config]:
    """Switch the SDK on, sending to the sink when told to (a flush interval nobody waits for)."""

    def begin(**options: Any) -> config.Config:
        return leyden.init(options.pop("url", sink.url), **{"flush_s": 600.0, **options})

    return begin
