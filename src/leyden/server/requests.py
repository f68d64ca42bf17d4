"""What FastAPI routes share: the context behind a request, a checked body, an answer in spliced JSON."""

from typing import Any, TypeVar

import orjson
from fastapi import Depends, Request, Response
from pydantic import BaseModel

from leyden.asgi import decode_model, read_body
from leyden.server.context import Context

M = TypeVar("M", bound=BaseModel)


def context_of(request: Request) -> Context:
    """The server's state."""
    return request.app.state.leyden


def project_of(request: Request) -> str:
    """The caller's project."""
    return request.scope["leyden.project"]


class Json(Response):
    """A JSON answer by orjson."""

    media_type = "application/json"

    def __init__(self, value: Any, status_code: int = 200) -> None:
        super().__init__(orjson.dumps(value), status_code)


def body_of(model: type[M]) -> Any:
    """A dependency that reads the body into a model, bounded in size and depth; an absent body or null is `{}`.

    FastAPI's own body parsing has neither bound and answers deep nesting with a 500.
    """

    async def read(request: Request) -> M:
        settings = context_of(request).settings
        body = await read_body(request.scope, request.receive, limit=settings.max_body_bytes)
        return decode_model(b"{}" if body.strip() in (b"", b"null") else body, model, settings)

    read.model = model  # pyright: ignore[reportFunctionMemberAccess]  # what the contract says of the body
    return Depends(read)
