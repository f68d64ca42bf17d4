"""What every route works with: the open store, the settings, and the bell that wakes those who wait."""

import asyncio
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leyden.server.events import Watchers
from leyden.settings import Settings
from leyden.store.listening import Listener
from leyden.store.notices import EVERYTHING, Notice
from leyden.store.opening import Store
from leyden.store.price_lists import PriceLists

if TYPE_CHECKING:
    from leyden.gateway.app import Gateway

# Another process may commit what a waiter here waits for: nobody sleeps longer than this without looking…
POLL_S = 0.5
# … or than this while the other replicas tell what they commit.
TOLD_POLL_S = 30.0


class Bell:
    """Wakes coroutines when a named thing changed ("queue:default", "rollout:ro-…").

    A waiter first asks for its event, then looks at the store, then sleeps: what happens in between sets the event.
    """

    def __init__(self) -> None:
        self.is_told = False  # whether other replicas tell what they commit
        self._waiting: dict[Notice, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._lock = threading.Lock()

    @property
    def poll_s(self) -> float:
        """The longest sleep without a look at the store, seconds."""
        return TOLD_POLL_S if self.is_told else POLL_S

    def ring(self, names: Collection[Notice]) -> None:
        """Wake everyone who waits for one of the names, or everyone there is for EVERYTHING. From any thread."""
        if not self._waiting:
            return
        with self._lock:
            heard = self._waiting if EVERYTHING in names else names
            woken = {waiter for name in heard for waiter in self._waiting.get(name, ())}
        for loop, event in woken:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def listen(self, names: Iterable[str]) -> "Listening":
        """A context manager whose `wait(timeout_s)` sleeps until one of the names rings."""
        return Listening(self, list(names))

    def add(self, name: str, waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        """Start waking a waiter."""
        with self._lock:
            self._waiting.setdefault(name, set()).add(waiter)

    def remove(self, name: str, waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        """Stop waking it."""
        with self._lock:
            left = self._waiting.get(name, set())
            left.discard(waiter)
            if not left:
                self._waiting.pop(name, None)


class Listening:
    """One coroutine's subscription to a few names."""

    def __init__(self, bell: Bell, names: list[str]) -> None:
        self._bell, self._names = bell, names
        self._event = asyncio.Event()
        self._waiter = (asyncio.get_running_loop(), self._event)

    def __enter__(self) -> "Listening":
        for name in self._names:
            self._bell.add(name, self._waiter)
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._names:
            self._bell.remove(name, self._waiter)

    async def wait(self, timeout_s: float) -> None:
        """Sleep until a name rings, at most `timeout_s` and at most the poll interval."""
        try:
            await asyncio.wait_for(self._event.wait(), min(timeout_s, self._bell.poll_s))
        except TimeoutError:
            return
        self._event.clear()


@dataclass
class Context:
    """The server's state. Nothing here that the database cannot rebuild."""

    settings: Settings
    store: Store
    started: float
    bell: Bell = field(default_factory=Bell)
    watchers: Watchers = field(default_factory=Watchers)
    prices: PriceLists = field(init=False)
    gateway: "Gateway | None" = None  # None without the role, or without its packages
    cors_origins: frozenset[str] = frozenset()  # whose pages may call without a key, besides this machine's
    draining: bool = False  # shutting down: long-polls and streams of events end at once

    def __post_init__(self) -> None:
        self.prices = PriceLists(self.store)

    def listen(self) -> Listener:
        """Start to hear what other replicas commit; close it at the end."""
        return Listener(self.store.database, tell=self.store.writer.tell, linked=self._linked)

    def drain(self) -> None:
        """Let those who wait go, now and from now on."""
        self.draining = True
        self.bell.ring([EVERYTHING])
        self.watchers.close()
        if self.gateway is not None:
            self.gateway.hold.stop()

    def _linked(self, is_told: bool) -> None:
        self.bell.is_told = is_told
