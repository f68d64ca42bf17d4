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
8. What was lost is told once, in one line, at shutdown. `stats()` has the counts at any time.
"""

import contextlib
import gzip
import json
import logging
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from leyden.errors import ServerUnreachable
from leyden.sdk import semconv
from leyden.sdk.content import write
from leyden.sdk.context import RolloutSampler, acting_agent, bound
from leyden.sdk.otlp_json import encode
from leyden.sdk.spool import Request, Spool
from leyden.sdk.wire import Answer, Wire

log = logging.getLogger("leyden")

TRACES = "/v1/traces"
ROLLOUTS = "/api/rollouts"
EXIT_S = 3.0
"""How long the end of the process may wait for the server, seconds."""

_MAX_BUFFER_BYTES = 64 * 2**20
_MAX_BATCH_BYTES = 4 * 2**20
_NOTES_RESERVE = 4_096
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_ADOPT_EVERY_S = 300.0
_RETRIED = frozenset({429, 502, 503, 504})


class RolloutStarted(NamedTuple):
    """A rollout that began in this process; `body` is what the server is told."""

    body: dict[str, Any]


class RolloutEnded(NamedTuple):
    """How an attempt of this process ended; `body` is its update."""

    rollout_id: str
    attempt_id: str
    body: dict[str, Any]


Item = ReadableSpan | RolloutStarted | RolloutEnded


@dataclass
class Stats:
    """Counts of spans since `init`, except `retries` (requests) and `notes_lost` (starts and ends of rollouts).

    `spooled` spans were written to disk and may have been sent since. Everything from `dropped_full` on is lost.
    """

    recorded: int = 0
    sent: int = 0
    spooled: int = 0
    retries: int = 0
    dropped_full: int = 0
    dropped_refused: int = 0
    dropped_unauthorized: int = 0
    dropped_spool: int = 0
    dropped_encoding: int = 0
    rejected: int = 0
    notes_lost: int = 0

    @property
    def lost(self) -> int:
        """Spans that will never arrive."""
        return (
            self.dropped_full
            + self.dropped_refused
            + self.dropped_unauthorized
            + self.dropped_spool
            + self.dropped_encoding
            + self.rejected
        )


class _Flush:
    """A request to send everything now; `done` is set with the answer in `clean`."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.clean = False
        self.done = threading.Event()


class Exporter:
    """The buffer, the thread that empties it, and what waits for the server to come back."""

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
        self._open_wire = open_wire
        self._owns_wire = owns_wire
        self._open_spool = spool
        self._buffer_spans = buffer_spans
        self._batch_spans = max(1, batch_spans)
        self._flush_s = flush_s
        self._totals = Stats()
        self._told: set[str] = set()
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
        self._in_flight: list[Request] = []
        self._held: deque[Request] = deque()
        self._wire: Wire | None = None
        self._spool = self._open_spool()
        self._failures = 0
        self._retry_at: float | None = None
        self._throttled = False
        self._adopt_at = 0.0

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
                    self._totals.notes_lost += 1
                else:
                    self._totals.dropped_full += 1
                return
            self._buffer.append((weight, item))
            self._buffer_bytes += weight
            if not note:
                self._totals.recorded += 1
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
        if self._spool is not None and self._spool.waiting():
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
            self._rescue()
        elif self._thread is not None:
            self._thread.join(timeout_s)
        if self._spool is not None:
            self._spool.close()
        if self._wire is not None and self._owns_wire:
            self._wire.close()
        totals = self.stats()
        if totals.lost or totals.notes_lost:
            log.warning(
                "Leyden lost %d spans and %d rollout notes: %s",
                totals.lost,
                totals.notes_lost,
                _reasons(totals),
            )
        return clean

    def stats(self) -> Stats:
        """A copy of the counts."""
        lost_on_disk = self._spool.lost_spans if self._spool is not None else 0
        return replace(self._totals, dropped_spool=self._totals.dropped_spool + lost_on_disk)

    def after_fork(self) -> None:
        """In the child: forget the parent's buffer, connections and files."""
        if self._spool is not None:
            self._spool.forget()
        closed = self._closed or (self._wire is not None and self._wire.in_process)
        self._totals = Stats()
        self._reset()
        # An in-process server stayed behind in the parent: there is nobody to send to.
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
                self._say("internal", "Leyden could not export a batch", exc_info=True)
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
            due = [at for at in (batch_at, self._retry_at) if at is not None]
            wait_s = max(0.0, min(due) - time.monotonic()) if due else _ADOPT_EVERY_S
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
        while True:
            if order is not None:
                self._retry_at = None
            self._adopt()
            if self._is_due():
                self._send_spooled()
            if self._is_due():
                self._send_held()
            while not self._held and (batch := self._take_batch()):
                self._send_batch(batch)
            if not self._held and not self._spool:
                self._retry_at = None
            clean = not self._buffer and not self._held and not self._spool
            if clean or order is None or not self._throttled or self._retry_at is None:
                return clean
            # The server lives and asks for patience: keep at it while the caller still waits.
            if self._retry_at >= order.deadline or self._closed:
                return False
            time.sleep(max(0.0, self._retry_at - time.monotonic()))

    def _is_due(self) -> bool:
        return self._retry_at is None or time.monotonic() >= self._retry_at

    def _adopt(self) -> None:
        if self._spool is None or time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + _ADOPT_EVERY_S
        self._spool.adopt()

    def _send_spooled(self) -> None:
        while self._spool is not None and (request := self._spool.peek()) is not None:
            if not self._send(request):
                return
            self._spool.advance()

    def _send_held(self) -> None:
        while self._held and self._send(self._held[0]):
            self._held.popleft()

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

    def _send_batch(self, batch: list[Item]) -> None:
        requests, failed = _requests(batch)
        self._totals.dropped_encoding += failed
        self._in_flight = requests
        away = bool(self._spool) or bool(self._held) or not self._is_due()
        while requests:
            if away or not self._send(requests[0]):
                away = True
                self._keep(requests[0])
            requests.pop(0)

    def _keep(self, request: Request) -> None:
        if self._spool is not None and self._spool.append(request):
            self._totals.spooled += request.spans
        else:
            self._held.append(request)

    def _send(self, request: Request) -> bool:
        """Send one request; True when it is settled (taken or refused for good), False to try again later."""
        try:
            answer = self._post(request)
        except ServerUnreachable as error:
            return self._postpone(None, f"{error.message}; spans wait on disk or in memory")
        except Exception:
            # Whatever this is, sending the same bytes again would raise it again.
            self._totals.dropped_refused += request.spans
            self._count_note(request)
            self._say("internal", "Leyden could not send a request", exc_info=True)
            return True
        if answer.status in _RETRIED:
            return self._postpone(
                answer, f"The Leyden server answered {answer.status}; spans wait and are sent again"
            )
        self._failures, self._retry_at, self._throttled = 0, None, False
        if answer.status < 300:
            self._count_accepted(request, answer)
        elif answer.status in (401, 403):
            self._totals.dropped_unauthorized += request.spans
            self._count_note(request)
            self._say(
                "key", f"The Leyden server refused the key ({answer.status}); what is recorded is dropped"
            )
        else:
            self._totals.dropped_refused += request.spans
            self._count_note(request)
            text = answer.body[:200].decode("utf-8", "replace")
            self._say(
                f"refused {request.path[:16]}",
                f"The Leyden server refused {request.path} ({answer.status}): {text}",
            )
        return True

    def _post(self, request: Request) -> Answer:
        if self._wire is None:
            self._wire = self._open_wire()
        headers = {"content-type": "application/json"}
        body = request.body
        if request.path == TRACES and len(body) > 1024:
            body = gzip.compress(body, compresslevel=3, mtime=0)
            headers["content-encoding"] = "gzip"
        return self._wire.send("POST", request.path, content=body, headers=headers)

    def _postpone(self, answer: Answer | None, why: str) -> bool:
        self._totals.retries += 1
        self._throttled = answer is not None
        ceiling_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
        asked_s = retry_after_s(answer.headers.get("retry-after"), now=time.time()) if answer else 0.0
        self._failures += 1
        self._retry_at = time.monotonic() + max(asked_s, random.uniform(0.0, ceiling_s))
        self._say("away", why)
        return False

    def _count_accepted(self, request: Request, answer: Answer) -> None:
        rejected, why = _partial_success(answer.body) if request.path == TRACES else (0, "")
        self._totals.rejected += rejected
        self._totals.sent += request.spans - rejected
        if rejected:
            self._say("rejected", f"The Leyden server rejected {rejected} spans of a batch: {why}")

    def _count_note(self, request: Request) -> None:
        if request.path != TRACES:
            self._totals.notes_lost += 1

    def _rescue(self) -> None:
        """At the end, when the server did not take everything in time: put the rest on disk."""
        left = [*self._held, *self._in_flight]
        while batch := self._take_batch():
            requests, failed = _requests(batch)
            self._totals.dropped_encoding += failed
            left += requests
        for request in left:
            if self._spool is not None and self._spool.append(request):
                self._totals.spooled += request.spans
            else:
                self._totals.dropped_spool += request.spans
                self._count_note(request)

    def _say(self, topic: str, message: str, *, exc_info: bool = False) -> None:
        """Log a topic once per process: a server that is away for an hour is one line."""
        if topic in self._told:
            return
        self._told.add(topic)
        log.warning("%s", message, exc_info=exc_info)


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


def retry_after_s(value: str | None, *, now: float) -> float:
    """Seconds a Retry-After header asks to wait, as a number or an HTTP date; 0 when it says nothing useful.

    now: unix seconds.
    """
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError):
        return 0.0


def _requests(batch: list[Item]) -> tuple[list[Request], int]:
    """A batch as requests, starts of rollouts first and ends last, and how many spans could not be encoded."""
    starts: list[Request] = []
    ends: list[Request] = []
    spans: list[ReadableSpan] = []
    for item in batch:
        if isinstance(item, RolloutStarted):
            starts.append(Request(ROLLOUTS, _json(item.body), 0))
        elif isinstance(item, RolloutEnded):
            path = f"/v1/agl/rollouts/{quote(item.rollout_id, safe='')}/attempts/{quote(item.attempt_id, safe='')}"
            ends.append(Request(path, _json(item.body), 0))
        else:
            spans.append(item)
    if not spans:
        return starts + ends, 0
    body, held, failed = encode(spans)
    return [*starts, *([Request(TRACES, body, held)] if held else []), *ends], failed


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _weight(span: ReadableSpan) -> int:
    """About how many bytes a span holds: its text, and a little for everything else."""
    total = 512
    # The SDK's mapping iterates through two layers of Python; its copy is a plain dict at once.
    attributes: Any = span.attributes
    for value in attributes.copy().values():
        total += len(value) if isinstance(value, (str, bytes)) else 16
    return total + 2_048 * len(span.events)


def _partial_success(body: bytes) -> tuple[int, str]:
    try:
        answer: Any = json.loads(body) if body else {}
        partial = cast(dict[str, Any], answer.get("partialSuccess") or {})
        return int(partial.get("rejectedSpans") or 0), str(partial.get("errorMessage") or "")
    except (ValueError, AttributeError, TypeError):
        return 0, ""


def _reasons(totals: Stats) -> str:
    told = {
        "buffer full": totals.dropped_full,
        "refused": totals.dropped_refused,
        "key refused": totals.dropped_unauthorized,
        "no room on disk": totals.dropped_spool,
        "not encodable": totals.dropped_encoding,
        "rejected by the server": totals.rejected,
        "rollout notes": totals.notes_lost,
    }
    return ", ".join(f"{why} {count}" for why, count in told.items() if count)


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
