"""The server's clock is set, or its machine slept: nobody who works loses work, and nobody who died seems alive for as long.

Promised: after a jump, forward or backward, an attempt has a whole lease again to show life; a worker that is gone loses its
attempt after that lease, not after the jump. The queue keeps its order.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from leyden.sdk.client import Client
from leyden.server.app import Server, create_app
from leyden.server.watchdog import Watchdog
from leyden.settings import Settings

LEASE_S = 100.0
DAY_S = 86_400.0


@dataclass
class Clocks:
    """The time of day and the steady clock, both set by the test."""

    now: float = 1_800_000_000.0
    steady: float = 1_000.0

    def pass_(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.steady += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the time of day."""
        self.now += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(time, "time", lambda: clocks.now)
    return clocks


@dataclass
class Scene:
    """A server, a client, and the server's watchdog, which runs when the test says so."""

    client: Client
    watchdog: Watchdog

    def claim(self, worker: str) -> tuple[str, str]:
        self.client.enqueue("work")
        (item,) = self.client.dequeue(worker_id=worker)
        return item.rollout_id, item.attempt.attempt_id

    def status(self, rollout_id: str) -> str:
        return str(self.client.rollout(rollout_id).status)


@pytest.fixture
def scene(settings: Settings, clocks: Clocks) -> Iterator[Scene]:
    app: Server = create_app(replace(settings, lease_s=LEASE_S, watchdog_s=3600.0))
    with Client(app=app) as client:
        yield Scene(client, Watchdog(app.context, steady=lambda: clocks.steady))


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_jump_ends_nobody_who_works(scene: Scene, clocks: Clocks, jump_s: float) -> None:
    rollout_id, _ = scene.claim("w")
    clocks.pass_(LEASE_S - 1)
    clocks.jump(jump_s)
    scene.watchdog()
    clocks.pass_(LEASE_S - 1)
    scene.watchdog()
    assert scene.status(rollout_id) == "preparing"


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_after_a_jump_the_dead_lose_their_work_within_a_lease(
    scene: Scene, clocks: Clocks, jump_s: float
) -> None:
    rollout_id, _ = scene.claim("w")
    clocks.jump(jump_s)
    scene.watchdog()
    clocks.pass_(LEASE_S + 1)
    scene.watchdog()
    assert scene.status(rollout_id) == "requeuing"


def test_the_queue_keeps_its_order_when_the_clock_goes_back(scene: Scene, clocks: Clocks) -> None:
    first = scene.client.enqueue("first").rollout_id
    clocks.jump(-DAY_S)
    second = scene.client.enqueue("second").rollout_id
    claimed: list[Any] = scene.client.dequeue(limit=2)
    assert [item.rollout_id for item in claimed] == [first, second]
