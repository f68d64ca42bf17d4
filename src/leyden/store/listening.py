"""One connection that hears what other replicas committed, and the thread that waits on it.

Promises: what a replica commits is told to `tell` here within moments, once, and never twice by the sender itself. When the
connection is lost it is made again, with growing pauses, and `tell` hears EVERYTHING once at each end of the gap.
On SQLite there is nothing to hear and no thread.
"""

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

from leyden.store.engine import Database
from leyden.store.notices import CHANNEL, EVERYTHING, Notice, parse
from leyden.store.session import connect_alone

log = logging.getLogger("leyden.listening")

# A connection that was cut without a word shows at the next beat.
BEAT_S = 5.0
# What comes within this time is heard together: PostgreSQL tells a replica its own notices too, and each look takes turns
# with the threads that serve.
GATHER_S = 0.01
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Listener:
    """Hears the other replicas of a database until `close`.

    tell: called with what changed, in this thread. linked: called with whether the connection stands, before `tell` hears
    of its beginning or end.
    """

    def __init__(
        self,
        database: Database,
        *,
        tell: Callable[[Collection[Notice]], None],
        linked: Callable[[bool], None],
    ) -> None:
        self._database, self._tell, self._linked = database, tell, linked
        self._closing = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name="leyden-listener", daemon=True)
        if not database.is_sqlite:
            self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._wake.send(b"x")
        if self._thread.is_alive():
            self._thread.join(2)
        self._wake.close()
        self._woken.close()

    def _work(self) -> None:
        pause_s, was_linked = FIRST_PAUSE_S, True
        while not self._closing.is_set():
            try:
                with connect_alone(self._database, name="leyden listener") as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    pause_s, was_linked = FIRST_PAUSE_S, True
                    self._turn(True)
                    self._hear(connection)
            except Exception as error:  # the thread outlives whatever the database does
                if was_linked and not self._closing.is_set():
                    log.warning(
                        "lost touch with the other replicas: %s", str(error).strip() or type(error).__name__
                    )
                    was_linked = False
            self._turn(False)
            self._closing.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _turn(self, is_linked: bool) -> None:
        self._linked(is_linked)
        if not self._closing.is_set():
            self._tell([EVERYTHING])

    def _hear(self, connection: Any) -> None:
        """Tell what arrives until `close`. Raises the driver's error when the connection is gone."""
        # What arrives while a statement runs comes by the handler, everything else by `_drain`.
        connection.add_notify_handler(self._handle)
        with selectors.DefaultSelector() as ready:
            ready.register(connection.fileno(), selectors.EVENT_READ)
            ready.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                self._drain(connection)
                self._closing.wait(GATHER_S)
                if not ready.select(BEAT_S):
                    connection.execute("SELECT 1")

    def _drain(self, connection: Any) -> None:
        connection.pgconn.consume_input()
        while (notify := connection.pgconn.notifies()) is not None:
            self._heard(notify.extra.decode())

    def _handle(self, notify: Any) -> None:
        self._heard(notify.payload)

    def _heard(self, payload: str) -> None:
        with contextlib.suppress(Exception):  # a listener that fails says so itself
            if told := parse(payload, but_from=self._database.name):
                self._tell(told)
