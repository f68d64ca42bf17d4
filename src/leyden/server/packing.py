"""The packing job: a share of its time at work, the rest for those who write and read."""

import threading
import time

from leyden.server.context import Context
from leyden.store import pack
from leyden.store.writer import Writer

PAUSE_S = 1.0
SHARE = 0.4  # of one core
_BUSY_WRITES, _BUSY_BYTES = 64, 4 * 2**20
_PATIENCE_S = 1.0
_AFTER_FAILURE_S = 10.0


class Packing:
    """Packs what is due, one round per call, until `stop` is set."""

    def __init__(self, context: Context, stop: threading.Event) -> None:
        self._context, self._stop = context, stop
        self._not_before = 0.0

    def __call__(self) -> None:
        """One round: all rollouts that are due, then the objects that nobody needs. Raises StoreError and its kinds."""
        if not self._context.settings.pack or time.monotonic() < self._not_before:
            return
        # Moved on at once when all goes well: what is damaged, or a bucket that is away, would be logged every second.
        self._not_before = time.monotonic() + _AFTER_FAILURE_S
        if not self._round():
            self._not_before = 0.0

    def _round(self) -> int:
        """Pack and sweep; how many rollouts failed."""
        settings, store = self._context.settings, self._context.store
        began, failed = time.perf_counter(), 0
        for progress in pack.steps(store, now=time.time(), after_s=settings.pack_after_s):
            failed += progress.failed
            if not self._rest((time.perf_counter() - began) * (1 / SHARE - 1)):
                return failed
            began = time.perf_counter()
        pack.sweep(store, now=time.time())
        return failed

    def _rest(self, seconds: float) -> bool:
        """Pause, and longer while the writer is busy: but not for ever, or payloads would pile up. False when stopping."""
        if self._stop.wait(seconds):
            return False
        patience = time.monotonic() + _PATIENCE_S
        while _is_busy(self._context.store.writer) and time.monotonic() < patience:
            if self._stop.wait(0.02):
                return False
        return True


def _is_busy(writer: Writer) -> bool:
    return writer.pending > _BUSY_WRITES or writer.pending_bytes > _BUSY_BYTES
