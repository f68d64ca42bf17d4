"""Scores posted from outside: human feedback, judges, late rewards."""

import math
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import RootModel

from leyden.errors import BadInput
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import scores
from leyden.types import Score

router = APIRouter(prefix="/api", tags=["scores"])


class Scores(RootModel[list[Score]]):
    """Scores about any rollouts of the project."""


@router.post("/scores", status_code=201)
def add_scores(request: Request, posted: Annotated[Scores, body_of(Scores)]) -> Response:
    """Keep scores: all of them, or none when one is about a rollout nobody knows."""
    for score in posted.root:
        if not math.isfinite(score.value):
            raise BadInput(f"The value of score {score.name!r} is not a finite number")
    project = project_of(request)
    context_of(request).store.writer.run(lambda tx: scores.add(tx, posted.root, project=project))
    return Json([score.model_dump() for score in posted.root], 201)


@router.get("/rollouts/{rollout_id}/scores")
def list_scores(request: Request, rollout_id: str) -> Response:
    """All scores of a rollout, oldest first."""
    with context_of(request).store.database.read() as tx:
        found = scores.of_rollout(tx, rollout_id, project=project_of(request))
    return Json([score.model_dump() for score in found])
