"""Packing on demand."""

import time
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from leyden.server.requests import Json, body_of, context_of
from leyden.store import pack

router = APIRouter(prefix="/api/db", tags=["database"])


class PackNow(BaseModel):
    """Which rollouts: those that ended at least so many seconds ago."""

    after_s: float = Field(0, ge=0)


@router.post("/pack")
def pack_now(request: Request, asked: Annotated[PackNow, body_of(PackNow)]) -> Response:
    """Pack ended rollouts now, also those that the job would leave for a moment; how much that was."""
    store = context_of(request).store
    return Json(pack.pack_all(store, now=time.time(), after_s=asked.after_s)._asdict())
