"""Notices when a client leaves while its call is served, and cancels the task that serves it.

Promises: a call that is over within `AFTER_S` costs no task of its own for that: most that take no longer never needed one. A client that
left before that is noticed then. Refuses to know: what is served.
"""

import asyncio
from typing import Any

from leyden.asgi import Receive

AFTER_S = 0.02


async def left(receive: Receive) -> None:
    """Returns when the client has left. The body of its request was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Leaving:
    """Watches one client from now until `stop`. serving: the task that serves it."""

    def __init__(self, receive: Receive, serving: "asyncio.Task[Any]") -> None:
        self.has_left = False
        self._receive, self._serving = receive, serving
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(AFTER_S, self._begin)

    def stop(self) -> None:
        """The call is over: the client may leave."""
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        await left(self._receive)
        self.has_left = True
        self._serving.cancel()
