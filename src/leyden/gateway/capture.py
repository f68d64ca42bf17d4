"""From the end of a call to the store, off the path of every request.

Promises: `offer` never waits; what waits is bounded in number and in bytes, and past the bound the call is counted as lost, nothing
else. While the store is away, locked, full or read-only, what was offered waits and is tried again; a call that it can never hold is
lost alone. `close` stores what was offered. Refuses to know: HTTP.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from leyden.errors import LeydenError, ServerUnreachable, StoreBusy, StoreFull, StoreUnwritable
from leyden.gateway.call import Exchange
from leyden.gateway.elsewhere import moved
from leyden.gateway.identity import attempt_of, own_rollout
from leyden.gateway.recording import Recorded
from leyden.store import model_calls, rollouts, spans
from leyden.store.engine import Tx
from leyden.store.model_calls import Seen
from leyden.store.opening import Store

log = logging.getLogger("leyden.gateway")

# Calls stored together: few, so that nobody waits long for the one turn of the interpreter that a transaction takes. Between readings the
# thread rests, for as long as the event loop needs for a call or two: a whole batch at a stretch would hold up whoever calls meanwhile
# for milliseconds. Where a crowd waits already what counts is what a call costs: more go together, and the thread does not rest.
BATCH, CROWD = 40, 128
TURN, TURN_PAUSE_S = 4, 0.0005
# How long a call waits for others to be stored with: a transaction for each would cost as much as the call itself.
LINGER_S = 0.05
MOST_CALLS = 10_000
MOST_BYTES = 256 * 2**20
PAUSE_S = (0.1, 5.0)  # between two tries at a store that is away: the first, the longest
CLOSE_S = 10.0
_LONGEST_ID = 256  # of an answer; no provider's is longer, and no index takes any length

Read = Callable[[Exchange], Recorded]
Also = Callable[[Tx, Sequence[tuple[Exchange, Recorded]]], None]
Done = Callable[[Exchange, Recorded | None], None]


@dataclass
class Counts:
    """What became of calls since the start. lost: not recorded, for lack of room or because the store refused them."""

    recorded: int = 0
    lost: int = 0


class _Offered(NamedTuple):
    exchange: Exchange
    size: int
    done: Done | None


class Capture:
    """A bounded queue and the thread that empties it.

    read: makes the record of an exchange. also: what else is stored in the same transaction, such as what was spent.
    """

    def __init__(
        self,
        store: Store,
        read: Read,
        *,
        also: Also = lambda tx, calls: None,
        quiet_s: float,
        most_calls: int = MOST_CALLS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.counts = Counts()
        self._store, self._read, self._also, self._quiet_s = store, read, also, quiet_s
        self._most_calls, self._most_bytes = most_calls, most_bytes
        self._queue: deque[_Offered] = deque()
        self._pending = self._bytes = 0
        self._ready = threading.Condition()
        self._closing = False
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="leyden-capture", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Calls that are not stored yet."""
        return self._pending

    @property
    def has_room(self) -> bool:
        """Whether one more call would be taken: what the strict mode asks before it lets a call through."""
        return self._pending < self._most_calls and self._bytes < self._most_bytes and not self._closing

    def offer(self, exchange: Exchange, done: Done | None = None) -> bool:
        """Take a call that is over; False when there is no room, and then it is counted as lost.

        done: told in this object's thread when the call was read, with None when it was lost.
        """
        size = _size(exchange)
        with self._ready:
            has_room = self.has_room
            if has_room:
                self._queue.append(_Offered(exchange, size, done))
                self._pending += 1
                self._bytes += size
                if len(self._queue) in (1, BATCH):  # between the two the thread waits for more
                    self._ready.notify()
        if not has_room:
            self._lose(1, "the queue to the store is full")
            if done is not None:
                done(exchange, None)
        return has_room

    def close(self, patience_s: float = CLOSE_S) -> None:
        """Store what was offered; what the store does not take within `patience_s` seconds is lost."""
        with self._ready:
            self._closing = True
            self._give_up_at = time.monotonic() + patience_s
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._handle(batch)
            with self._ready:
                self._pending -= len(batch)
                self._bytes -= sum(one.size for one in batch)

    def _next(self) -> list[_Offered]:
        """What is to be stored together; [] at the end."""
        with self._ready:
            while not (self._queue or self._closing):
                self._ready.wait()
            if len(self._queue) < BATCH and not self._closing:
                self._ready.wait(LINGER_S)
            most = CROWD if len(self._queue) >= CROWD else BATCH
            return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def _handle(self, batch: list[_Offered]) -> None:
        read: list[tuple[Exchange, Recorded]] = []
        for number, offered in enumerate(batch, 1):
            found = self._recorded(offered.exchange)
            if not number % TURN and self._pending < CROWD:
                time.sleep(TURN_PAUSE_S)
            if offered.done is not None:
                offered.done(offered.exchange, found)
            if found is not None:
                read.append((offered.exchange, found))
        by_project: dict[str, list[tuple[Exchange, Recorded]]] = {}
        for one in read:
            by_project.setdefault(one[0].call.identity.project, []).append(one)
        for project, calls in by_project.items():
            self._keep(calls, project)

    def _recorded(self, exchange: Exchange) -> Recorded | None:
        try:
            return self._read(exchange)
        except LeydenError as error:
            self._lose(1, error.message)
        except Exception:  # this thread must outlive whatever an upstream sends
            log.exception("a call could not be read")
            self._lose(1, "it could not be read")
        return None

    def _keep(self, calls: list[tuple[Exchange, Recorded]], project: str) -> None:
        """Store some calls, and wait for a store that is away. When it cannot hold them, each is tried alone, and lost alone."""
        size = sum(len(found.record.payload) for _, found in calls)
        pause_s = PAUSE_S[0]
        while True:
            try:
                refused = self._stored(calls, project, size=size)
                break
            except (StoreBusy, StoreFull, StoreUnwritable, ServerUnreachable) as error:
                if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                    self._lose(len(calls), error.message)
                    return
                with self._ready:
                    self._ready.wait(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S[1])
            except LeydenError as error:
                if len(calls) == 1:
                    self._lose(1, error.message)
                    return
                for one in calls:
                    self._keep([one], project)
                return
        self.counts.recorded += len(calls) - len(refused)
        if refused:
            self._lose(len(refused), refused[0])

    def _stored(self, calls: list[tuple[Exchange, Recorded]], project: str, *, size: int) -> list[str]:
        """Store calls once; why some of them were refused. Raises StoreBusy, StoreFull, StoreUnwritable, ServerUnreachable while it is away."""
        return self._store.writer.run(lambda tx: self._write(tx, calls, project), size=size)

    def _write(self, tx: Tx, calls: list[tuple[Exchange, Recorded]], project: str) -> list[str]:
        """Store calls where they named, and those that cannot be there where they can; why some were refused there too."""
        refused = self._insert(tx, [self._filed(tx, *one, project) for one in calls], project)
        if refused:
            refused = self._insert(tx, [_elsewhere(tx, *calls[n], project) for n in sorted(refused)], project)
        return list(refused.values())

    def _insert(self, tx: Tx, calls: list[tuple[Exchange, Recorded]], project: str) -> dict[int, str]:
        """Store calls with all that belongs to them; why some were refused, by position."""
        seen = [_seen(exchange, found) for exchange, found in calls]
        records = [
            model_calls.repeated(found.record)
            if call is not None and model_calls.is_reported(tx, call, found.record.attempt_id)
            else found.record
            for (_, found), call in zip(calls, seen, strict=True)
        ]
        stored = spans.insert(tx, records, project=project, now=time.time(), quiet_s=self._quiet_s)
        new = [n for n, is_new in enumerate(stored.is_new) if is_new]
        model_calls.remember(tx, [call for n in new if (call := seen[n]) is not None])
        self._also(tx, [calls[n] for n in new])
        return stored.refused

    def _filed(self, tx: Tx, exchange: Exchange, found: Recorded, project: str) -> tuple[Exchange, Recorded]:
        """The call under the attempt that runs now, when it named a rollout and no attempt."""
        if exchange.call.identity.attempt_id is not None:
            return exchange, found
        row = rollouts.find(tx, found.record.rollout_id, project=project)
        latest = row.attempt_id if row is not None else None
        attempt_id = latest or attempt_of(found.record.rollout_id)
        return exchange, found._replace(record=found.record._replace(attempt_id=attempt_id))

    def _lose(self, number: int, why: str) -> None:
        self.counts.lost += number
        log.warning("%d calls were not recorded: %s (%d so far)", number, why, self.counts.lost)


def _size(exchange: Exchange) -> int:
    """About the bytes that an exchange takes in memory. A request is there twice: as it came, and read, where small values take far more
    than in JSON: an object 200 bytes, a list 60, anything else about as much, with its place."""
    body, read = exchange.call.body, 0
    if exchange.call.asked:
        read = len(body) + 200 * body.count(b"{") + 60 * (body.count(b"[") + body.count(b","))
    return len(body) + read + sum(map(len, exchange.body)) + len(exchange.tail) + 2_000


def _seen(exchange: Exchange, found: Recorded) -> Seen | None:
    """What an SDK's report of the same call is known by."""
    # Claude Code's telemetry names a call by the header of its answer, every SDK by the answer itself.
    by_header = exchange.request_id if exchange.call.family == "anthropic" else None
    ids = tuple(id_ for id_ in (found.said.id, by_header) if id_ and len(id_) <= _LONGEST_ID)
    return Seen(found.record.rollout_id, ids, exchange.call.began_ns, exchange.ended_ns) if ids else None


def _elsewhere(tx: Tx, exchange: Exchange, found: Recorded, project: str) -> tuple[Exchange, Recorded]:
    """A call that was refused where it named: under the latest attempt of its rollout, else in a rollout of the project's own.

    Such a rollout is the same for all calls that name the same. A rollout that waits in the queue gets no attempt: it would not be
    claimed any more, or once less.
    """
    named = found.record.rollout_id
    row = rollouts.find(tx, named, project=project)
    if row is not None and row.attempt_id is not None:
        return moved(exchange, found, rollout_id=named, attempt_id=row.attempt_id)
    own = own_rollout(project, named)
    return moved(exchange, found, rollout_id=own, attempt_id=attempt_of(own))
