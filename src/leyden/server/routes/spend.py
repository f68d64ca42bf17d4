"""What calls through the gateway cost, by whatever one asks."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from leyden.ingest.usage import Usage
from leyden.server.requests import Json, context_of, project_of
from leyden.store import keys, spend
from leyden.store.spend import DAY_S, Cost, Dimension

router = APIRouter(prefix="/api/costs", tags=["costs"])

RANGE_DAYS = 30
_Time = Annotated[float, Query(ge=0, le=9.2e9, allow_inf_nan=False)]


class CostQuery(BaseModel):
    """What to group by, and which days (UTC): those in which `since` and `until` fall, unix seconds, and all between them."""

    by: Dimension = "model"
    since: _Time | None = None
    until: _Time | None = None


@router.get("")
def get_costs(request: Request, asked: Annotated[CostQuery, Query()]) -> Response:
    """What calls cost, the dearest group first. A cost is null where none is known; `unpriced_calls` says how many it leaves out."""
    project = project_of(request)
    until = int((time.time() if asked.until is None else asked.until) // DAY_S)
    since = until - RANGE_DAYS + 1 if asked.since is None else int(asked.since // DAY_S)
    with context_of(request).store.database.read() as tx:
        found = spend.costs(tx, project=project, by=asked.by, since=since, until=until)
        named = keys.query(tx, project=project) if asked.by == "key" else []
    names = {key.id: key.name for key in named}
    groups = [{**_shown(cost), "name": names.get(str(cost.value))} for cost in found]
    days = {"since": since * DAY_S, "until": (until + 1) * DAY_S}
    return Json({"by": asked.by, **days, "total": _shown(spend.total(found)), "groups": groups})


def _shown(cost: Cost) -> dict[str, Any]:
    tokens = dict(zip((f"{bucket}_tokens" for bucket in Usage._fields), cost.usage, strict=True))
    is_day = isinstance(cost.value, int)
    return {
        "value": time.strftime("%Y-%m-%d", time.gmtime(int(cost.value) * DAY_S)) if is_day else cost.value,
        "calls": cost.calls,
        "errors": cost.errors,
        **tokens,
        "cost_usd": cost.cost_usd,
        "unpriced_calls": cost.unpriced_calls,
    }
