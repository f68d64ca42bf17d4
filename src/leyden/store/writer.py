"""The one thread that writes: it runs what callers hand it in groups, one transaction a group, and answers after the commit.

Guarantees
1. A caller has its answer only after its change is committed (durable as `synchronous` says).
2. A change that fails is undone alone; the rest of its group is kept. For that a change may run more than once before it
   is committed, so it depends on its transaction and on nothing it has done before.
3. A commit that fails fails every change of its group, and none of them is kept.
4. What waits is bounded, in number and in bytes; past the bound `submit` raises StoreBusy at once. Nothing is dropped silently.
5. Small writes (claims, updates) go before large ones (span batches) that wait at the same time.
6. `close` commits what was accepted before it returns.

Grouping needs no timer: while one group commits, the next one gathers.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from leyden.errors import LeydenError, StoreBusy, StoreFull, StoreUnwritable
from leyden.store.driver_errors import as_store_error
from leyden.store.engine import Database, Tx
from leyden.store.notices import Notice, Notices

log = logging.getLogger("leyden.store")

R = TypeVar("R")
Change = Callable[[Tx], Any]
Listener = Callable[[Collection[Notice]], None]

GROUP_BYTES = 4 * 2**20
GROUP_CHANGES = 256
# The write-ahead log may grow to 64 MiB (pages of 8 KiB). For a log as long as that the writer waits so long for its readers,
# for one ten times as long ten times so long.
LOG_PAGES = 8192
PATIENCE_S = 0.05
PATIENCE_AT_MOST_S = 1.0


class _Waiting(NamedTuple):
    change: Change | None  # None asks for a checkpoint
    size: int
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None


class Writer:
    """Runs changes on the writer connection of a database; one per process and database.

    listeners are called in the writer thread after each commit with what changed, and with what other replicas told.
    check: called before each group; when it raises a LeydenError, that is the answer to the whole group.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_pending: int = 10_000,
        max_pending_bytes: int = 128 * 2**20,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.database = database
        self._check = check
        self.listeners: list[Listener] = []
        self.committed = 0
        self.groups = 0
        self._copied = 0
        self._log_pages = 0
        self._max_pending = max_pending
        self._max_bytes = max_pending_bytes
        self._small: deque[_Waiting] = deque()
        self._large: deque[_Waiting] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self._closing = False
        self._idle = False
        self._thread = threading.Thread(target=self._work, name="leyden-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Changes accepted and not yet committed."""
        return len(self._small) + len(self._large)

    @property
    def pending_bytes(self) -> int:
        """Payload bytes of those."""
        return self._bytes

    def run(self, change: Callable[[Tx], R], *, size: int = 0) -> R:
        """Run a change and wait for its commit. For threads; never call it on an event loop.

        size: payload bytes the change carries. Raises what the change raises, StoreBusy when too much waits.
        """
        future: Future[R] = Future()
        self._accept(_Waiting(change, size, future, None))
        return future.result()

    async def arun(self, change: Callable[[Tx], R], *, size: int = 0) -> R:
        """The same for an event loop: the change still runs in the writer thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._accept(_Waiting(change, size, future, loop))
        return await future

    def checkpoint(self) -> int:
        """Copy SQLite's write-ahead log into the file, off the writer; pages in the log. For a background thread.

        Nothing happens when nothing was committed since. Under steady load some pages are always written meanwhile, and
        somebody always reads, so a log past its bound is finished by the writer itself between two groups: few pages are
        left, those who read are waited for, and the log starts again.
        """
        if self.groups == self._copied:
            return 0
        self._copied = self.groups
        pages = self._log_pages = self.database.checkpoint()
        if pages > LOG_PAGES:
            future: Future[int] = Future()
            self._accept(_Waiting(None, 0, future, None))
            return future.result()
        return pages

    def close(self) -> None:
        """Commit what was accepted, then stop the thread."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()

    def _accept(self, waiting: _Waiting) -> None:
        with self._ready:
            if self._closing:
                raise StoreBusy("The store is shutting down", hint="try again in a second")
            if self.pending >= self._max_pending or self._bytes + waiting.size > max(
                self._max_bytes, waiting.size
            ):
                raise StoreBusy(
                    f"{self.pending} writes ({self._bytes >> 20} MiB) already wait for the database",
                    hint="try again in a second",
                )
            (self._large if waiting.size else self._small).append(waiting)
            self._bytes += waiting.size
            if self._idle:  # a writer at work looks again by itself; waking it costs a system call
                self._ready.notify()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not (self._small or self._large or self._closing):
                    self._idle = True
                    self._ready.wait()
                    self._idle = False
                group = self._take()
            if not group:
                return
            self._commit(group)

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        while self._small and len(group) < GROUP_CHANGES:
            group.append(self._small.popleft())
        size = 0
        while self._large and len(group) < GROUP_CHANGES and size < GROUP_BYTES:
            size += self._large[0].size
            group.append(self._large.popleft())
        self._bytes -= size
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        if self._check is not None:
            try:
                self._check()
            except LeydenError as error:
                self._answer(group, [(None, error)] * len(group))
                return
        if any(waiting.change is None for waiting in group):
            self._checkpoint([waiting for waiting in group if waiting.change is None])
            group = [waiting for waiting in group if waiting.change is not None]
        if group:
            self._attempt(group, careful=False)

    def _attempt(self, group: list[_Waiting], *, careful: bool) -> None:
        """Run a group in one transaction; careful puts a savepoint around each change.

        Savepoints copy every page they touch, so a group runs without first and again with them when a change fails.
        """
        outcomes: list[tuple[Any, BaseException | None]] = []
        notices = Notices()
        begun = False
        try:
            with self.database.begin() as tx:
                begun = True
                for waiting in group:
                    assert waiting.change is not None
                    outcomes.append(self._one(tx, waiting.change) if careful else (waiting.change(tx), None))
                    notices |= tx.notices
                    tx.notices.clear()
                tx.notices |= notices
        except Exception as error:
            failure = error if isinstance(error, LeydenError) else as_store_error(error, self.database.label)
            # A database that is locked, full or read-only is that for the whole group: asking for each change alone would wait once more for each.
            if begun and len(group) > 1 and not isinstance(failure, StoreFull | StoreUnwritable):
                self._retry(group, careful=careful)
                return
            if not isinstance(error, LeydenError):
                log.error("a write failed", exc_info=error)
            self._answer(group, [(None, failure)] * len(group))
            return
        self.committed += len(group)
        self.groups += 1
        self._answer(group, outcomes)
        if notices:
            self.tell(notices)

    def _retry(self, group: list[_Waiting], *, careful: bool) -> None:
        if not careful:
            self._attempt(group, careful=True)
            return
        # A deadlock with another replica, or a lost connection: each change gets a transaction of its own once.
        for waiting in group:
            self._attempt([waiting], careful=False)

    def tell(self, notices: Collection[Notice]) -> None:
        """Hand notices to the listeners: those of a commit here, or what another replica told."""
        for listener in self.listeners:
            try:
                listener(notices)
            except Exception:  # this thread must outlive whatever a listener does
                log.exception("a listener failed")

    def _checkpoint(self, asked: list[_Waiting]) -> None:
        patience_s = min(PATIENCE_AT_MOST_S, PATIENCE_S * self._log_pages / LOG_PAGES)
        try:
            left, error = self.database.checkpoint(patience_s=patience_s), None
        except LeydenError as failure:
            left, error = 0, failure
        self._answer(asked, [(left, error)] * len(asked))

    def _one(self, tx: Tx, change: Change) -> tuple[Any, BaseException | None]:
        try:
            with tx.savepoint():
                return change(tx), None
        except LeydenError as error:
            tx.notices.clear()
            return None, error
        except Exception as error:
            tx.notices.clear()
            if not tx.is_open:
                raise
            failure = as_store_error(error, self.database.label)
            if isinstance(failure, StoreBusy | StoreFull | StoreUnwritable):
                raise failure from error
            log.exception("a change failed")
            return None, failure

    @staticmethod
    def _answer(group: list[_Waiting], outcomes: list[tuple[Any, BaseException | None]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any, BaseException | None]]] = {}
        for waiting, (result, error) in zip(group, outcomes, strict=True):
            if waiting.loop is not None:
                by_loop.setdefault(waiting.loop, []).append((waiting.future, result, error))
            elif error is not None:
                waiting.future.set_exception(error)
            else:
                waiting.future.set_result(result)
        # One wake-up of each event loop per group: waking it costs a system call.
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, answers)
            except RuntimeError:
                log.warning("%d callers left before their write was committed", len(answers))


def _resolve(answers: list[tuple["asyncio.Future[Any]", Any, BaseException | None]]) -> None:
    for future, result, error in answers:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
