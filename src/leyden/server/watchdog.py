"""The watchdog as a running thing: scans the store for attempts that are over, and keeps its head when the clock jumps.

Deadlines are times of day, because they outlive the process. A clock that is set, or a machine that slept, would make every
worker look silent, or immortal. So each scan compares the clock with the steady one:
forward: silence and leases are counted from now, as after a start; backward: signs of life from the future become now.
`timeout_seconds` is left to the clock: it is what the caller asked for.
"""

import logging
import time
from collections.abc import Callable

from leyden.server.context import Context
from leyden.store import attempts

log = logging.getLogger("leyden.watchdog")

# What counts as a jump; below it is drift, or a scan that waited for the database.
JUMP_S = 30.0


class Watchdog:
    """Call it again and again; each call is one scan."""

    def __init__(self, context: Context, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._context, self._steady = context, steady
        self._up_since = context.started
        self._offset = time.time() - steady()

    def __call__(self) -> int:
        """One scan; how many rollouts it looked at."""
        self._look_at_the_clock()
        context, now = self._context, time.time()
        with context.store.database.read() as tx:
            if not attempts.is_due(tx, now=now):
                return 0
        settings, up_since = context.settings, self._up_since
        return context.store.writer.run(
            lambda tx: attempts.scan(
                tx, now=now, lease_s=settings.lease_s, quiet_s=settings.quiet_s, up_since=up_since
            )
        )

    def _look_at_the_clock(self) -> None:
        now = time.time()
        offset = now - self._steady()
        jump_s, self._offset = offset - self._offset, offset
        if abs(jump_s) < JUMP_S:
            return
        log.warning("the clock moved by %+.0f s; nobody is held responsible for that", jump_s)
        self._up_since = now
        if jump_s < 0:
            lease_s = self._context.settings.lease_s
            self._context.store.writer.run(lambda tx: attempts.clock_went_back(tx, now=now, lease_s=lease_s))
