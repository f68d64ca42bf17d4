"""Workers in the store protocol."""

import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from leyden.asgi import check_id
from leyden.errors import BadInput
from leyden.server import wire
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import workers
from leyden.store.query import Paging
from leyden.types import WorkerStatus

router = APIRouter(prefix="/v1/agl", tags=["workers"])


class SearchWorkers(BaseModel):
    """Which workers."""

    status_in: list[WorkerStatus] | None = None
    worker_id_contains: str | None = None
    filter_logic: Literal["and", "or"] = "and"
    sort_by: str | None = None
    sort_order: Literal["asc", "desc"] = "asc"
    limit: int = -1
    offset: int = 0


class Heartbeat(BaseModel):
    """A sign of life with whatever the worker tells of itself."""

    heartbeat_stats: dict[str, Any] | None = None


def _page(request: Request, asked: SearchWorkers) -> Response:
    status_in = [*map(str, asked.status_in)] if asked.status_in is not None else None
    paging = Paging(asked.limit, asked.offset, asked.sort_by, asked.sort_order)
    with context_of(request).store.database.read() as tx:
        rows, total = workers.query(
            tx,
            project=project_of(request),
            status_in=status_in,
            worker_id_contains=asked.worker_id_contains,
            logic=asked.filter_logic,
            paging=paging,
        )
    return Json(
        wire.page([wire.worker(row) for row in rows], limit=asked.limit, offset=asked.offset, total=total)
    )


@router.get("/workers")
def list_workers(request: Request, asked: Annotated[SearchWorkers, Query()]) -> Response:
    """A page of workers."""
    return _page(request, asked)


@router.post("/workers/search")
def search_workers(request: Request, asked: Annotated[SearchWorkers, body_of(SearchWorkers)]) -> Response:
    """The same page, asked for with a body."""
    return _page(request, asked)


@router.get("/workers/{worker_id:path}")
def get_worker(request: Request, worker_id: str) -> Response:
    """One worker, or null."""
    with context_of(request).store.database.read() as tx:
        row = workers.get(tx, worker_id, project=project_of(request))
    return Json(wire.worker(row) if row is not None else None)


@router.post("/workers/{worker_id:path}")
def update_worker(
    request: Request, worker_id: str, beat: Annotated[Heartbeat, body_of(Heartbeat)]
) -> Response:
    """A sign of life: extends the lease of the attempt the worker is busy with."""
    context, project, now = context_of(request), project_of(request), time.time()
    check_id(worker_id, "worker_id", context.settings)
    if "heartbeat_stats" in beat.model_fields_set and beat.heartbeat_stats is None:
        raise BadInput("heartbeat_stats is invalid; it cannot be a null value.")
    stats = orjson.dumps(beat.heartbeat_stats).decode() if beat.heartbeat_stats is not None else None
    row = context.store.writer.run(
        lambda tx: workers.heartbeat(
            tx, project=project, worker_id=worker_id, stats=stats, now=now, lease_s=context.settings.lease_s
        )
    )
    return Json(wire.worker(row))
