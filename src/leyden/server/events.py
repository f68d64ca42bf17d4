"""Those who watch live: what changed goes to each watcher of the project and topic, through a bounded queue of its own.

Promises: events reach a watcher in the order they were committed here; the same event twice in a row to a watcher that has
not yet fetched the first is one. A watcher that falls behind is let go with a "gap", and one whose events may have been lost
(the database was away) hears "gap" and stays. Events are hints: what is true is in the store.
Refuses to know: HTTP (`routes/events.py`).
"""

import asyncio
import threading
from collections.abc import Collection, Iterable

from leyden.store.notices import EVERYTHING, Notice
from leyden.types import StoreEvent

# What a watcher may leave unread.
MOST_WAITING = 1000
GAP = "gap"


class Watcher:
    """One client's view: its project, topics and perhaps one rollout. Make it with `Watchers.add`, in an event loop."""

    def __init__(self, project: str, *, topics: frozenset[str], rollout_id: str | None) -> None:
        self.is_over = False
        self._project, self._topics, self._rollout_id = project, topics, rollout_id
        self._waiting: dict[StoreEvent, None] = {}  # a set that keeps its order
        self._lock = threading.Lock()
        self._loop, self._some = asyncio.get_running_loop(), asyncio.Event()

    def offer(self, events: Iterable[StoreEvent]) -> None:
        """Queue those it asked for. From any thread."""
        with self._lock:
            for event in events:
                if not self.is_over and self._wants(event):
                    self._waiting.pop(event, None)
                    self._waiting[event] = None
            if len(self._waiting) > MOST_WAITING:
                self._waiting = {self.gap("the client read too slowly and was let go"): None}
                self.is_over = True
            wake = bool(self._waiting)
        if wake:
            self._wake()

    def end(self) -> None:
        """Let it go after what waits."""
        self.is_over = True
        self._wake()

    def gap(self, why: str) -> StoreEvent:
        """The event that says: read again."""
        return StoreEvent(GAP, "", why, self._project)

    async def next(self, timeout_s: float) -> list[StoreEvent]:
        """What waits, as soon as something does; [] after `timeout_s` or at the end."""
        if not self._waiting and not self.is_over:
            try:
                await asyncio.wait_for(self._some.wait(), timeout_s)
            except TimeoutError:
                return []
        with self._lock:
            self._some.clear()
            found, self._waiting = list(self._waiting), {}
        return found

    def _wants(self, event: StoreEvent) -> bool:
        if event.project != self._project or event.topic == GAP:
            return event.topic == GAP and event.project == self._project
        is_other = self._rollout_id is not None and event.topic != "findings" and event.id != self._rollout_id
        return event.topic in self._topics and not is_other

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._some.set)


class Watchers:
    """All watchers of one server."""

    def __init__(self) -> None:
        self._all: set[Watcher] = set()
        self._closed = False
        self._lock = threading.Lock()

    def add(self, project: str, topics: frozenset[str], rollout_id: str | None = None) -> Watcher:
        """A watcher that hears everything from now on. `remove` it in the end."""
        watcher = Watcher(project, topics=topics, rollout_id=rollout_id)
        with self._lock:
            watcher.is_over = self._closed
            self._all.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Tell it nothing more."""
        with self._lock:
            self._all.discard(watcher)

    def tell(self, notices: Collection[Notice]) -> None:
        """Hand on what changed. From any thread; next to nothing while nobody watches."""
        if not self._all:
            return
        events = [notice for notice in notices if isinstance(notice, StoreEvent)]
        with self._lock:
            watchers = list(self._all)
        for watcher in watchers:
            lost = [watcher.gap("events may have been missed")] if EVERYTHING in notices else []
            watcher.offer([*lost, *events])

    def close(self) -> None:
        """Let everybody go, also who comes later."""
        with self._lock:
            self._closed, watchers = True, list(self._all)
        for watcher in watchers:
            watcher.end()
