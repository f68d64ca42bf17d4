"""HTTP/1.1 for clients that offer to speak something else: their offers are not taken up, and the request is answered as it is.

That is what RFC 9110 (7.8) asks for, and what the parser beneath does not do: after an `Upgrade` it takes the body for the first bytes of
the other protocol, and a POST arrives empty. Java's client offers `h2c` with every first request.
"""

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# An offer of WebSockets stays, so that it can be turned down: it comes without a body.
_OFFER = re.compile(rb"\r\nupgrade:(?![ \t]*websocket)[^\r\n]*", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _is_between = True  # two requests: what comes next is the head of one

    def data_received(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._is_between and (b"pgrade:" in data or b"PGRADE:" in data):
            end = data.find(b"\r\n\r\n")
            head = data if end < 0 else data[:end]
            data = _OFFER.sub(b"", head) + data[len(head) :]
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is over."""
        self._is_between = True
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """An offer that nobody takes up is nothing to warn of."""
