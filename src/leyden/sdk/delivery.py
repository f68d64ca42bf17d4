"""Requests on their way to a Leyden server: sent, refused for good, or kept until it answers again.

Owns the connection, the spool, what waits in memory, the back-off, the heartbeats and the counts. One thread uses it, the
exporter's; only `rescue` and `close` may come from another, at the end. Knows nothing of the agent's side.

While the server is away (no answer, 429, 502, 503, 504) requests wait and are retried with exponential back-off and full
jitter, never sooner than Retry-After asks. A heartbeat never waits: it says that somebody lives now.
"""

import contextlib
import gzip
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from opentelemetry.sdk.trace import ReadableSpan

from leyden.errors import ServerUnreachable
from leyden.sdk import semconv
from leyden.sdk.otlp_json import encode
from leyden.sdk.spool import Request, Spool
from leyden.sdk.wire import Answer, Wire

log = logging.getLogger("leyden")

TRACES = "/v1/traces"
ROLLOUTS = "/api/rollouts"
SILENCE_S = 900.0
"""A rollout whose process shows no life for this long is given up by the server, seconds."""

HEARTBEAT_S = 60.0
"""How long an open rollout may be silent before the exporter speaks for it, seconds."""

ADOPT_EVERY_S = 300.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
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

    def reasons(self) -> str:
        """What was lost, by cause, in words."""
        told = {
            "buffer full": self.dropped_full,
            "refused": self.dropped_refused,
            "key refused": self.dropped_unauthorized,
            "no room on disk": self.dropped_spool,
            "not encodable": self.dropped_encoding,
            "rejected by the server": self.rejected,
            "rollout notes": self.notes_lost,
        }
        return ", ".join(f"{why} {count}" for why, count in told.items() if count)


class Delivery:
    """One server, and everything that still has to reach it."""

    def __init__(
        self, *, open_wire: Callable[[], Wire], spool: Callable[[], Spool | None], owns_wire: bool
    ) -> None:
        self._open_wire = open_wire
        self._open_spool = spool
        self._owns_wire = owns_wire
        self._told: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self.totals = Stats()
        self.retry_at: float | None = None
        """When the server may be asked again, on the monotonic clock; None when it may be now."""
        self.is_throttled = False
        """Whether it answered and asked for patience, rather than not at all."""
        self._failures = 0
        self._adopt_at = 0.0
        self._in_flight: list[Request] = []
        self._held: deque[Request] = deque()
        self._open: dict[tuple[str, str], float] = {}
        self._wire: Wire | None = None
        self._spool = self._open_spool()

    def after_fork(self) -> bool:
        """In the child: forget the parent's files, connections and rollouts; whether there is still a server to send to."""
        if self._spool is not None:
            self._spool.forget()
        # An in-process server stayed behind in the parent.
        reachable = self._wire is None or not self._wire.in_process
        self._begin()
        return reachable

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits here."""
        return not self._held and not self._spool

    @property
    def is_blocked(self) -> bool:
        """Whether new batches have to stay in the buffer: without a spool, what waits is in memory already."""
        return bool(self._held)

    def has_left_over(self) -> bool:
        """Whether an earlier process left something to send."""
        return self._spool is not None and self._spool.waiting()

    def stats(self) -> Stats:
        """A copy of the counts."""
        lost_on_disk = self._spool.lost_spans if self._spool is not None else 0
        return replace(self.totals, dropped_spool=self.totals.dropped_spool + lost_on_disk)

    def send_waiting(self) -> None:
        """Send what dead processes left and what waits here, as long as the server takes it."""
        self._adopt()
        while self._is_due() and self._spool is not None and (request := self._spool.peek()) is not None:
            if not self._send(request):
                return
            self._spool.advance()
        while self._is_due() and self._held and self._send(self._held[0]):
            self._held.popleft()

    def send(self, batch: list[Item]) -> None:
        """Send a batch, or keep it while something older waits or the server is away."""
        self._note_life(batch)
        requests = self._requests(batch)
        self._in_flight = requests
        away = not self.is_clear or not self._is_due()
        while requests:
            if away or not self._send(requests[0]):
                away = True
                if not self._spooled(requests[0]):
                    self._held.append(requests[0])
            requests.pop(0)

    def settle(self) -> None:
        """After a pass: with nothing left to retry there is nothing to wait for."""
        if self.is_clear:
            self.retry_at = None

    def rescue(self, take: Callable[[], list[Item]]) -> None:
        """At the end, when the server did not take everything in time: put the rest on disk. `take` empties the buffer."""
        left = [*self._held, *self._in_flight]
        while batch := take():
            left += self._requests(batch)
        for request in left:
            if not self._spooled(request):
                self.totals.dropped_spool += request.spans
                self._count_note(request)

    def close(self) -> None:
        """Let go of disk and connection; say in one line what was lost."""
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
                totals.reasons(),
            )

    def say(self, topic: str, message: str, *, exc_info: bool = False) -> None:
        """Log a topic once per process: a server that is away for an hour is one line."""
        if topic in self._told:
            return
        self._told.add(topic)
        log.warning("%s", message, exc_info=exc_info)

    # ── Heartbeats ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def beat_at(self) -> float | None:
        """When the next heartbeat is due, on the monotonic clock; None without an open rollout."""
        since = list(self._open.values())
        return min(since) + HEARTBEAT_S if since else None

    def beat(self) -> None:
        """Speak for every open rollout that was silent for a minute. A server that is away is not asked again for it."""
        now = time.monotonic()
        for (rollout_id, attempt_id), since in list(self._open.items()):
            if now - since < HEARTBEAT_S:
                continue
            self._open[rollout_id, attempt_id] = now
            if not self.is_clear or not self._is_due():
                continue
            body = _json({"last_heartbeat_time": time.time()})
            # A server that went away is found out, and backed off from, by the next batch.
            with contextlib.suppress(Exception):
                self._post(Request(_attempt_path(rollout_id, attempt_id), body, 0))

    def forget(self, note: Item) -> None:
        """Count a note that found no room; a rollout whose end is lost must not be kept alive. From any thread."""
        self.totals.notes_lost += 1
        if isinstance(note, RolloutEnded):
            self._open.pop((note.rollout_id, note.attempt_id), None)

    def _note_life(self, batch: list[Item]) -> None:
        """Every span is a sign of life to the server, so only silent rollouts need a heartbeat."""
        now = time.monotonic()
        for item in batch:
            if isinstance(item, RolloutStarted):
                self._open[item.body["rollout_id"], item.body["attempt_id"]] = now
            elif isinstance(item, RolloutEnded):
                self._open.pop((item.rollout_id, item.attempt_id), None)
            elif self._open:
                attributes: Any = item.attributes or {}
                ids = (attributes.get(semconv.ROLLOUT_ID), attributes.get(semconv.ATTEMPT_ID))
                if ids in self._open:
                    self._open[ids] = now

    # ── One request ──────────────────────────────────────────────────────────────────────────────────────────────

    def _is_due(self) -> bool:
        return self.retry_at is None or time.monotonic() >= self.retry_at

    def _adopt(self) -> None:
        if self._spool is None or time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + ADOPT_EVERY_S
        self._spool.adopt()

    def _requests(self, batch: list[Item]) -> list[Request]:
        """A batch as requests, starts of rollouts first and ends last. A span that cannot be encoded is counted."""
        starts = [Request(ROLLOUTS, _json(i.body), 0) for i in batch if isinstance(i, RolloutStarted)]
        ends = [
            Request(_attempt_path(i.rollout_id, i.attempt_id), _json(i.body), 0)
            for i in batch
            if isinstance(i, RolloutEnded)
        ]
        spans = [item for item in batch if isinstance(item, ReadableSpan)]
        if not spans:
            return starts + ends
        body, held, failed = encode(spans)
        self.totals.dropped_encoding += failed
        return [*starts, *([Request(TRACES, body, held)] if held else []), *ends]

    def _spooled(self, request: Request) -> bool:
        if self._spool is None or not self._spool.append(request):
            return False
        self.totals.spooled += request.spans
        return True

    def _send(self, request: Request) -> bool:
        """Send one request; True when it is settled (taken or refused for good), False to try again later."""
        try:
            answer = self._post(request)
        except ServerUnreachable as error:
            return self._postpone(None, f"{error.message}; spans wait on disk or in memory")
        except Exception:
            # Whatever this is, sending the same bytes again would raise it again.
            self.totals.dropped_refused += request.spans
            self._count_note(request)
            self.say("internal", "Leyden could not send a request", exc_info=True)
            return True
        if answer.status in _RETRIED:
            return self._postpone(
                answer, f"The Leyden server answered {answer.status}; spans wait and are sent again"
            )
        self._failures, self.retry_at, self.is_throttled = 0, None, False
        if answer.status < 300:
            self._count_accepted(request, answer)
        elif answer.status in (401, 403):
            self.totals.dropped_unauthorized += request.spans
            self._count_note(request)
            self.say(
                "key", f"The Leyden server refused the key ({answer.status}); what is recorded is dropped"
            )
        else:
            self.totals.dropped_refused += request.spans
            self._count_note(request)
            text = answer.body[:200].decode("utf-8", "replace")
            self.say(
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
        self.totals.retries += 1
        self.is_throttled = answer is not None
        ceiling_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
        asked_s = retry_after_s(answer.headers.get("retry-after"), now=time.time()) if answer else 0.0
        self._failures += 1
        self.retry_at = time.monotonic() + max(asked_s, random.uniform(0.0, ceiling_s))
        self.say("away", why)
        return False

    def _count_accepted(self, request: Request, answer: Answer) -> None:
        rejected, why = _partial_success(answer.body) if request.path == TRACES else (0, "")
        self.totals.rejected += rejected
        self.totals.sent += request.spans - rejected
        if rejected:
            self.say("rejected", f"The Leyden server rejected {rejected} spans of a batch: {why}")

    def _count_note(self, request: Request) -> None:
        if request.path != TRACES:
            self.totals.notes_lost += 1


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


def _attempt_path(rollout_id: str, attempt_id: str) -> str:
    return f"/v1/agl/rollouts/{quote(rollout_id, safe='')}/attempts/{quote(attempt_id, safe='')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _partial_success(body: bytes) -> tuple[int, str]:
    try:
        answer: Any = json.loads(body) if body else {}
        partial = cast(dict[str, Any], answer.get("partialSuccess") or {})
        return int(partial.get("rejectedSpans") or 0), str(partial.get("errorMessage") or "")
    except (ValueError, AttributeError, TypeError):
        return 0, ""
