"""A project's own prices over HTTP; changing them needs the scope admin."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import prices

router = APIRouter(prefix="/api/prices", tags=["costs"])


class NewPrice(BaseModel):
    """What a model costs. pattern: a model, "provider/model", or a glob of either. rates: USD per million tokens of input,
    cache_read, cache_write, cache_write_1h, output, reasoning, audio_input and audio_output, and `call` in USD per call; what is
    left out costs what it is a part of."""

    pattern: str
    rates: dict[str, float]


def _shown(row: prices.PriceOverride) -> dict[str, Any]:
    return {"pattern": row.pattern, "rates": row.rates, "create_time": row.create_time}


@router.get("")
def list_prices(request: Request) -> Response:
    """The prices that were set, by pattern. What is not among them is priced by the list of genai-prices."""
    with context_of(request).store.database.read() as tx:
        return Json([_shown(row) for row in prices.query(tx, project=project_of(request))])


@router.put("")
def set_price(request: Request, asked: Annotated[NewPrice, body_of(NewPrice)]) -> Response:
    """Set the price of what a pattern names. It holds for calls from now on; costs that are known already stay."""
    context, now, project = context_of(request), time.time(), project_of(request)
    row = context.store.writer.run(
        lambda tx: prices.put(tx, asked.pattern, dict(asked.rates), project=project, now=now)
    )
    context.prices.reread()
    return Json(_shown(row))


@router.delete("/{pattern:path}", status_code=204)
def delete_price(request: Request, pattern: str) -> Response:
    """Price by the list again."""
    context, project = context_of(request), project_of(request)
    context.store.writer.run(lambda tx: prices.delete(tx, pattern, project=project))
    context.prices.reread()
    return Response(status_code=204)
