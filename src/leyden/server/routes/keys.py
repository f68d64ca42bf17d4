"""Keys over HTTP; all of it needs the scope admin."""

import time
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from leyden.asgi import check_id
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import keys
from leyden.store.keys import KeyRow
from leyden.types import KeyLimits

router = APIRouter(prefix="/api/keys", tags=["keys"])


class NewKey(BaseModel):
    """A key to make; it works in the caller's project unless it names another. `limits` bound what it may use of the gateway."""

    name: str
    scopes: list[str] = ["ingest", "read", "run"]
    project: str | None = None
    limits: KeyLimits = KeyLimits()


def _shown(row: KeyRow) -> dict[str, object]:
    limits = row.limits.model_dump(mode="json", exclude_defaults=True)
    return {**row._asdict(), "scopes": list(row.scopes), "limits": limits}


@router.post("", status_code=201)
def create_key(request: Request, asked: Annotated[NewKey, body_of(NewKey)]) -> Response:
    """Make a key. The answer is the only place where it can ever be read."""
    context, now = context_of(request), time.time()
    check_id(asked.name, "name", context.settings)
    project = check_id(asked.project, "project", context.settings) or project_of(request)
    check_id(asked.limits.rollout_id, "rollout_id", context.settings)
    check_id(asked.limits.attempt_id, "attempt_id", context.settings)
    row, secret = context.store.writer.run(
        lambda tx: keys.create(
            tx, project=project, name=asked.name, scopes=asked.scopes, now=now, limits=asked.limits
        )
    )
    return Json({**_shown(row), "key": secret}, 201)


@router.get("")
def list_keys(request: Request) -> Response:
    """All keys, without their secrets."""
    with context_of(request).store.database.read() as tx:
        return Json([_shown(row) for row in keys.query(tx)])


@router.delete("/{key_id}")
def revoke_key(request: Request, key_id: str) -> Response:
    """Refuse a key from now on."""
    now = time.time()
    return Json(_shown(context_of(request).store.writer.run(lambda tx: keys.revoke(tx, key_id, now=now))))
