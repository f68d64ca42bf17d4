"""Packing on demand."""

import time

from fastapi import APIRouter, Request, Response

from leyden.server.requests import Json, context_of
from leyden.store import pack

router = APIRouter(prefix="/api/db", tags=["database"])


@router.post("/pack")
def pack_now(request: Request) -> Response:
    """Pack every ended rollout now, also those that the job would leave for a moment; how much that was."""
    return Json(pack.pack_all(context_of(request).store, now=time.time())._asdict())
