"""Each project's own prices, in memory for those who price calls by the thousand.

Promises: asking never waits for the database. What is changed through this server holds from the next call on, what a replica
changes once it tells, what anybody else changes within `REREAD_S`.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Collection

from leyden.errors import StoreError
from leyden.ingest.prices import NO_OVERRIDES, Overrides, is_loaded, load
from leyden.store import prices
from leyden.store.notices import EVERYTHING, Notice
from leyden.store.opening import Store

log = logging.getLogger("leyden.server")

# A command may change the same database beside this server, and nobody tells.
REREAD_S = 15.0


class PriceLists:
    """The overrides of every project; one per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = threading.Lock()
        self._lists: dict[str, Overrides] = {}
        self._read_at = 0.0
        self.reread()
        store.writer.listeners.append(self._changed)

    def of(self, project: str) -> Overrides:
        """The prices of a project's own, as they were at most `REREAD_S` ago."""
        if time.monotonic() - self._read_at > REREAD_S and not self._reading.locked():
            threading.Thread(target=self.reread, name="leyden-prices", daemon=True).start()
        return self._lists.get(project, NO_OVERRIDES)

    async def ready(self, project: str) -> Overrides:
        """The same, once pricing takes microseconds: the first call reads the list of everybody's prices, off the event loop."""
        if not is_loaded():
            await asyncio.to_thread(load)
        return self.of(project)

    def _changed(self, names: Collection[Notice]) -> None:
        if prices.CHANGED in names or EVERYTHING in names:
            self.reread()

    def reread(self) -> None:
        """Read the prices anew: what was committed before holds from now on. Waits for the database."""
        with self._reading:
            self._read_at = time.monotonic()
            try:
                with self._store.database.read() as tx:
                    self._lists = prices.overrides(tx)
            except StoreError as error:  # the prices that are known still hold
                log.warning("own prices could not be read: %s", error)
