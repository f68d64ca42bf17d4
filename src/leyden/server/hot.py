"""The routes that carry the load, as bare ASGI: a dictionary look-up, one body, one write, one answer.

Everything else goes on to FastAPI. The two answer errors alike.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from leyden.asgi import Receive, Reply, Scope, error_reply, read_body, unexpected_reply
from leyden.errors import LeydenError
from leyden.server.context import Context


class Call(NamedTuple):
    """One request to a hot route: its body is read and unzipped; `params` are the ids of the path."""

    context: Context
    project: str
    scope: Scope
    body: bytes
    params: tuple[str, ...]


Handler = Callable[[Call], Awaitable[Reply]]
H = TypeVar("H", bound=Handler)
Routes = dict[tuple[str, str], Handler]


class Shape(NamedTuple):
    """What a hot route takes and answers, for the contract: a type or a JSON schema, and other media beside JSON."""

    body: Any = None
    query: Any = None
    status: int = 200
    media: tuple[str, ...] = ()


_shapes: dict[Handler, Shape] = {}


def takes(
    body: Any = None, *, query: Any = None, status: int = 200, media: tuple[str, ...] = ()
) -> Callable[[H], H]:
    """Say for `openapi.json` what a hot route takes; it reads its body itself."""

    def describe(handler: H) -> H:
        _shapes[handler] = Shape(body, query, status, media)
        return handler

    return describe


def shape_of(handler: Handler) -> Shape:
    """What was said with `takes`; nothing taken and 200 answered when nothing was."""
    return _shapes.get(handler, Shape())


# The one hot path that holds ids: /v1/agl/rollouts/{rollout}/attempts/{attempt}
ATTEMPT = "/v1/agl/rollouts/{}/attempts/{}"


def match(routes: Routes, method: str, path: str) -> tuple[Handler | None, tuple[str, ...]]:
    """The handler of a request and the ids of its path; (None, ()) when FastAPI serves it."""
    handler = routes.get((method, path))
    if handler is not None:
        return handler, ()
    parts = path.split("/")
    if (
        len(parts) == 7
        and parts[5] == "attempts"
        and parts[6] != "search"
        and path.startswith("/v1/agl/rollouts/")
    ):
        return routes.get((method, ATTEMPT)), (parts[4], parts[6])
    return None, ()


async def answer(
    handler: Handler,
    context: Context,
    *,
    project: str,
    scope: Scope,
    params: tuple[str, ...],
    receive: Receive,
) -> Reply:
    """Read the body and run a handler on it. Never raises: every failure is an answer."""
    try:
        body = await read_body(scope, receive, limit=context.settings.max_body_bytes)
        return await handler(Call(context, project, scope, body, params))
    except LeydenError as error:
        return error_reply(error)
    except Exception as error:
        return unexpected_reply(error)
