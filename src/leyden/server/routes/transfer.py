"""A whole project out of the store and into it, in streams: memory stays flat on both ways."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from leyden.errors import BadFormat, LeydenError, StoreBusy, TooLarge
from leyden.ingest.export_lines import NOUNS, Line, Reader, error_line
from leyden.server.context import Context
from leyden.server.requests import Json, context_of, project_of
from leyden.store import transfer
from leyden.store.filters import rollout_tests
from leyden.store.restore import Place, restore
from leyden.store.runs import RunFilter
from leyden.types import Mode, RolloutStatus

log = logging.getLogger("leyden.server")

router = APIRouter(prefix="/api", tags=["transfer"])

LINES = "application/x-ndjson"
_BATCH_LINES, _BATCH_BYTES = 500, 2 * 2**20
# How long an import waits for a database that takes no writes.
_PATIENCE_S, _PAUSE_S = 60.0, 0.2
_CONFLICTS_TOLD = 100


class Export(BaseModel):
    """Which rollouts, and how they are written; times are unix seconds of the start, the end exclusive.

    `filter` is a text of the filter language (docs/how-to/filter.md). All of them hold at once.
    """

    format: Literal["jsonl", "otlp-json"] = "jsonl"
    filter: str = ""
    status: RolloutStatus | None = None
    mode: Mode | None = None
    agent: str | None = None
    since: float | None = None
    until: float | None = None
    rollout_id: list[str] = []


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {LINES: {}}}})
def export(request: Request, asked: Annotated[Export, Query()]) -> Response:
    """A project in lines: Leyden's own format, or the spans alone as OTLP/JSON. A failure on the way is the last line."""
    database, project = context_of(request).store.database, project_of(request)
    which = RunFilter(
        asked.status, asked.mode, asked.agent, asked.since, asked.until, rollout_ids=asked.rollout_id or None,
        tests=rollout_tests(asked.filter, now=time.time()),
    )  # fmt: skip
    if asked.format == "otlp-json":
        return StreamingResponse(transfer.otlp_lines(database, which, project=project), media_type=LINES)
    pieces = transfer.lines(database, which, project=project, now=time.time())
    return StreamingResponse(_told(pieces), media_type=LINES)


def _told(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except LeydenError as error:
        log.error("an export broke off: %s", error.message)
        yield error_line(error)


# Read whatever its type says; described as bytes, because that is what every tool can send.
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": BYTES}}


@router.post("/import", openapi_extra=BODY)
async def import_(request: Request) -> Response:
    """Put an export back, read as it comes. What is there with other content is left and named; again changes nothing."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadFormat("An import takes no Content-Encoding", hint="send the lines as they are")
    work = _Import(context_of(request), project_of(request))
    try:
        async for chunk in request.stream():
            for batch in await run_in_threadpool(work.feed, chunk):
                await work.put(batch)
        for batch in work.finish():
            await work.put(batch)
    except ClientDisconnect:
        raise work.cut(BadFormat("The client left before the end of the export")) from None
    except LeydenError as error:
        raise work.cut(error) from None
    return Json(work.answer())


class _Batch(NamedTuple):
    """Lines for one write; `error` is why reading ends after them."""

    lines: list[Line]
    size: int
    error: LeydenError | None = None


class _Import:
    """One import: bytes in, batches out, and what became of them."""

    def __init__(self, context: Context, project: str) -> None:
        self._context, self._project = context, project
        self._reader = Reader()
        # A span travels as base64 at worst, a rollout's input as escaped text.
        self._limit = 2 * max(context.settings.max_body_bytes, context.settings.max_span_bytes)
        self._rest: list[bytes] = []
        self._held = 0
        self._lines: list[Line] = []
        self._size = 0
        self._place = Place()
        self._added: Counter[str] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._conflicts: list[str] = []
        self._left = 0

    def feed(self, chunk: bytes) -> list[_Batch]:
        """The batches that a piece of the body completes. A broken line ends the last of them."""
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join([*self._rest, whole[0]])
            self._rest, self._held = [], 0
        self._rest.append(rest)
        self._held += len(rest)
        batches = self._batches([line + b"\n" for line in whole])
        if self._held > self._limit:
            error = TooLarge(
                f"Line {self._reader.number + 1} of the export is longer than {self._limit} bytes"
            )
            batches.append(self._batch(error))
        return batches

    def finish(self) -> list[_Batch]:
        """The last batch, with the error of an export that has no end."""
        last = b"".join(self._rest)
        return self._batches([last] if last.strip() else [], is_last=True)

    def _batches(self, raws: list[bytes], *, is_last: bool = False) -> list[_Batch]:
        found: list[_Batch] = []
        error: LeydenError | None = None
        for raw in raws:
            try:
                line = self._reader.read(raw)
            except LeydenError as odd:
                error = odd
                break
            if line is not None:
                self._lines.append(line)
                self._size += len(raw)
                if len(self._lines) >= _BATCH_LINES or self._size >= _BATCH_BYTES:
                    found.append(self._batch())
        if is_last and error is None:
            error = self._reader.missing()
        if is_last or error is not None:
            found.append(self._batch(error))
        return found

    def _batch(self, error: LeydenError | None = None) -> _Batch:
        batch = _Batch(self._lines, self._size, error)
        self._lines, self._size = [], 0
        return batch

    async def put(self, batch: _Batch) -> None:
        """Write a batch and wait for its commit. Raises what ended the reading after it."""
        if batch.lines:
            done = await self._written(batch)
            self._place = done.place
            self._added += done.added
            self._unchanged += done.unchanged
            self._left += len(done.conflicts)
            self._conflicts += done.conflicts[: _CONFLICTS_TOLD - len(self._conflicts)]
        if batch.error is not None:
            raise batch.error

    async def _written(self, batch: _Batch) -> Any:
        writer, place, project = self._context.store.writer, self._place, self._project
        patience = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await writer.arun(
                    lambda tx: restore(tx, batch.lines, place, project=project), size=batch.size
                )
            except StoreBusy:
                if time.monotonic() > patience or self._context.draining:
                    raise
                await asyncio.sleep(_PAUSE_S)

    def answer(self) -> dict[str, Any]:
        """What was added and unchanged, in lines by noun; how many were left out and why the first of them were."""
        return {
            "added": {noun: self._added[noun] for noun in NOUNS},
            "unchanged": {noun: self._unchanged[noun] for noun in NOUNS},
            "left": self._left,
            "conflicts": self._conflicts,
        }

    def cut(self, error: LeydenError) -> LeydenError:
        """The error that ended it, with what is in the store by now."""
        done = self._added + self._unchanged
        if not done:
            return error
        so_far = f"{done['rollout']} rollouts and {done['span']} spans before it are in the store"
        return type(error)(f"{error.message}; {so_far}", error.hint)
