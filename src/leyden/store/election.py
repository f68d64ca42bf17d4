"""Which replica runs what must run once: one session of PostgreSQL holds a lock for each such job.

Promises: of all replicas of a database at most one leads a job at a time, and one soon does: when the leader dies or its
connection is cut PostgreSQL lets the lock go at once, when the leader hangs or its network falls silent after IDLE_S at most,
and another takes it at its next beat. On SQLite everybody leads: there is one server.
A job that began while its replica led may run on while another begins it; so jobs are written such that two at once do no
harm (rows are locked, or the second finds nothing left to do). Leading saves work, it does not guard data.
Refuses to know: what the jobs do.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from leyden.store.engine import Database
from leyden.store.session import connect_alone

log = logging.getLogger("leyden.election")

BEAT_S = 1.0
# A leader that was not heard for so long leads no more: it stops trusting its lock before PostgreSQL ends its session.
TRUST_S, IDLE_S = 6.0, 10
TRY = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"


class Election:
    """Takes part for these jobs until `close`."""

    def __init__(self, database: Database, jobs: Iterable[str]) -> None:
        self._database, self._jobs = database, list(jobs)
        self._held: set[str] = set()
        self._heard = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="leyden-election", daemon=True)
        self._takes_part = not database.is_sqlite and bool(self._jobs)
        if self._takes_part:
            self._thread.start()

    def leads(self, job: str) -> bool:
        """Whether this replica is the one to run the job now."""
        if not self._takes_part:
            return True
        return job in self._held and time.monotonic() - self._heard < TRUST_S

    def close(self) -> None:
        """Let go of every lock."""
        self._closing.set()
        if self._takes_part:
            self._thread.join(2)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                with connect_alone(self._database, name="leyden election", idle_s=IDLE_S) as connection:
                    while not self._closing.is_set():
                        self._beat(connection)
                        self._closing.wait(BEAT_S)
            except Exception as error:  # the thread outlives whatever the database does
                log.info("no election without the database: %s", error)
            self._held = set()
            self._closing.wait(BEAT_S)

    def _beat(self, connection: Any) -> None:
        """Take what is free, or at least show that the session lives. Raises the driver's error when it does not."""
        asked = time.monotonic()
        for job in self._jobs:
            if job not in self._held and connection.execute(TRY, (f"leyden job {job}",)).fetchone()[0]:
                self._held = self._held | {job}
                log.info("this replica leads %s", job)
        connection.execute("SELECT 1")
        self._heard = asked
