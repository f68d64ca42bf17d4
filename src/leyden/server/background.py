"""A whole server in a thread of this process, on a port of its own: for a program that needs one for as long as it runs.

Promises: it answers when the constructor returns, and `close` lets running requests finish and stores what was recorded. Signals stay
the program's: they end no server here.
"""

import socket
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import uvicorn

from leyden.errors import LeydenError
from leyden.server.app import create_app
from leyden.server.auth import check_bind
from leyden.server.gateway import OpenGateway, open_gateway
from leyden.server.port import bind, config, url_of
from leyden.settings import Settings


class BackgroundServer:
    """A context manager; `url` is its address on this machine. gateway_from: opens its gateway.

    Raises LeydenError when the port is taken, a key is missing or the database does not open.
    """

    def __init__(self, settings: Settings, *, gateway_from: OpenGateway = open_gateway) -> None:
        check_bind(settings)
        listening = bind(settings.host, settings.port)
        try:
            self.settings = replace(settings, port=listening.getsockname()[1])
            self.app = create_app(self.settings, gateway_from=gateway_from)
        except BaseException:
            listening.close()
            raise
        self._server = _Server(config(self.app), self.app.context.drain)
        # A daemon: a program that forgets to close must still be able to end.
        self._thread = threading.Thread(
            target=self._serve, args=(listening,), name="leyden-server", daemon=True
        )
        self._thread.start()
        self._server.is_settled.wait()
        if not self._server.started:
            raise LeydenError(
                f"The server on {self.url} did not start",
                hint="its log says why; LEYDEN_LOG_LEVEL=debug shows more",
            )

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return url_of(self.settings)

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop, and return when everything is stored. Closing twice is fine."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, listening: socket.socket) -> None:
        try:
            self._server.run(sockets=[listening])
        finally:
            self._server.is_settled.set()
            listening.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, drain: Any) -> None:
        super().__init__(config)
        self.is_settled = threading.Event()
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Long polls and streams of events end at once; otherwise the stop would wait for them.
        self._drain()
        await super().shutdown(sockets)
