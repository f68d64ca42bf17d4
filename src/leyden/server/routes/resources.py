"""Resources in the store protocol: bare maps of name → resource."""

import secrets
import time
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, RootModel

from leyden.asgi import check_id
from leyden.server import wire
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import resources
from leyden.store.query import Paging
from leyden.types import Resource

router = APIRouter(prefix="/v1/agl", tags=["resources"])


class NamedResources(RootModel[dict[str, Resource]]):
    """Name → resource."""


class ListResources(BaseModel):
    """Which resources; the two id filters hold together."""

    resources_id: str | None = None
    resources_id_contains: str | None = None
    sort_by: str | None = None
    sort_order: Literal["asc", "desc"] = "asc"
    limit: int = -1
    offset: int = 0


def _put(request: Request, resources_id: str, named: NamedResources) -> Response:
    context, project, now = context_of(request), project_of(request), time.time()
    check_id(resources_id, "resources_id", context.settings)
    plain = orjson.loads(orjson.dumps(named.model_dump(mode="json")))
    row = context.store.writer.run(
        lambda tx: resources.put(tx, project=project, resources_id=resources_id, resources=plain, now=now)
    )
    return Json(wire.resources(row))


@router.get("/resources")
def list_resources(request: Request, asked: Annotated[ListResources, Query()]) -> Response:
    """A page of the newest versions."""
    paging = Paging(asked.limit, asked.offset, asked.sort_by, asked.sort_order)
    with context_of(request).store.database.read() as tx:
        rows, total = resources.query(
            tx,
            project=project_of(request),
            resources_id=asked.resources_id,
            resources_id_contains=asked.resources_id_contains,
            paging=paging,
        )
    return Json(
        wire.page([wire.resources(row) for row in rows], limit=asked.limit, offset=asked.offset, total=total)
    )


@router.post("/resources", status_code=201)
def add_resources(request: Request, named: Annotated[NamedResources, body_of(NamedResources)]) -> Response:
    """Keep resources under a fresh id; they become the latest."""
    reply = _put(request, f"rs-{secrets.token_hex(6)}", named)
    reply.status_code = 201
    return reply


@router.get("/resources/latest")
def latest_resources(request: Request) -> Response:
    """The version updated last, or null."""
    with context_of(request).store.database.read() as tx:
        row = resources.latest(tx, project=project_of(request))
    return Json(wire.resources(row) if row is not None else None)


@router.get("/resources/{resources_id:path}")
def get_resources(request: Request, resources_id: str) -> Response:
    """The newest version under an id, or null."""
    with context_of(request).store.database.read() as tx:
        row = resources.get(tx, project=project_of(request), resources_id=resources_id)
    return Json(wire.resources(row) if row is not None else None)


@router.post("/resources/{resources_id:path}")
def update_resources(
    request: Request, resources_id: str, named: Annotated[NamedResources, body_of(NamedResources)]
) -> Response:
    """Keep the next version under an id, which may be new; it becomes the latest."""
    return _put(request, resources_id, named)
