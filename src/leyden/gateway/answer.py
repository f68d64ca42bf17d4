"""An upstream's answer while it is on its way: its head is there, its body comes in pieces, each within its limits.

Promises: pieces are handed out as they arrive, unchanged; every way in which a body can stop is an UpstreamError that says so; a
client that leaves is felt by the upstream at once (`abort`). Refuses to know: which request it answers, what the bytes mean.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

import aiohttp

from leyden.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from leyden.gateway.config import Timeouts
from leyden.gateway.endpoint import HOP_BY_HOP

Headers = list[tuple[bytes, bytes]]


class Answer:
    """status, headers (lower-case names, without those of the connection) and a body to be read once, until `ends_at` on the loop's clock."""

    def __init__(
        self, name: str, response: aiohttp.ClientResponse, first: bytes, *, timeouts: Timeouts, began: float
    ) -> None:
        """name: the upstream's. first: what came of the body already. began: when the request was sent, on the loop's clock."""
        self.status = response.status
        self.headers: Headers = [
            (lower, value) for key, value in response.raw_headers if (lower := key.lower()) not in HOP_BY_HOP
        ]
        self.on_failure: Callable[[UpstreamError], None] | None = None
        self._name, self._response, self._first = name, response, first
        self._timeouts, self.ends_at = timeouts, began + timeouts.total_s

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces as they arrive. Raises UpstreamBroken, UpstreamTimeout; leaving it early closes the connection."""
        if self._first:
            yield self._first
        content = self._response.content
        if content.at_eof():
            return
        watch = _Watch(self._response, self._name, self._timeouts, ends_at=self.ends_at)
        try:
            while piece := await watch.readany():
                yield piece
        except (aiohttp.ClientError, OSError, UpstreamTimeout) as error:
            raise self._failed(error) from None
        finally:
            watch.stop()
            if not content.at_eof():
                self.abort()

    async def keep(self, limit: int, *, limit_s: float) -> bool:
        """Read the whole body now, so that the connection is free; False when it is larger, slower or broken: then it is lost."""
        read = b""
        try:
            async with asyncio.timeout(limit_s):
                async for piece in self.chunks():
                    read += piece
                    if len(read) > limit:
                        break
        except (UpstreamError, TimeoutError):
            return False
        finally:
            self._first = read
            if not self._response.content.at_eof():
                self.abort()
        return len(read) <= limit

    def abort(self) -> None:
        """Cancel the call: the connection closes at once, and the upstream stops working for nobody."""
        self._response.close()

    def _failed(self, error: BaseException) -> UpstreamError:
        failure = (
            error
            if isinstance(error, UpstreamTimeout)
            else UpstreamBroken(
                f"Upstream {self._name!r} broke off in the middle of its answer", phase="idle"
            )
        )
        if self.on_failure is not None:
            self.on_failure(failure)
        return failure


async def first_piece(response: aiohttp.ClientResponse) -> bytes:
    """What comes first of a body; b"" when it is empty. Raises what aiohttp raises for a broken one."""
    content = response.content
    if content.total_bytes or content.is_eof():
        return await content.readany()
    lifeline = _Lifeline(response)
    try:
        return await content.readany()
    finally:
        lifeline.release()


class _Lifeline:
    """Ends a read when its connection is gone. aiohttp does so itself but for chunked bodies that stop being chunked: without this, such
    a read would wait for its time-out, minutes later."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        connection = response.connection
        protocol = connection.protocol if connection is not None else None
        self._content = response.content
        self._closed = protocol.closed if protocol is not None else None
        if self._closed is not None:
            self._closed.add_done_callback(self._gone)
        elif not self._content.is_eof():
            self._break()

    def release(self) -> None:
        """The connection may go: nobody reads any more."""
        if self._closed is not None:
            self._closed.remove_done_callback(self._gone)
            # One callback that looks at the error stays with the connection, or asyncio would log that nobody did.
            self._closed.remove_done_callback(_looked_at)
            self._closed.add_done_callback(_looked_at)

    def _gone(self, closed: asyncio.Future[None]) -> None:
        _looked_at(closed)
        if not self._content.is_eof():
            self._break()

    def _break(self) -> None:
        if self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the connection is gone"))


def _looked_at(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


class _Watch:
    """Reads with two limits, between pieces and for the whole, by one timer that is set anew only when it fires."""

    def __init__(
        self, response: aiohttp.ClientResponse, name: str, timeouts: Timeouts, *, ends_at: float
    ) -> None:
        self._response, self._name, self._timeouts, self._ends_at = response, name, timeouts, ends_at
        self._loop, self._lifeline = asyncio.get_running_loop(), _Lifeline(response)
        # None while the client takes its time with the last piece: that is no silence of the upstream.
        self._waiting_since: float | None = None
        self._expired: UpstreamTimeout | None = None
        self._timer = self._loop.call_at(min(self._loop.time() + timeouts.idle_s, ends_at), self._look)

    async def readany(self) -> bytes:
        """The next piece; b"" at the end. Raises UpstreamTimeout, and what aiohttp raises for a broken body."""
        self._waiting_since = self._loop.time()
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError):
            if self._expired is not None:
                raise self._expired from None
            raise
        finally:
            self._waiting_since = None

    def stop(self) -> None:
        """No more looking."""
        self._timer.cancel()
        self._lifeline.release()

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._waiting_since is None else self._waiting_since
        next_look = min(since + self._timeouts.idle_s, self._ends_at)
        if next_look > now:
            self._timer = self._loop.call_at(next_look, self._look)
            return
        self._expired = self._timeout(is_total=now >= self._ends_at)
        # Closing wakes the reader with a broken connection, which is told as what it was.
        self._response.content.set_exception(self._expired)
        self._response.close()

    def _timeout(self, *, is_total: bool) -> UpstreamTimeout:
        if is_total:
            text = f"Upstream {self._name!r} was not done after {self._timeouts.total_s:g} s"
            return UpstreamTimeout(text, "timeouts.total_s is the limit", "total")
        text = (
            f"Upstream {self._name!r} fell silent for {self._timeouts.idle_s:g} s in the middle of its answer"
        )
        return UpstreamTimeout(text, "timeouts.idle_s is the limit", "idle")
