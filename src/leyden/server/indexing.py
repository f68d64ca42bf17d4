"""The indexing job: what packed rollouts say goes into the search index, behind everybody who writes and reads."""

import threading
import time

from leyden.server.context import Context
from leyden.store import indexing

PAUSE_S = 0.25
SHARE = 0.4  # of one core
_TOGETHER = 25  # rollouts
_YIELD_S, _PATIENCE_S = 0.02, 0.5


class Indexing:
    """Indexes what is due, until nothing is left or `stop` is set.

    Gives way to every other write, at most half a second for each of its own: under full load the index falls behind, and
    catches up afterwards.
    """

    def __init__(self, context: Context, stop: threading.Event) -> None:
        self._store, self._stop = context.store, stop
        self._rested = time.perf_counter()

    def __call__(self) -> None:
        """One round. Raises StoreError and its kinds."""
        while not self._stop.is_set():
            with self._store.database.read() as tx:
                due = indexing.pending(tx, limit=_TOGETHER)
                is_littered = not due and indexing.needs_sweep(tx)
            if is_littered:
                indexing.sweep(self._store, pause=self._pause)
            self._rested = time.perf_counter()
            if not due or not indexing.index_rollouts(self._store, due, pause=self._pause):
                return

    def _pause(self) -> bool:
        """Rest for the time that was worked, and longer while others wait for the writer. False when stopping."""
        worked = time.perf_counter() - self._rested
        if self._stop.wait(min(worked * (1 / SHARE - 1), _PATIENCE_S)):
            return False
        patience = time.monotonic() + _PATIENCE_S
        while self._store.writer.pending and time.monotonic() < patience:
            if self._stop.wait(_YIELD_S):
                return False
        self._rested = time.perf_counter()
        return True
