"""Many clients that read a stream each, at the same time, over sockets of their own."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# More of them at once would only overrun the backlog of the socket that they connect to.
_CONNECTING = 64


@dataclass
class Crowd:
    """readers: how many. Each asks `path` of the server at `url` for a stream, reads `first` bytes, waits for `go`, reads the rest."""

    url: str
    path: str
    asked: dict[str, Any]
    readers: int
    first: int
    read: list[bytes] = field(default_factory=list[bytes])

    def gather(self, meanwhile: Callable[[], None]) -> list[bytes]:
        """The bodies, once all are read. meanwhile: called when every reader has read its first bytes."""
        return asyncio.run(asyncio.wait_for(self._gather(meanwhile), 120))

    async def _gather(self, meanwhile: Callable[[], None]) -> list[bytes]:
        connecting, go = asyncio.Semaphore(_CONNECTING), asyncio.Event()
        ready = asyncio.Barrier(self.readers + 1)
        reading = [asyncio.create_task(self._reader(connecting, ready, go)) for _ in range(self.readers)]
        failed = asyncio.gather(*reading)
        await asyncio.wait({asyncio.ensure_future(ready.wait()), failed}, return_when=asyncio.FIRST_COMPLETED)
        if not failed.done():
            await asyncio.to_thread(meanwhile)
            go.set()
        return await failed

    async def _reader(
        self, connecting: asyncio.Semaphore, ready: asyncio.Barrier, go: asyncio.Event
    ) -> bytes:
        address = urlsplit(self.url)
        body = json.dumps(self.asked).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        async with connecting:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            got = await _dechunked(reader, at_least=self.first)
        await ready.wait()
        await go.wait()
        got += await _dechunked(reader)
        writer.close()
        return got


async def _dechunked(reader: asyncio.StreamReader, at_least: int | None = None) -> bytes:
    """The body of a chunked answer to its end, or as soon as there is so much of it."""
    got = b""
    while at_least is None or len(got) < at_least:
        size = int(await reader.readuntil(b"\r\n"), 16)
        got += (await reader.readexactly(size + 2))[:-2]
        if not size:
            break
    return got
