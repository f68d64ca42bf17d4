"""HTTP/1.1 on one connection: what uvicorn leaves to its parser and that parser to nobody.

Promises
1. A head (request line and headers) takes at most HEAD_BYTES and what one read brings, and HEAD_S seconds; so do the trailers of a
   body. Beyond that the answer is 431 or 408. No key was asked for yet, so this is what anybody may make the server hold.
2. What is no HTTP gets an error in the words of every other error, and its connection ends.
3. An offer to speak another protocol is not taken up, and the request is answered as it is. That is what RFC 9110 (7.8) asks for, and what
   the parser does not do: it takes the body for the first bytes of the other protocol, and a POST arrives empty. Java's client offers
   `h2c` with every first request.
4. Who is being answered hears that its client left, also when that client had sent further requests behind.

Refuses to know: what is served. A body is bounded where it is read.
"""

import asyncio

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from leyden.asgi import error_reply
from leyden.errors import BadFormat, BadInput, LeydenError, TooLarge

HEAD_BYTES = 256 * 1024
HEAD_S = 60.0
# How long a refused connection is listened to, so that its client reads the answer before it hears that nobody reads what it sends.
_LINGER_S = 1.0


class Protocol(HttpToolsProtocol):
    """One connection."""

    parser: httptools.HttpRequestParser  # None once the connection is lost; nothing is read then
    _unparsed = 0  # bytes of a head, or of trailers, that has begun and is not complete
    _is_moving = False  # whether what came last completed a head or belonged to a body
    _is_refused = False
    _deadline: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = (
        None  # the request that is; uvicorn's `cycle` is the last that was read
    )
    _plain_head = b""  # the head of a request that offers another protocol, without its offer

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Somebody connected."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._expect_nothing()
        self._end_answering()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._is_moving = False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.logger.warning("Invalid HTTP request received: %s", error)
            self._refuse(
                BadFormat(f"The request is no HTTP/1.1: {error}", hint="this port speaks plain http://")
            )
            return
        if self._is_moving:
            self._unparsed = 0
            if self._deadline is not None:
                self._expect_nothing()
            return
        self._unparsed += len(data)
        if self._unparsed > HEAD_BYTES:
            self._refuse(_head_too_large())
        elif self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._is_moving = True
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._plain_head = self._without_offer()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body came."""
        self._is_moving = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is over; not one that offers another protocol, which is still to be read."""
        self._is_moving = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        left = memoryview(data)
        while True:
            try:
                self.parser.feed_data(left)
            except httptools.HttpParserUpgrade as offer:
                left = left[offer.args[0] :]
                # A new one: after an offer with `Connection: close` the old one would skip all that follows.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(self._plain_head)
            else:
                return

    def _without_offer(self) -> bytes:
        """The head again, asking for nothing but an answer. Who offers WebSockets can still be told that they did."""
        lines = [
            b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            if name == b"connection":
                options = (option.strip() for option in value.split(b","))
                value = b", ".join(option for option in options if option.lower() != b"upgrade")
            if name != b"upgrade" or value.lower() == b"websocket":
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_S, self._head_is_late)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        if self._is_busy():  # with an answer that takes its time, while the next head, or trailers, began
            self._expect_head()
        elif self._unparsed:
            late = BadInput(f"The head of the request was not complete after {HEAD_S:.0f} seconds")
            late.status = 408
            self._refuse(late)
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _is_busy(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _end_answering(self) -> None:
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _refuse(self, error: LeydenError) -> None:
        """Answer what cannot be read on, and end the connection."""
        self._expect_nothing()
        self._is_refused = True
        running = self._answering if self._is_busy() else None
        self._end_answering()
        # Beside another answer it would be taken for that one, or for the rest of it.
        if running is not None and (running is not self.cycle or running.response_started):
            self.transport.close()
            return
        reply = error_reply(error)
        head = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]  # fmt: skip
        lines = [b"%b: %b\r\n" % line for line in (*self.server_state.default_headers, *head)]
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", reply.body]))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


def _head_too_large() -> TooLarge:
    error = TooLarge(
        f"The headers of the request are larger than {HEAD_BYTES} bytes", hint="send less in them"
    )
    error.status = 431
    return error
