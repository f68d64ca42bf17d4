"""What is kept and what goes: retention policies and pruning. All of it needs the scope admin, for any project."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from leyden.asgi import check_id
from leyden.errors import NotFound
from leyden.server.context import Context
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import retention
from leyden.store.retention import Policy, Pruned
from leyden.types import Mode

router = APIRouter(prefix="/api", tags=["database"])

# A request deletes for this long and says whether there is more: no proxy in between loses patience.
PRUNE_S = 10.0

AnyMode = Mode | Literal[""]


class Bounds(BaseModel):
    """How much is kept: seconds since the end of a rollout, ended rollouts, bytes of their payloads. None is no bound."""

    max_age_s: float | None = Field(None, ge=0)
    max_rollouts: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)


class Retain(Bounds):
    """A policy; mode "" is every mode without a policy of its own."""

    project: str | None = None
    mode: AnyMode = ""


class Prune(Bounds):
    """What to delete now. Without any bound the stored policies of the project are applied; mode None is all modes."""

    project: str | None = None
    mode: Mode | None = None
    dry_run: bool = False


class Which(BaseModel):
    """Which policy."""

    project: str | None = None
    mode: AnyMode = ""


def _project(request: Request, named: str | None) -> str:
    return check_id(named, "project", context_of(request).settings) or project_of(request)


@router.get("/retention")
def list_retention(request: Request, project: str | None = None) -> Response:
    """The policies of a project."""
    with context_of(request).store.database.read() as tx:
        found = retention.policies(tx, project=_project(request, project))
    return Json([policy._asdict() for policy in found])


@router.put("/retention")
def set_retention(request: Request, asked: Annotated[Retain, body_of(Retain)]) -> Response:
    """Store a policy in the place of the one for its project and mode."""
    policy = Policy(
        _project(request, asked.project), asked.mode, asked.max_age_s, asked.max_rollouts, asked.max_bytes
    )
    context_of(request).store.writer.run(lambda tx: retention.put(tx, policy))
    return Json(policy._asdict())


@router.delete("/retention", status_code=204)
def clear_retention(request: Request, asked: Annotated[Which, Query()]) -> Response:
    """Remove a policy."""
    project, mode = _project(request, asked.project), asked.mode
    if not context_of(request).store.writer.run(lambda tx: retention.clear(tx, project=project, mode=mode)):
        raise NotFound(
            f"Project {project!r} has no retention policy for {repr(mode) if mode else 'all modes'}",
            hint="`leyden db retention` shows those it has",
        )
    return Response(status_code=204)


@router.post("/db/prune")
def prune(request: Request, asked: Annotated[Prune, body_of(Prune)]) -> Response:
    """Delete ended rollouts beyond the bounds, oldest first; `more` says that time ran out and another call goes on."""
    return Json(_pruned(context_of(request), asked, _project(request, asked.project))._asdict())


def _pruned(context: Context, asked: Prune, project: str) -> Pruned:
    # An in-process client may ask while the clock of a test stands still: time left is measured on another one.
    end = time.monotonic() + PRUNE_S

    def enough() -> bool:
        return context.draining or (not asked.dry_run and time.monotonic() > end)

    now, mode = time.time(), asked.mode
    policy = Policy(project, mode or "", asked.max_age_s, asked.max_rollouts, asked.max_bytes)
    if policy.is_bound:
        retention.finish(context.store, enough=enough)
        return retention.prune(context.store, policy, now=now, dry_run=asked.dry_run, enough=enough)
    otherwise = retention.default(context.settings)
    return retention.apply(
        context.store, now=now, project=project, mode=mode, otherwise=otherwise, dry_run=asked.dry_run, enough=enough
    )  # fmt: skip
