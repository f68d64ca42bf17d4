"""The queue, rollouts and attempts: Agent Lightning 0.3's store protocol with our additions (see docs/reference)."""

import asyncio
import os
import random
import time
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import orjson
from fastapi import APIRouter, Query, Request, Response
from msgspec import UNSET, UnsetType
from pydantic import BaseModel

from leyden.asgi import Reply, check_id, decode, json_reply
from leyden.errors import BadFormat, BadInput
from leyden.server import wire
from leyden.server.hot import ATTEMPT, Call, Routes, takes
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import attempts, deletion, queue, rollouts
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout, RolloutFilter
from leyden.types import AttemptStatus, Mode, RolloutConfig, RolloutStatus

router = APIRouter(prefix="/v1/agl", tags=["rollouts"])

RAW_NULL = msgspec.Raw(b"null")


# Ids are no secrets: a generator of our own, seeded by the system, costs a fraction of a system call for each.
_random = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_rollout_id() -> str:
    """`ro-` and twelve random hex digits."""
    return f"ro-{_random.getrandbits(48):012x}"


def new_attempt_id() -> str:
    """`at-` and eight random hex digits."""
    return f"at-{_random.getrandbits(32):08x}"


@lru_cache(maxsize=256)
def _config(text: bytes) -> RolloutConfig:
    try:
        return RolloutConfig.model_validate_json(text)
    except ValueError as error:
        raise BadInput(
            f"config does not fit: {str(error).splitlines()[-2].strip() if chr(10) in str(error) else error}"
        ) from None


def _object(raw: msgspec.Raw, field: str, *, null: str | None) -> str | None:
    """A JSON object as text; `null` is what null stands for."""
    text = bytes(raw).strip()
    if text == b"null":
        return null
    if not text.startswith(b"{"):
        raise BadInput(f"{field} must be an object or null")
    return _text(text)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadFormat("The body is not UTF-8") from None


class _NewRollout(msgspec.Struct):
    input: msgspec.Raw
    mode: Literal["train", "val", "test"] | None = None
    resources_id: str | None = None
    config: msgspec.Raw | UnsetType = UNSET
    metadata: msgspec.Raw | UnsetType = UNSET
    idempotency_key: str | None = None
    worker_id: str | None = None

    def checked(self, call: Call) -> NewRollout:
        settings = call.context.settings
        config = b"null" if self.config is UNSET else bytes(self.config).strip()
        return NewRollout(
            input=_text(bytes(self.input)),
            mode=self.mode,
            resources_id=check_id(self.resources_id, "resources_id", settings),
            config=None if config == b"null" else _config(config),
            metadata="{}"
            if self.metadata is UNSET
            else _object(self.metadata, "metadata", null="{}") or "{}",
            idempotency_key=check_id(self.idempotency_key, "idempotency_key", settings),
        )


class _Enqueue(msgspec.Struct):
    rollouts: list[_NewRollout]


class _Dequeue(msgspec.Struct):
    limit: int = 1
    worker_id: str | None = None
    wait_seconds: float = 0.0


class _Wait(msgspec.Struct):
    rollout_ids: list[str]
    timeout: float | None = None


class _AttemptChange(msgspec.Struct):
    status: AttemptStatus | UnsetType | None = UNSET
    worker_id: str | UnsetType | None = UNSET
    last_heartbeat_time: float | UnsetType | None = UNSET
    metadata: msgspec.Raw | UnsetType = UNSET
    failure_reason: str | UnsetType | None = UNSET


# ── Hot ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@takes(_Enqueue, status=201)
async def enqueue(call: Call) -> Reply:
    """POST queues/rollouts/enqueue: put rollouts on the queue, in order; 201 with all of them."""
    asked = decode(call.body, _Enqueue, call.context.settings)
    items = [item.checked(call) for item in asked.rollouts]
    ids, now = [new_rollout_id() for _ in items], time.time()
    rows = await call.context.store.writer.arun(
        lambda tx: queue.enqueue(tx, items, project=call.project, ids=ids, now=now)
    )
    return json_reply([wire.rollout(row) for row in rows], 201)


@takes(_NewRollout, status=201)
async def start(call: Call) -> Reply:
    """POST rollouts: a rollout that is already being worked on; 201 with its first attempt."""
    asked = decode(call.body, _NewRollout, call.context.settings)
    item, worker_id, now = (
        asked.checked(call),
        check_id(asked.worker_id, "worker_id", call.context.settings),
        time.time(),
    )
    made = await call.context.store.writer.arun(
        lambda tx: rollouts.start(
            tx,
            item,
            project=call.project,
            rollout_id=new_rollout_id(),
            attempt_id=new_attempt_id(),
            worker_id=worker_id,
            now=now,
        )
    )
    return json_reply(wire.attempted(made), 201)


@takes(_Dequeue)
async def dequeue(call: Call) -> Reply:
    """POST queues/rollouts/dequeue: claim up to `limit`; with `wait_seconds` the answer waits for work that long."""
    context = call.context
    asked = (
        decode(call.body, _Dequeue, context.settings)
        if call.body.strip() not in (b"", b"null")
        else _Dequeue()
    )
    worker_id = check_id(asked.worker_id, "worker_id", context.settings)
    limit = min(asked.limit, 1000)

    async def claim() -> Reply | None:
        claimed = await context.store.writer.arun(
            lambda tx: queue.claim(
                tx,
                project=call.project,
                worker_id=worker_id,
                now=time.time(),
                lease_s=context.settings.lease_s,
                limit=limit,
            )
        )
        return json_reply([wire.attempted(item) for item in claimed]) if claimed else None

    found = await claim()
    if found is not None or asked.wait_seconds <= 0 or limit <= 0:
        return found or json_reply([])
    until = time.monotonic() + min(asked.wait_seconds, context.settings.max_wait_s)
    with context.bell.listen([f"queue:{call.project}"]) as listening:
        while found is None and not context.draining and (left := until - time.monotonic()) > 0:
            found = await claim()
            if found is None:
                await listening.wait(left)
    return found or json_reply([])


@takes(_Wait)
async def wait(call: Call) -> Reply:
    """POST waits/rollouts: the rollouts among those asked for that have ended; waits until all have, or for `timeout` seconds."""
    context = call.context
    asked = decode(call.body, _Wait, context.settings)
    ids = list(dict.fromkeys(asked.rollout_ids))
    timeout_s = (
        context.settings.max_wait_s
        if asked.timeout is None
        else min(asked.timeout, context.settings.max_wait_s)
    )

    def look() -> tuple[list[rollouts.RolloutRow], int]:
        with context.store.database.read() as tx:
            return rollouts.finished(tx, ids, project=call.project), rollouts.count_known(
                tx, ids, project=call.project
            )

    until = time.monotonic() + timeout_s
    with context.bell.listen([f"rollout:{rollout_id}" for rollout_id in ids]) as listening:
        while True:
            ended, known = await asyncio.to_thread(look)
            left = until - time.monotonic()
            if len(ended) >= known or left <= 0 or context.draining:
                return json_reply([wire.rollout(row) for row in ended])
            await listening.wait(left)


@takes(_AttemptChange)
async def update_attempt(call: Call) -> Reply:
    """POST rollouts/{r}/attempts/{a}: a runner's word on an attempt; `a` may be "latest"."""
    rollout_id, attempt_id = call.params
    asked = decode(call.body or b"{}", _AttemptChange, call.context.settings)
    changes: dict[str, Any] = {}
    for field in ("status", "worker_id", "last_heartbeat_time", "metadata", "failure_reason"):
        value = getattr(asked, field)
        if value is UNSET:
            continue
        if value is None or value == RAW_NULL:
            raise BadInput(f"{field} is invalid; it cannot be a null value.")
        changes[field] = value
    if "metadata" in changes:
        changes["metadata"] = _object(changes["metadata"], "metadata", null=None)
    if "failure_reason" in changes:
        changes["failure_reason"] = changes["failure_reason"].replace("\x00", "\ufffd")
    check_id(changes.get("worker_id"), "worker_id", call.context.settings)
    now, lease_s = time.time(), call.context.settings.lease_s
    row = await call.context.store.writer.arun(
        lambda tx: attempts.update(
            tx,
            project=call.project,
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            changes=changes,
            now=now,
            lease_s=lease_s,
        )
    )
    return json_reply(wire.attempt(row))


HOT: Routes = {
    ("POST", "/v1/agl/queues/rollouts/enqueue"): enqueue,
    ("POST", "/v1/agl/queues/rollouts/dequeue"): dequeue,
    ("POST", "/v1/agl/rollouts"): start,
    ("POST", "/v1/agl/waits/rollouts"): wait,
    ("POST", ATTEMPT): update_attempt,
}


# ── The rest ─────────────────────────────────────────────────────────────────────────────────────────────────────


class SearchRollouts(BaseModel):
    """Which rollouts, as a body: an absent list is no filter, an empty one matches nothing."""

    status_in: list[RolloutStatus] | None = None
    rollout_id_in: list[str] | None = None
    rollout_id_contains: str | None = None
    mode_in: list[Mode] | None = None
    filter_logic: Literal["and", "or"] = "and"
    sort_by: str | None = None
    sort_order: Literal["asc", "desc"] = "asc"
    limit: int = -1
    offset: int = 0


class SearchAttempts(BaseModel):
    """Which slice of a rollout's attempts."""

    sort_by: str | None = "sequence_id"
    sort_order: Literal["asc", "desc"] = "asc"
    limit: int = -1
    offset: int = 0


class ChangeRollout(BaseModel):
    """What to change of a rollout; an absent field stays, null clears it where that means something."""

    input: Any = None
    mode: Mode | None = None
    resources_id: str | None = None
    status: RolloutStatus | None = None
    config: RolloutConfig | None = None
    metadata: dict[str, Any] | None = None
    failure_reason: str | None = None


class StartAttempt(BaseModel):
    """Who begins the attempt."""

    worker_id: str | None = None


def _page(request: Request, search: SearchRollouts) -> Response:
    which = RolloutFilter(
        [*map(str, search.status_in)] if search.status_in is not None else None, search.rollout_id_in, search.rollout_id_contains,
        [*search.mode_in] if search.mode_in is not None else None, search.filter_logic,
    )  # fmt: skip
    paging = Paging(search.limit, search.offset, search.sort_by, search.sort_order)
    with context_of(request).store.database.read() as tx:
        items, total = rollouts.query(tx, which, paging, project=project_of(request))
    return Json(
        wire.page(
            [wire.attempted(item) for item in items], limit=search.limit, offset=search.offset, total=total
        )
    )


@router.get("/rollouts")
def list_rollouts(request: Request, search: Annotated[SearchRollouts, Query()]) -> Response:
    """A page of rollouts, each with its latest attempt."""
    return _page(request, search)


@router.post("/rollouts/search")
def search_rollouts(request: Request, search: Annotated[SearchRollouts, body_of(SearchRollouts)]) -> Response:
    """The same page, asked for with a body."""
    return _page(request, search)


@router.get("/rollouts/{rollout_id}")
def get_rollout(request: Request, rollout_id: str) -> Response:
    """One rollout with its latest attempt; 404 when nobody knows it."""
    with context_of(request).store.database.read() as tx:
        return Json(wire.attempted(rollouts.attempted(tx, rollout_id, project=project_of(request))))


@router.post("/rollouts/{rollout_id}")
def update_rollout(
    request: Request, rollout_id: str, change: Annotated[ChangeRollout, body_of(ChangeRollout)]
) -> Response:
    """Change a rollout; a status may be set to anything, "cancelled" stops it."""
    given = {name: getattr(change, name) for name in change.model_fields_set}
    for field in ("status", "config"):
        if field in given and given[field] is None:
            raise BadInput(f"{field} is invalid; it cannot be a null value.")
    for field in ("input", "metadata"):
        if field in given and not (field == "metadata" and given[field] is None):
            given[field] = orjson.dumps(given[field]).decode()
    if "status" in given:
        given["status"] = str(given["status"])
    check_id(given.get("resources_id"), "resources_id", context_of(request).settings)
    now, project = time.time(), project_of(request)
    row = context_of(request).store.writer.run(
        lambda tx: rollouts.update(tx, project=project, rollout_id=rollout_id, changes=given, now=now)
    )
    return Json(wire.rollout(row))


@router.delete("/rollouts/{rollout_id}", status_code=204)
def delete_rollout(request: Request, rollout_id: str) -> Response:
    """Remove a rollout with everything under it."""
    deletion.delete(context_of(request).store.writer, rollout_id, project=project_of(request))
    return Response(status_code=204)


def _attempts(request: Request, rollout_id: str, search: SearchAttempts) -> Response:
    paging = Paging(search.limit, search.offset, search.sort_by, search.sort_order)
    with context_of(request).store.database.read() as tx:
        items, total = rollouts.query_attempts(tx, rollout_id, paging, project=project_of(request))
    return Json(
        wire.page([wire.attempt(row) for row in items], limit=search.limit, offset=search.offset, total=total)
    )


@router.get("/rollouts/{rollout_id}/attempts")
def list_attempts(request: Request, rollout_id: str, search: Annotated[SearchAttempts, Query()]) -> Response:
    """A page of a rollout's attempts; empty for an unknown rollout."""
    return _attempts(request, rollout_id, search)


@router.post("/rollouts/{rollout_id}/attempts/search")
def search_attempts(
    request: Request, rollout_id: str, search: Annotated[SearchAttempts, body_of(SearchAttempts)]
) -> Response:
    """The same page, asked for with a body."""
    return _attempts(request, rollout_id, search)


@router.post("/rollouts/{rollout_id}/attempts", status_code=201)
def start_attempt(
    request: Request, rollout_id: str, who: Annotated[StartAttempt, body_of(StartAttempt)]
) -> Response:
    """Begin another attempt, whatever the rollout's status."""
    now, project = time.time(), project_of(request)
    check_id(who.worker_id, "worker_id", context_of(request).settings)
    made = context_of(request).store.writer.run(
        lambda tx: rollouts.start_attempt(
            tx,
            project=project,
            rollout_id=rollout_id,
            attempt_id=new_attempt_id(),
            worker_id=who.worker_id,
            now=now,
        )
    )
    return Json(wire.attempted(made), 201)


@router.get("/rollouts/{rollout_id}/attempts/latest")
def latest_attempt(request: Request, rollout_id: str) -> Response:
    """The attempt begun last, or null."""
    with context_of(request).store.database.read() as tx:
        row = rollouts.find(tx, rollout_id, project=project_of(request))
        found = rollouts.find_attempt(tx, rollout_id, row.attempt_id) if row is not None else None
    return Json(wire.attempt(found) if found is not None else None)
