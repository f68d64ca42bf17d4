"""Full-text search over what agents said and were told."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from leyden.server.requests import Json, context_of, project_of
from leyden.store import indexing, search
from leyden.store.filters import span_tests
from leyden.store.filters.spans import span_condition
from leyden.types import Mode, SpanKind

router = APIRouter(prefix="/api", tags=["search"])

Seconds = Annotated[float, Field(allow_inf_nan=False)]


class SearchQuery(BaseModel):
    """What to look for, and in which spans. Times are unix seconds, `until` exclusive; rewards are the rollout's."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field(description='words, "phrases", beginnings*, -without, one OR other')
    since: Seconds | None = None
    until: Seconds | None = None
    agent: str | None = None
    model: str | None = None
    tool: str | None = None
    kind: SpanKind | None = None
    status: Literal["unset", "ok", "error"] | None = None
    mode: Mode | None = None
    rollout_id: str | None = None
    min_reward: Seconds | None = None
    max_reward: Seconds | None = None
    limit: int = Field(20, ge=1, le=search.MOST)
    cursor: str | None = None
    filter: str | None = Field(None, description="of the filter language: docs/how-to/filter.md")

    @field_validator("agent", "model", "tool", "rollout_id")
    @classmethod
    def _storable(cls, text: str | None) -> str | None:
        # As it was scrubbed when it was stored; PostgreSQL refuses NUL.
        return None if text is None else text.replace("\0", "\ufffd")

    def narrow(self) -> search.Narrow:
        """The filters that have a parameter of their own."""
        return search.Narrow(**{name: getattr(self, name) for name in search.Narrow._fields})


@router.get("/search")
def search_texts(request: Request, asked: Annotated[SearchQuery, Query()]) -> Response:
    """A page of spans that say it, newest first, with the parts of their texts that hold the words.

    `complete` is false when the search stopped before the page was full; `cursor` goes on. `waiting` counts ended rollouts that are
    not indexed yet; those that still run are not found.
    """
    project, where = project_of(request), asked.narrow().conditions()
    if asked.filter:
        where.append(span_condition(span_tests(asked.filter, now=time.time())))
    with context_of(request).store.database.read() as tx:
        found = search.find(tx, asked.q, project=project, where=where, limit=asked.limit, cursor=asked.cursor)
        waiting = indexing.waiting(tx, project=project)
    items = [_hit(hit) for hit in found.hits]
    return Json({"items": items, "cursor": found.cursor, "complete": found.complete, "waiting": waiting})


def _hit(hit: search.Hit) -> dict[str, Any]:
    snippets = [[piece._asdict() for piece in snippet] for snippet in hit.snippets]
    return {"span": hit.span, "rollout": hit.rollout._asdict(), "snippets": snippets}
