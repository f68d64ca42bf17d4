"""The load generator: HTTP/1.1 over raw asyncio connections, ready-made bodies, one latency per request.

Cheap on purpose (about 30 µs per request), so that the server is what is measured. It knows the store protocol's
routes and nothing of any server behind them.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from bench.spans import Body

API = "/v1/agl"


class Refused(Exception):
    """The server answered something other than success; `status` is the HTTP status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:300]!r}")
        self.status = status


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time. Raises ConnectionError when the server goes away."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._need: int | None = None
        self._start = 0
        self._status = 0
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._lost = False

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._need is None and not self._read_head():
            return
        assert self._need is not None
        if len(self._received) < self._need:
            return
        with memoryview(self._received) as received:
            body = bytes(received[self._start : self._need])
        self._received.clear()
        self._need = None
        if self._answer and not self._answer.done():
            self._answer.set_result((self._status, body))

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._received[:end]).lower()
        self._status = int(head[9:12])
        at = head.find(b"content-length:")
        if at < 0 and self._status != 204:
            raise RuntimeError(f"no content-length in {head!r}")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        self._start = end + 4
        self._need = self._start + length
        return True

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send one complete request; its status and body."""
        if self._lost or self._transport is None:
            raise ConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    async def ok(self, request: bytes) -> None:
        """Send one complete request whose answer must be a success; it is not parsed."""
        status, body = await self.send(request)
        if status >= 300:
            raise Refused(status, body)

    async def get(self, path: str) -> Any:
        status, body = await self.send(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return _json(status, body)

    async def post(self, path: str, body: Any = None) -> Any:
        return _json(*await self.send(json_request(path, body)))

    async def post_otlp(self, body: bytes) -> None:
        status, answer = await self.send(otlp_request(body))
        if status != 200:
            raise Refused(status, answer)

    def close(self) -> None:
        if self._transport:
            self._transport.close()


def json_request(path: str, body: Any = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def otlp_request(body: bytes) -> bytes:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _json(status: int, body: bytes) -> Any:
    if status >= 300:
        raise Refused(status, body)
    return json.loads(body) if body else None


@dataclass
class Timings:
    """What one phase of load did: `done` operations in `wall_s`, and how long each request took."""

    done: int = 0
    wall_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.done / self.wall_s if self.wall_s else 0.0

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def workers(port: int, number: int, work: Callable[[Connection, int], Awaitable[None]]) -> float:
    """Run `work(connection, index)` on `number` connections at once; how long all of it took, in seconds."""
    connections = [await Connection.open(port) for _ in range(number)]
    before = time.perf_counter()
    try:
        await asyncio.gather(*[work(connection, index) for index, connection in enumerate(connections)])
        return time.perf_counter() - before
    finally:
        for connection in connections:
            connection.close()


async def each(
    port: int, connections: int, items: Iterable[Any], act: Callable[[Connection, Any], Awaitable[int]]
) -> Timings:
    """Do `act` on every item, on `connections` at once; `act` says how many operations it did."""
    timings, left = Timings(), iter(items)

    async def work(connection: Connection, _: int) -> None:
        for item in left:
            before = time.perf_counter()
            did = await act(connection, item)  # not `+= await`: that would read the sum before the wait
            timings.latencies_s.append(time.perf_counter() - before)
            timings.done += did

    timings.wall_s = await workers(port, connections, work)
    return timings


Attempt = tuple[bytes, bytes]


async def open_attempts(port: int, number: int) -> list[Attempt]:
    """Enqueue and claim `number` rollouts; their rollout and attempt ids, ready for spans."""
    connection = await Connection.open(port)
    attempts: list[Attempt] = []
    try:
        while len(attempts) < number:
            batch = min(100, number - len(attempts))
            await connection.post(
                f"{API}/queues/rollouts/enqueue", {"rollouts": [{"input": {"task": i}} for i in range(batch)]}
            )
            claimed = await connection.post(f"{API}/queues/rollouts/dequeue", {"limit": batch})
            attempts += [(r["rollout_id"].encode(), r["attempt"]["attempt_id"].encode()) for r in claimed]
    finally:
        connection.close()
    return attempts


SPANS_PER_ROLLOUT = 1500


async def ingest(port: int, *, spans: int, prepared: list[Body], connections: int) -> Timings:
    """Send about `spans` spans in requests of one size, about 1 500 to a rollout; operations are spans."""
    size = prepared[0].spans
    requests = max(connections, spans // size)
    attempts = await open_attempts(port, max(connections, round(requests * size / SPANS_PER_ROLLOUT)))

    async def act(connection: Connection, number: int) -> int:
        body = prepared[number % len(prepared)].fresh(*attempts[number % len(attempts)])
        await connection.post_otlp(body)
        return size

    return await each(port, connections, range(requests), act)
