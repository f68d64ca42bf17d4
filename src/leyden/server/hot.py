"""The routes that carry the load, as bare ASGI: a dictionary look-up, one body, one write, one answer.

Everything else goes on to FastAPI. The two answer errors alike.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from leyden.errors import LeydenError
from leyden.server.context import Context
from leyden.server.http import (
    App,
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    read_body,
    send_reply,
    unexpected_reply,
)


class Call(NamedTuple):
    """One request to a hot route: its body is read and unzipped; `params` are the ids of the path."""

    context: Context
    project: str
    scope: Scope
    body: bytes
    params: tuple[str, ...]


Handler = Callable[[Call], Awaitable[Reply]]
Routes = dict[tuple[str, str], Handler]

# The one hot path that holds ids: /v1/agl/rollouts/{rollout}/attempts/{attempt}
ATTEMPT = "/v1/agl/rollouts/{}/attempts/{}"


class HotRoutes:
    """ASGI middleware that answers the hot routes itself."""

    def __init__(self, app: App, context: Context, routes: Routes) -> None:
        self._app = app
        self._context = context
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler, params = self._match(scope) if scope["type"] == "http" else (None, ())
        if handler is None:
            await self._app(scope, receive, send)
            return
        scope["leyden.hot"] = True
        try:
            body = await read_body(scope, receive, limit=self._context.settings.max_body_bytes)
            reply = await handler(Call(self._context, scope["leyden.project"], scope, body, params))
        except LeydenError as error:
            reply = error_reply(error)
        except Exception as error:
            reply = unexpected_reply(error)
        await send_reply(send, reply)

    def _match(self, scope: Scope) -> tuple[Handler | None, tuple[str, ...]]:
        path, method = scope["path"], scope["method"]
        handler = self._routes.get((method, path))
        if handler is not None:
            return handler, ()
        parts = path.split("/")
        if (
            len(parts) == 7
            and parts[5] == "attempts"
            and parts[6] != "search"
            and path.startswith("/v1/agl/rollouts/")
        ):
            return self._routes.get((method, ATTEMPT)), (parts[4], parts[6])
        return None, ()
