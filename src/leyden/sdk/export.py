"""Finished spans, from the agent's thread to a Leyden server.

Guarantees:
1. The agent is never blocked and never sees an exception of ours. Ending a span appends to a buffer in memory; encoding,
   compression, network and disk belong to one daemon thread.
2. Memory is bounded: by spans (`sdk_buffer_spans`) and by about 64 MiB of text. A full buffer drops the newest span and counts it.
3. Order: a rollout's start is sent before its spans, its end after all of its spans were acknowledged.
4. While the server is away (no answer, 429, 502, 503, 504) requests wait on disk and are retried with exponential
   back-off and full jitter, never sooner than Retry-After asks. The disk space is bounded; the oldest goes first and is counted.
   Without a spool they wait in memory and the buffer fills up.
5. What waits on disk outlives the process: the next one with the same address and key sends it.
6. Delivery is at least once; the server stores a span once, by its ids. What it refuses (400, 401, 403, 413, …) is dropped with
   one log line per kind. Spans it rejects inside an accepted batch are counted.
7. At exit everything buffered is sent or spooled, within a few seconds. A forked child starts empty, with a thread of its
   own; the parent does not notice.
8. A rollout that is open here and silent gets a heartbeat once a minute, so the server can tell a long step from a process that died.
9. What was lost is told once, in one line, at shutdown. `stats()` has the counts at any time.
"""

import contextlib
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from leyden.sdk import semconv
from leyden.sdk.content import write
from leyden.sdk.context import RolloutSampler, acting_agent, bound
from leyden.sdk.delivery import ADOPT_EVERY_S, Delivery, Item, RolloutEnded, RolloutStarted, Stats
from leyden.sdk.spool import Spool
from leyden.sdk.wire import Wire

__all__ = [
    "EXIT_S",
    "Exporter",
    "RolloutEnded",
    "RolloutSpans",
    "RolloutStarted",
    "Stats",
    "finish_with_multiprocessing",
]

log = logging.getLogger("leyden")

EXIT_S = 3.0
"""How long the end of the process may wait for the server, seconds."""

_MAX_BUFFER_BYTES = 64 * 2**20
_MAX_BATCH_BYTES = 4 * 2**20
_NOTES_RESERVE = 4_096


class _Flush:
    """A request to send everything now; `done` is set with the answer in `clean`."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.clean = False
        self.done = threading.Event()


class Exporter:
    """The buffer, and the thread that empties it into a `Delivery`."""

    def __init__(
        self,
        *,
        open_wire: Callable[[], Wire],
        spool: Callable[[], Spool | None],
        buffer_spans: int,
        batch_spans: int,
        flush_s: float,
        owns_wire: bool = True,
    ) -> None:
        self._delivery = Delivery(open_wire=open_wire, spool=spool, owns_wire=owns_wire)
        self._buffer_spans = buffer_spans
        self._batch_spans = max(1, batch_spans)
        self._flush_s = flush_s
        self._reset()

    def _reset(self) -> None:
        """A fresh buffer, without a thread."""
        self._closed = False
        self._thread: threading.Thread | None = None
        # Reentrant: a garbage collection inside the locked lines may end a span on this very thread.
        self._lock = threading.RLock()
        self._buffer: deque[tuple[int, Item]] = deque()
        self._buffer_bytes = 0
        # SimpleQueue.put may be re-entered; an Event's or Condition's lock may not.
        self._signal: queue.SimpleQueue[_Flush | None] = queue.SimpleQueue()

    # ── The agent's side ─────────────────────────────────────────────────────────────────────────────────────────

    def add(self, item: Item) -> None:
        """Take a finished span or a note about a rollout. Never blocks, never raises."""
        if self._closed:
            return
        note = not isinstance(item, ReadableSpan)
        weight = 256 if note else _weight(item)
        with self._lock:
            held = len(self._buffer)
            room = self._buffer_spans + (_NOTES_RESERVE if note else 0)
            if held >= room or (not note and self._buffer_bytes + weight > _MAX_BUFFER_BYTES):
                if note:
                    self._delivery.forget(item)
                else:
                    self._delivery.totals.dropped_full += 1
                return
            self._buffer.append((weight, item))
            self._buffer_bytes += weight
            if not note:
                self._delivery.totals.recorded += 1
        if self._thread is None:
            self.start()
        # Only the first item and each full batch wake the thread: not every span.
        if held == 0 or (held + 1) % self._batch_spans == 0:
            self._signal.put(None)

    def start(self) -> None:
        """Start the thread, once."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(target=self._run, name="leyden-export", daemon=True)
            # The interpreter starts no threads while it shuts down; what is buffered then goes to the spool.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def start_if_left_over(self) -> None:
        """Start the thread when an earlier process left something to send."""
        if self._delivery.has_left_over():
            self.start()

    def flush(self, timeout_s: float) -> bool:
        """Send everything recorded so far; True when the server has it all.

        False when it did not answer (then it waits on disk or in memory) or `timeout_s` seconds passed.
        """
        if self._thread is None:
            return not self._buffer
        if threading.current_thread() is self._thread:
            return False
        order = _Flush(time.monotonic() + timeout_s)
        self._signal.put(order)
        return order.done.wait(timeout_s) and order.clean

    def close(self, timeout_s: float) -> bool:
        """Flush, spool what is left, stop, and say in one line what was lost. Closing twice is fine."""
        if self._closed:
            return True
        clean = self.flush(timeout_s)
        self._closed = True
        self._signal.put(None)
        if not clean:
            self._delivery.rescue(self._take_batch)
        elif self._thread is not None:
            self._thread.join(timeout_s)
        self._delivery.close()
        return clean

    def stats(self) -> Stats:
        """A copy of the counts."""
        return self._delivery.stats()

    def after_fork(self) -> None:
        """In the child: forget the parent's buffer, connections and files."""
        is_reachable = self._delivery.after_fork()
        closed = self._closed or not is_reachable
        self._reset()
        self._closed = closed

    # ── The thread's side ────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        _suppress_instrumentation()
        while True:
            order = self._await_work()
            try:
                clean = self._pass(order)
            except Exception:
                clean = False
                self._delivery.say("internal", "Leyden could not export a batch", exc_info=True)
            if order is not None:
                order.clean = clean
                order.done.set()
            if self._closed:
                return

    def _await_work(self) -> _Flush | None:
        """Sleep until a batch is full or old enough, a retry is due, or somebody asks for a flush."""
        batch_at: float | None = None
        while not self._closed:
            if batch_at is None and self._buffer:
                batch_at = time.monotonic() + self._flush_s
            due = [at for at in (batch_at, self._delivery.retry_at, self._delivery.beat_at) if at is not None]
            wait_s = max(0.0, min(due) - time.monotonic()) if due else ADOPT_EVERY_S
            try:
                order = self._signal.get(timeout=wait_s)
            except queue.Empty:
                return None
            if order is not None:
                return order
            if len(self._buffer) >= self._batch_spans:
                return None
        return None

    def _pass(self, order: _Flush | None) -> bool:
        """Send what waits and what is buffered; True when nothing is left."""
        delivery = self._delivery
        while True:
            if order is not None:
                delivery.retry_at = None
            delivery.send_waiting()
            while not delivery.is_blocked and (batch := self._take_batch()):
                delivery.send(batch)
            delivery.beat()
            delivery.settle()
            clean = not self._buffer and delivery.is_clear
            if clean or order is None or not delivery.is_throttled or delivery.retry_at is None:
                return clean
            # The server lives and asks for patience: keep at it while the caller still waits.
            if delivery.retry_at >= order.deadline or self._closed:
                return False
            time.sleep(max(0.0, delivery.retry_at - time.monotonic()))

    def _take_batch(self) -> list[Item]:
        items: list[Item] = []
        total = 0
        with self._lock:
            while self._buffer and len(items) < self._batch_spans and total < _MAX_BATCH_BYTES:
                weight, item = self._buffer.popleft()
                self._buffer_bytes -= weight
                total += weight
                items.append(item)
        return items


class RolloutSpans(SpanProcessor):
    """Stamps spans with their rollout and agent when they start; hands them to the exporter when they end."""

    def __init__(self, exporter: Exporter, *, sampler: RolloutSampler, agent: str | None) -> None:
        self._exporter = exporter
        self._sampler = sampler
        self._agent = agent

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        # A parent context that was built by hand may lack what the running code carries.
        binding = bound(parent_context) or bound()
        agent = acting_agent(parent_context) or acting_agent() or self._agent
        stamps: dict[str, Any] = {}
        if binding is not None and binding.sampled:
            stamps = {semconv.ROLLOUT_ID: binding.rollout_id, semconv.ATTEMPT_ID: binding.attempt_id}
        if agent and semconv.AGENT_NAME not in (span.attributes or {}):
            stamps[semconv.AGENT_NAME] = agent
        if stamps:
            write(span, stamps)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        # The application's own provider knows nothing of rollouts: its sampler kept what ours may leave out.
        if semconv.ROLLOUT_ID not in (span.attributes or {}):
            binding = bound()
            if not (binding.sampled if binding else self._sampler.keeps_trace(span.context.trace_id)):
                return
        self._exporter.add(span)

    def shutdown(self) -> None:
        self._exporter.close(EXIT_S)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.flush(timeout_millis / 1000)


def _weight(span: ReadableSpan) -> int:
    """About how many bytes a span holds: its text, and a little for everything else."""
    total = 512
    # The SDK's mapping iterates through two layers of Python; its copy is a plain dict at once.
    attributes: Any = span.attributes
    for value in attributes.copy().values():
        total += len(value) if isinstance(value, (str, bytes)) else 16
    return total + 2_048 * len(span.events)


def _suppress_instrumentation() -> None:
    """Keep an instrumented httpx from tracing our own requests, which would never end."""
    key = getattr(otel, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if isinstance(key, str):
        otel.attach(otel.set_value(key, True))


def finish_with_multiprocessing(exporter: Exporter) -> None:
    """Close the exporter when a forked multiprocessing child ends: such children skip atexit handlers."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return

    def on_start(it: Exporter) -> None:
        util.Finalize(None, it.close, args=(EXIT_S,), exitpriority=10)

    # The child clears its finalizers after os.fork's hooks and then runs these.
    util.register_after_fork(exporter, on_start)
