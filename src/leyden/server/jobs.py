"""What happens without a request: the watchdog, the search index, and the copying of SQLite's write-ahead log.

Each job is a plain function of the context, run in one background thread; one that fails is logged and tried again.
"""

import logging
import threading
import time
from collections.abc import Callable

from leyden.errors import LeydenError
from leyden.server.context import Context
from leyden.store import attempts, indexing

log = logging.getLogger("leyden.jobs")

CHECKPOINT_S = 1.0
INDEX_S = 0.25
_INDEX_SOME = 25
_YIELD_S, _YIELDS = 0.02, 10


def watch(context: Context) -> int:
    """One scan of the watchdog; how many rollouts it looked at."""
    settings, now = context.settings, time.time()
    with context.store.database.read() as tx:
        if not attempts.is_due(tx, now=now):
            return 0
    return context.store.writer.run(
        lambda tx: attempts.scan(
            tx, now=now, lease_s=settings.lease_s, quiet_s=settings.quiet_s, up_since=context.started
        )
    )


def index_texts(context: Context, stop: threading.Event) -> int:
    """Index what packed rollouts say, until nothing is left or `stop` is set; how many rollouts.

    Gives way to every other write, at most a fifth of a second for each of its own: under full load the index falls behind, and
    catches up afterwards.
    """
    store, done = context.store, 0

    def pause() -> bool:
        for _ in range(_YIELDS):
            if not store.writer.pending or stop.wait(_YIELD_S):
                break
        return not stop.is_set()

    while not stop.is_set():
        with store.database.read() as tx:
            todo = indexing.pending(tx, limit=_INDEX_SOME)
            sweep = not todo and indexing.needs_sweep(tx)
        if sweep:
            indexing.sweep(store, pause=pause)
        if todo and not indexing.index_rollouts(store, todo, pause=pause):
            return done
        done += len(todo)
        if len(todo) < _INDEX_SOME:
            break
    return done


class Jobs:
    """The background threads of one server; `stop` waits for a job in progress to end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        plan: list[tuple[str, float, Callable[[], object]]] = [
            ("leyden-watchdog", context.settings.watchdog_s, lambda: watch(context)),
            ("leyden-index", INDEX_S, lambda: index_texts(context, self._stop)),
            ("leyden-checkpoint", CHECKPOINT_S, context.store.writer.checkpoint),
        ]
        self._threads = [
            threading.Thread(target=self._repeat, args=(pause_s, job), name=name, daemon=True)
            for name, pause_s, job in plan
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all jobs."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, pause_s: float, job: Callable[[], object]) -> None:
        while not self._stop.wait(pause_s):
            try:
                job()
            except LeydenError as error:
                log.warning("%s: %s", threading.current_thread().name, error)
            except Exception:
                log.exception("%s failed", threading.current_thread().name)
