"""What happens without a request: the watchdog, packing, the search index, retention, tables of coming days, SQLite's log.

Each job is a plain function of the context, run in a background thread of its own; one that fails is logged and tried again.
A job that is `alone` runs on one replica at a time: see `store/election.py`.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from leyden.errors import LeydenError
from leyden.server.context import Context
from leyden.server.indexing import PAUSE_S as INDEX_S
from leyden.server.indexing import Indexing
from leyden.server.packing import PAUSE_S as PACK_S
from leyden.server.packing import Packing
from leyden.server.watchdog import Watchdog
from leyden.store import partitions, retention
from leyden.store.election import Election
from leyden.store.retention import Pruned

log = logging.getLogger("leyden.jobs")

# Under full load a second writes 60 MB of log, which the disk takes in a tenth of a second; a quarter of that nobody feels.
CHECKPOINT_S = 0.25
# Tables of the coming days are made a week ahead, so that an hour more or less does not matter.
PARTITIONS_S = 3600.0


def partition_ahead(context: Context) -> int:
    """Make the tables of the coming days where spans lie in one per day; how many were missing. Finishes dropped days too."""
    store = context.store
    if store.database.is_sqlite:
        return 0
    today = datetime.fromtimestamp(time.time(), UTC).date()
    with store.database.read() as tx:
        missing = partitions.lacks(tx, today=today)
    while store.writer.run(partitions.clear):
        pass
    return store.writer.run(lambda tx: partitions.ahead(tx, today=today)) if missing else 0


def forget(context: Context, enough: Callable[[], bool] = lambda: False) -> Pruned:
    """Apply the retention policies of every project; what went. enough: True ends the work early."""
    otherwise = retention.default(context.settings)
    gone = retention.apply(context.store, now=time.time(), otherwise=otherwise, enough=enough)
    if gone.rollouts:
        log.info("retention deleted %d rollouts with %d spans", gone.rollouts, gone.spans)
    return gone


class Job(NamedTuple):
    """Something to do again and again. `alone`: by one of all replicas, for it concerns the database and not this process."""

    name: str
    pause_s: float
    run: Callable[[], object]
    alone: bool = False


def plan(context: Context, stop: threading.Event) -> list[Job]:
    """Every job of a server; those that take long look at `stop`. A pause of 0 leaves a job out."""
    settings = context.settings
    jobs = [
        Job("watchdog", settings.watchdog_s, Watchdog(context), alone=True),
        Job("packing", PACK_S, Packing(context, stop), alone=True),
        Job("indexing", INDEX_S, Indexing(context, stop), alone=True),
        Job("retention", settings.retention_s, lambda: forget(context, stop.is_set), alone=True),
        Job("partitions", PARTITIONS_S, lambda: partition_ahead(context), alone=True),
        Job("checkpoint", CHECKPOINT_S, context.store.writer.checkpoint),
    ]
    return [job for job in jobs if job.pause_s]


class Jobs:
    """The background threads of one server; `stop` waits for a job in progress to end."""

    def __init__(self, context: Context, jobs: list[Job] | None = None) -> None:
        self._stop = threading.Event()
        jobs = plan(context, self._stop) if jobs is None else jobs
        if "jobs" not in context.settings.roles_here:
            jobs = [job for job in jobs if not job.alone]
        self._election = Election(context.store.database, [job.name for job in jobs if job.alone])
        self._threads = [
            threading.Thread(target=self._repeat, args=(job,), name=f"leyden-{job.name}", daemon=True)
            for job in jobs
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all jobs, and let other replicas lead."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._election.close()

    def _repeat(self, job: Job) -> None:
        while not self._stop.wait(job.pause_s):
            if job.alone and not self._election.leads(job.name):
                continue
            try:
                job.run()
            except LeydenError as error:
                log.warning("%s: %s", job.name, error)
            except Exception:
                log.exception("%s failed", job.name)
