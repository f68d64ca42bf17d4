"""What happens without a request: the watchdog, packing, the search index, retention, the copying of SQLite's write-ahead log.

Each job is a plain function of the context, run in one background thread; one that fails is logged and tried again.
"""

import logging
import threading
import time
from collections.abc import Callable

from leyden.errors import LeydenError
from leyden.server.context import Context
from leyden.server.indexing import PAUSE_S as INDEX_S
from leyden.server.indexing import Indexing
from leyden.server.packing import PAUSE_S as PACK_S
from leyden.server.packing import Packing
from leyden.server.watchdog import Watchdog
from leyden.store import retention
from leyden.store.retention import Pruned

log = logging.getLogger("leyden.jobs")

CHECKPOINT_S = 1.0


def forget(context: Context, enough: Callable[[], bool] = lambda: False) -> Pruned:
    """Apply the retention policies of every project; what went. enough: True ends the work early."""
    otherwise = retention.default(context.settings)
    gone = retention.apply(context.store, now=time.time(), otherwise=otherwise, enough=enough)
    if gone.rollouts:
        log.info("retention deleted %d rollouts with %d spans", gone.rollouts, gone.spans)
    return gone


class Jobs:
    """The background threads of one server; `stop` waits for a job in progress to end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        plan: list[tuple[str, float, Callable[[], object]]] = [
            ("leyden-watchdog", context.settings.watchdog_s, Watchdog(context)),
            ("leyden-packing", PACK_S, Packing(context, self._stop)),
            ("leyden-indexing", INDEX_S, Indexing(context, self._stop)),
            ("leyden-checkpoint", CHECKPOINT_S, context.store.writer.checkpoint),
            ("leyden-retention", context.settings.retention_s, lambda: forget(context, self._stop.is_set)),
        ]
        self._threads = [
            threading.Thread(target=self._repeat, args=(pause_s, job), name=name, daemon=True)
            for name, pause_s, job in plan
            if pause_s
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
