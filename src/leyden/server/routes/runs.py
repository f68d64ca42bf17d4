"""Runs: listed with what they add up to, registered by an SDK, imported from files."""

import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from leyden.asgi import check_id
from leyden.errors import LeydenError
from leyden.ingest import agl_json
from leyden.ingest.costs import with_costs
from leyden.ingest.record import SpanRecord
from leyden.server import wire
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import rollouts, runs, scores
from leyden.store.filters import rollout_tests
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout
from leyden.store.runs import Finished, Overview, RunFilter
from leyden.types import Mode, RolloutConfig, RolloutStatus

router = APIRouter(prefix="/api", tags=["runs"])


class ListRuns(BaseModel):
    """Which runs; `filter` is a text of the filter language (docs/how-to/filter.md), `q` occurs in the id or the input, times
    are unix seconds of the start. All of them hold at once.
    """

    filter: str = ""
    status: RolloutStatus | None = None
    mode: Mode | None = None
    agent: str | None = None
    since: float | None = None
    until: float | None = None
    q: str | None = None
    limit: int = Field(50, ge=-1)
    offset: int = Field(0, ge=0)


def _overview(item: Overview) -> dict[str, Any]:
    row = item.rollout
    duration_s = row.end_time - row.start_time if row.end_time is not None else None
    return {
        **wire.rollout(row), **item.totals._asdict(), "attempts": row.attempts, "attempt_id": row.attempt_id,
        "reward": item.reward, "duration_s": duration_s, "agent": row.agent, "source": row.source,
    }  # fmt: skip


@router.get("/rollouts")
def list_runs(request: Request, asked: Annotated[ListRuns, Query()]) -> Response:
    """A page of runs with their totals, newest first.

    `total` counts them all when `total_is_exact`; else there are at least so many, always more than the page shows.
    """
    tests = rollout_tests(asked.filter, now=time.time())
    which = RunFilter(asked.status, asked.mode, asked.agent, asked.since, asked.until, asked.q, tests=tests)
    with context_of(request).store.database.read() as tx:
        found = runs.overview(tx, which, project=project_of(request), limit=asked.limit, offset=asked.offset)
    items = [_overview(item) for item in found.items]
    shown = wire.page(items, limit=asked.limit, offset=asked.offset, total=found.total)
    return Json({**shown, "total_is_exact": found.is_exact})


@router.get("/rollouts/{rollout_id}")
def get_run(request: Request, rollout_id: str) -> Response:
    """One run with its totals, scores and attempts."""
    project = project_of(request)
    with context_of(request).store.database.read() as tx:
        rollouts.get(tx, rollout_id, project=project)
        which = RunFilter(rollout_ids=[rollout_id])
        (item,) = runs.overview(tx, which, project=project, limit=1, offset=0).items
        found = scores.of_rollout(tx, rollout_id, project=project)
        attempts, _ = rollouts.query_attempts(tx, rollout_id, Paging(), project=project)
    extra = {
        "scores": [score.model_dump() for score in found],
        "attempt_list": [wire.attempt(row) for row in attempts],
    }
    return Json({**_overview(item), **extra})


class Register(BaseModel):
    """A rollout that an SDK began under ids of its own; sending it again returns what exists."""

    rollout_id: str
    attempt_id: str
    input: Any = None
    mode: Mode | None = None
    resources_id: str | None = None
    metadata: dict[str, Any] | None = None
    config: RolloutConfig | None = None
    start_time: float | None = Field(None, description="unix seconds; now when absent")


@router.post("/rollouts", status_code=201)
def register_run(request: Request, asked: Annotated[Register, body_of(Register)]) -> Response:
    """Register a rollout that is already being worked on."""
    context, project = context_of(request), project_of(request)
    for name in ("rollout_id", "attempt_id", "resources_id"):
        check_id(getattr(asked, name), name, context.settings)
    item = NewRollout(
        _text(asked.input), asked.mode, asked.resources_id, asked.config, _text(asked.metadata or {})
    )
    seen = time.time()
    now = asked.start_time if asked.start_time is not None else seen
    made = context.store.writer.run(
        lambda tx: rollouts.start(
            tx,
            item,
            project=project,
            rollout_id=asked.rollout_id,
            attempt_id=asked.attempt_id,
            worker_id=None,
            now=now,
            seen=seen,
        )
    )
    return Json(wire.attempted(made), 201)


class ImportedRun(BaseModel):
    """A finished run as a reader yields it: `leyden.ingest.record.RecordedRun`."""

    rollout_id: str
    attempt_id: str
    input: Any = None
    status: Literal["succeeded", "failed", "cancelled"]
    start_time: float | None = None
    end_time: float | None = None
    metadata: dict[str, Any] = {}
    spans: list[dict[str, Any]]
    reward: float | None = None
    failure_reason: str | None = None
    mode: Mode | None = None


class ImportRuns(BaseModel):
    """Finished runs."""

    runs: list[ImportedRun]


@router.post("/runs")
def import_runs(request: Request, asked: Annotated[ImportRuns, body_of(ImportRuns)]) -> Response:
    """Store finished runs. Importing again changes nothing; a span that is refused is named and the rest is kept."""
    context, project = context_of(request), project_of(request)
    answer: dict[str, Any] = {"imported": 0, "unchanged": 0, "spans": 0, "rejected": []}
    for run in asked.runs:
        check_id(run.rollout_id, "rollout_id", context.settings)
        check_id(run.attempt_id, "attempt_id", context.settings)
        records, refused = _records(run, context.settings.max_span_bytes)
        records = with_costs(records, context.prices.of(project))
        finished = _finished(run, records)
        size = sum(len(record.payload) for record in records)
        now = time.time()
        done = context.store.writer.run(
            lambda tx, f=finished, n=now: runs.add_finished(tx, f, project=project, now=n), size=size
        )
        answer["imported" if done.is_new or done.spans else "unchanged"] += 1
        answer["spans"] += done.spans
        answer["rejected"] += refused + [
            _refusal(run.rollout_id, records[i].span_id, why) for i, why in done.refused.items()
        ]
    return Json(answer)


def _records(run: ImportedRun, max_span_bytes: int) -> tuple[list[SpanRecord], list[dict[str, str]]]:
    records: list[SpanRecord] = []
    refused: list[dict[str, str]] = []
    for span in run.spans:
        raw = orjson.dumps(span)
        try:
            if len(raw) > max_span_bytes:
                refused.append(
                    _refusal(
                        run.rollout_id,
                        str(span.get("span_id")),
                        f"{len(raw)} bytes are more than a span may have ({max_span_bytes})",
                    )
                )
                continue
            records.append(agl_json.record(raw, span))
        except LeydenError as error:
            refused.append(_refusal(run.rollout_id, str(span.get("span_id")), error.message))
    return records, refused


def _finished(run: ImportedRun, records: list[SpanRecord]) -> Finished:
    starts = [r.start_ns for r in records if r.start_ns is not None]
    ends = [r.end_ns for r in records if r.end_ns is not None]
    # A run that recorded no time is dated by its import.
    started = run.start_time if run.start_time is not None else min(starts) / 1e9 if starts else time.time()
    ended = run.end_time if run.end_time is not None else max(ends) / 1e9 if ends else started
    source = str(run.metadata.get("source") or "import")
    return Finished(
        run.rollout_id, run.attempt_id, _text(run.input), run.status, started, ended, _text(run.metadata), source, run.mode,
        run.reward, run.failure_reason, records,
    )  # fmt: skip


def _refusal(rollout_id: str, span_id: str, reason: str) -> dict[str, str]:
    return {"rollout_id": rollout_id, "span_id": span_id, "reason": reason}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
