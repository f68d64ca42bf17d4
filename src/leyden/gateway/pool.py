"""One try at one upstream, over connections that are kept alive.

Promises: `ask` returns once the first byte of an answer's body is there (or its end), so that everything before can still be retried;
nothing is decompressed, no redirect is followed, no cookie kept. A failure is an UpstreamError that names the upstream and the phase,
never a key. Refuses to know: retries, routing, what the bytes mean.
"""

import asyncio
import io
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import aiohttp

from leyden.errors import BadInput, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from leyden.gateway.answer import Answer, first_piece
from leyden.gateway.call import Family
from leyden.gateway.config import Upstream
from leyden.gateway.endpoint import Endpoint
from leyden.gateway.routing import Target

# aiohttp warns of larger bodies given as bytes, and copies them.
_LARGE_BODY = 2**20
_MAX_HEADER = 64 * 2**10
_KEEP_ALIVE_S = 60.0
# What aiohttp adds by itself; but what the client did not send, the upstream does not get.
_AUTOMATIC = frozenset({"user-agent", "accept", "accept-encoding", "content-type"})


class Outgoing(NamedTuple):
    """A request as one target is to get it. path: below the base URL, with its query. headers: the client's, lower-case names.

    may_repeat: False for a request that must not run twice: it is asked again only when the upstream surely did not run it.
    client: whose protocol the client speaks.
    """

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    may_repeat: bool = True
    client: Family = "openai"


class Dropped(UpstreamBroken):
    """The connection closed before a byte of an answer: mostly a kept-alive one that its server had given up."""


class Pool:
    """The upstreams of one configuration, each with connections of its own in every event loop that calls it."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._lines = {name: _Line(Endpoint(name, upstream)) for name, upstream in upstreams.items()}

    async def ask(self, target: Target, outgoing: Outgoing, *, limit_s: float) -> Answer:
        """Send a request and wait, at most `limit_s` seconds, for the first byte of the answer's body.

        Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken, BadInput. When cancelled, the connection closes at once.
        """
        return await self._lines[target.upstream].ask(target, outgoing, limit_s=limit_s)

    async def close(self) -> None:
        """Close all connections of the running loop."""
        for line in self._lines.values():
            await line.close()


class _Line:
    """One upstream's connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._name = endpoint, endpoint.name
        self._timeouts = endpoint.upstream.timeouts
        self._connecting = aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s)
        self._proxy = proxy_for(endpoint.root)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    async def ask(self, target: Target, outgoing: Outgoing, *, limit_s: float) -> Answer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit_s = min(limit_s, self._timeouts.first_byte_s, self._timeouts.total_s)
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(limit_s):
                response = await self._send(loop, target, outgoing)
                first = await first_piece(response)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, ValueError | aiohttp.ClientError | OSError | RuntimeError):
                raise self._told(error, has_begun=response is not None, limit_s=limit_s) from None
            raise
        return Answer(self._name, response, first, timeouts=self._timeouts, began=began)

    async def _send(
        self, loop: asyncio.AbstractEventLoop, target: Target, outgoing: Outgoing
    ) -> aiohttp.ClientResponse:
        body = outgoing.body
        headers = self._endpoint.headers(outgoing.headers, target, client=outgoing.client)
        return await self._session(loop).request(
            outgoing.method,
            self._endpoint.url(outgoing.path, target.model),
            headers=headers,
            # Named only when there are some: aiohttp copies all headers for it.
            skip_auto_headers=_AUTOMATIC.difference([name for name, _ in headers]) or None,
            data=(io.BytesIO(body) if len(body) > _LARGE_BODY else body) or None,
            timeout=self._connecting,
            proxy=self._proxy,
            allow_redirects=False,
        )

    def _session(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        session = self._sessions.get(loop)
        if session is None or session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._endpoint.upstream.max_connections, keepalive_timeout=_KEEP_ALIVE_S
            )
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
        return session

    async def close(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _told(self, error: Exception, *, has_begun: bool, limit_s: float) -> Exception:
        """A failure of aiohttp as one of ours."""
        where = f"Upstream {self._name!r} at {self._endpoint.host}"
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            took = f"took no connection within {self._timeouts.connect_s:g} s"
            return UpstreamTimeout(f"{where} {took}", "timeouts.connect_s is the limit", "connect")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
            return UpstreamUnreachable(f"{where} cannot be reached: {_reason(error)}", "is it running?")
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(
                f"{where} sent nothing within {limit_s:g} s",
                "timeouts.first_byte_s is the limit",
                "first byte",
            )
        if not has_begun and isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            return Dropped(f"{where} closed the connection without an answer", None, "first byte")
        if isinstance(error, aiohttp.ClientError | OSError):
            return UpstreamBroken(f"{where} sent an answer that is no HTTP or broke off", None, "first byte")
        if isinstance(error, ValueError):
            return BadInput("A header of this call cannot be sent", hint="it holds a line break or a NUL")
        return UpstreamError(f"{where} cannot be called: the gateway is closing", None, "connect")


def _reason(error: Exception) -> str:
    """Why there is no connection, in the words of the system; never an address with a name or password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or type(error.os_error).__name__
    return f"the proxy answered {error.status}" if isinstance(error, aiohttp.ClientHttpProxyError) else ""


def proxy_for(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL.

    Looked up once here: aiohttp would do it on every request, and read ~/.netrc in a thread besides.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
