"""Is it alive, is it ready, what does it hold, how is it doing."""

import time

from fastapi import APIRouter, Request, Response

import leyden
from leyden.asgi import Reply
from leyden.errors import StoreBusy
from leyden.ingest import native
from leyden.server.hot import Call, Routes
from leyden.server.requests import Json, context_of, project_of
from leyden.store import resources, rollouts, workers

router = APIRouter(tags=["health"])


async def alive(call: Call) -> Reply:
    """GET /healthz and health: the process answers."""
    return Reply(200, b'{"status":"ok"}')


HOT: Routes = {("GET", "/healthz"): alive, ("GET", "/v1/agl/health"): alive}


@router.get("/readyz")
def ready(request: Request) -> Response:
    """Whether requests should be sent here: the database answers and the server is not shutting down."""
    context = context_of(request)
    if context.draining:
        raise StoreBusy("The server is shutting down")
    context.store.check()
    return Json({"status": "ready"})


@router.get("/v1/agl/statistics")
def statistics(request: Request) -> Response:
    """Counts of what this project holds, and seconds since the start."""
    context, project = context_of(request), project_of(request)
    with context.store.database.read() as tx:
        counts = rollouts.counts(tx, project=project)
        counts |= {
            "resources": resources.count(tx, project=project),
            "workers": workers.count(tx, project=project),
        }
    return Json(
        {
            "name": "LeydenStore",
            **{f"total_{what}": n for what, n in counts.items()},
            "uptime": time.time() - context.started,
        }
    )


@router.get("/api/info")
def info(request: Request) -> Response:
    """What this server is: version, database, project, counts."""
    context, project = context_of(request), project_of(request)
    with context.store.database.read() as tx:
        counts = rollouts.counts(tx, project=project)
    return Json(
        {
            "version": leyden.__version__,
            "database": context.store.database.label,
            "project": project,
            "decoder": native.in_use(),
            "counts": counts,
        }
    )


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus text exposition."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_LATEST)
