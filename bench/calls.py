"""Model calls as load: prepared requests of a chat client over kept connections, timed to the first event and to the end.

Cheap on purpose, as `load.py` is: an answer is neither joined nor parsed, only its end is looked for.
"""

import asyncio
import itertools
import json
import time
from typing import cast

from bench.load import Refused, Timings
from bench.upstream import MODEL

KEY = "sk-bench"
CALLS_PER_SESSION = 20
_SESSIONS = itertools.count()

_SYSTEM = "You answer questions of customers about their orders. " + "Be brief and friendly. " * 12
_QUESTION = "Where is my order 4711? I ordered it two weeks ago and nobody has told me anything since. " * 4


def request(*, stream: bool) -> bytes:
    """A chat request, as OpenAI's Python client sends it, with room for the port and the number of its session."""
    asked = {
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}],
        "model": MODEL,
        "temperature": 0.2,
        **({"stream": True} if stream else {}),
    }
    body = json.dumps(asked, separators=(",", ":")).encode()
    lines = (
        b"POST /v1/chat/completions HTTP/1.1", b"Host: 127.0.0.1:%(port)d", b"Accept-Encoding: gzip, deflate", b"Connection: keep-alive",
        b"Accept: application/json", b"Content-Type: application/json", b"User-Agent: OpenAI/Python 2.8.0", b"X-Stainless-Lang: python",
        b"X-Stainless-Package-Version: 2.8.0", b"X-Stainless-OS: Linux", b"X-Stainless-Arch: x64", b"X-Stainless-Runtime: CPython",
        b"X-Stainless-Runtime-Version: 3.13.1", b"X-Stainless-Async: false", b"x-stainless-retry-count: 0", b"x-stainless-read-timeout: 600",
        b"Authorization: Bearer " + KEY.encode(), b"X-Session-Id: bench-%(session)08d", b"Content-Length: %d" % len(body), b"", body,
    )  # fmt: skip
    return b"\r\n".join(lines)


class Call(asyncio.Protocol):
    """One kept connection, one call at a time. Raises ConnectionError when the server goes away, Refused for an answer of no success."""

    def __init__(self) -> None:
        self._head = b""
        self._left: int | None = None  # bytes of the body to come; None for one in chunks
        self._kept: list[bytes] | None = None
        self._first: float | None = None
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> "Call":
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._left is None and not self._head:
            data = self._read_head(data)
        if self._first is None and data:
            self._first = time.perf_counter()
        if self._kept is not None:
            self._kept.append(data)
        if self._left is not None:
            self._left -= len(data)
            ends = self._left <= 0
        else:
            ends = data.endswith(b"0\r\n\r\n")
        if ends and self._done and not self._done.done():
            self._done.set_result(None)

    def _read_head(self, data: bytes) -> bytes:
        head, _, rest = data.partition(b"\r\n\r\n")
        self._head = head.lower()
        if self._head[9:12] != b"200":
            raise_to(self._done, Refused(int(self._head[9:12]), rest))
        at = self._head.find(b"content-length:")
        self._left = int(self._head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else None
        return rest

    async def make(self, asked: bytes) -> tuple[float, float]:
        """Send one complete request; seconds until the first byte of the answer's body, and until its last."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._head, self._left, self._first = b"", None, None
        self._done = asyncio.get_running_loop().create_future()
        before = time.perf_counter()
        self._transport.write(asked)
        await self._done
        after = time.perf_counter()
        return (self._first or after) - before, after - before

    async def body(self, asked: bytes) -> bytes:
        """Send one complete request; the body of its answer, out of its chunks."""
        self._kept = []
        await self.make(asked)
        whole, self._kept = b"".join(self._kept), None
        if b"transfer-encoding: chunked" not in self._head:
            return whole
        found = b""
        while whole:
            size, _, whole = whole.partition(b"\r\n")
            found, whole = found + whole[: int(size, 16)], whole[int(size, 16) + 2 :]
        return found

    def close(self) -> None:
        if self._transport:
            self._transport.close()


def raise_to(waiting: "asyncio.Future[None] | None", error: Exception) -> None:
    """Hand an error to who waits for an answer."""
    if waiting and not waiting.done():
        waiting.set_exception(error)


async def load(
    port: int, *, stream: bool, clients: int, calls: int, seconds: float
) -> tuple[Timings, Timings]:
    """Make `calls` calls on `clients` connections at once, or as many as fit into `seconds`; timed to the first byte and to the end.

    Every 20 calls of a client begin a session, and with it a rollout, that was never there before.
    """
    template = request(stream=stream)
    connections = [await Call.open(port) for _ in range(clients)]
    first, whole = Timings(), Timings()
    before = time.perf_counter()

    async def client(connection: Call) -> None:
        asked = b""
        for n in range(max(1, calls // clients)):
            if n % CALLS_PER_SESSION == 0:
                asked = template % {b"port": port, b"session": next(_SESSIONS)}
            to_first, to_end = await connection.make(asked)
            first.latencies_s.append(to_first)
            whole.latencies_s.append(to_end)
            if time.perf_counter() - before > seconds:
                return

    try:
        await asyncio.gather(*map(client, connections))
        whole.wall_s = first.wall_s = time.perf_counter() - before
    finally:
        for connection in connections:
            connection.close()
    whole.done = first.done = len(whole.latencies_s)
    return first, whole


async def body(port: int, *, stream: bool) -> bytes:
    """What one client gets for one call."""
    connection = await Call.open(port)
    try:
        return await connection.body(request(stream=stream) % {b"port": port, b"session": next(_SESSIONS)})
    finally:
        connection.close()
