"""What changes, as it changes: server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import Annotated, NamedTuple

import orjson
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from leyden.errors import BadInput, StoreBusy
from leyden.server.context import Context
from leyden.server.requests import context_of, project_of
from leyden.types import StoreEvent

router = APIRouter(prefix="/api", tags=["events"])

TOPICS = ("rollouts", "spans", "findings")
HEARTBEAT_S = 15.0
# What comes within this time of an event travels with it: a rollout that streams spans is a few events a second, not hundreds.
GATHER_S = 0.1


class Asked(NamedTuple):
    """What a client wants to watch, and whether it did before."""

    project: str
    topics: frozenset[str]
    rollout_id: str | None
    came_back: bool


@router.get("/events", response_class=StreamingResponse)
async def stream(
    request: Request,
    topics: str | None = None,
    rollout_id: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """A stream of events from now on: `rollouts` (id, status), `spans` (id of the rollout), `findings` (id, status).

    topics: some of these, separated by commas; all when absent. rollout_id: only that rollout's. Nothing is kept: a client
    that comes back (its browser then sends Last-Event-ID) and one that read too slowly get `gap`, which says: read again.
    A comment every 15 seconds shows that the connection lives.
    """
    context = context_of(request)
    if context.draining:
        raise StoreBusy("The server is shutting down")
    asked = Asked(project_of(request), _topics(topics), rollout_id, came_back=last_event_id is not None)
    return StreamingResponse(
        _written(context, asked),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _topics(given: str | None) -> frozenset[str]:
    asked = TOPICS if given is None else [topic.strip() for topic in given.split(",")]
    if unknown := set(asked) - set(TOPICS):
        raise BadInput(f"{min(unknown)!r} is no topic of events", hint=f"use some of: {', '.join(TOPICS)}")
    return frozenset(asked)


async def _written(context: Context, asked: Asked) -> AsyncGenerator[bytes]:
    watcher, numbers = context.watchers.add(*asked[:3]), count(1)
    try:
        yield b"retry: 1000\n: from now on\n\n"
        if asked.came_back:
            yield _frame(watcher.gap("events before this connection are not kept"), next(numbers))
        while True:
            events = await watcher.next(HEARTBEAT_S)
            yield b"".join(_frame(event, next(numbers)) for event in events) or b": still here\n\n"
            if watcher.is_over:
                return
            await asyncio.sleep(GATHER_S)
    finally:
        context.watchers.remove(watcher)


def _frame(event: StoreEvent, number: int) -> bytes:
    data = {"id": event.id, "status": event.status, "project": event.project}
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.topic.encode(), orjson.dumps(data))
