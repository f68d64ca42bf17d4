"""Findings: measured over stored runs, kept, and judged by people."""

import time
from collections.abc import Iterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from leyden.analysis.report import analyze
from leyden.analysis.run import Run
from leyden.server import wire
from leyden.server.requests import Json, body_of, context_of, project_of
from leyden.store import findings, runs
from leyden.store.engine import Tx
from leyden.store.filters import rollout_tests
from leyden.store.runs import RunFilter
from leyden.types import FindingStatus

router = APIRouter(prefix="/api", tags=["findings"])


class Analyze(BaseModel):
    """Which runs to analyse: all, some, those of a filter, or that started in a time range (unix seconds). `save` keeps the findings."""

    filter: str = ""
    rollout_ids: list[str] | None = None
    since: float | None = None
    until: float | None = None
    save: bool = True


class Judge(BaseModel):
    """What a person says of a finding."""

    status: FindingStatus


def _runs(tx: Tx, which: RunFilter, *, project: str) -> Iterator[Run]:
    for row, spans in runs.scan(tx, which, project=project):
        yield Run(row.rollout_id, row.attempt_id, row.status, spans, row.reward, row.start_time, row.end_time)


@router.post("/analyze")
def analyze_runs(request: Request, asked: Annotated[Analyze, body_of(Analyze)]) -> Response:
    """A report over stored runs: what fails, what it costs, what to do first."""
    context, project = context_of(request), project_of(request)
    tests = rollout_tests(asked.filter, now=time.time())
    which = RunFilter(rollout_ids=asked.rollout_ids, since=asked.since, until=asked.until, tests=tests)
    with context.store.database.read() as tx:
        report = analyze(_runs(tx, which, project=project), now=time.time())
    if asked.save:
        context.store.writer.run(lambda tx: findings.save(tx, report.findings, project=project))
    return Response(report.model_dump_json(), media_type="application/json")


@router.get("/findings")
def list_findings(
    request: Request,
    status: FindingStatus | None = None,
    limit: Annotated[int, Query(ge=-1)] = -1,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """A page of findings as they were last measured, the weightiest first."""
    with context_of(request).store.database.read() as tx:
        items, total = findings.query(
            tx, project=project_of(request), status=status, limit=limit, offset=offset
        )
    fragments = [orjson.Fragment(item.model_dump_json()) for item in items]
    return Json(wire.page(fragments, limit=limit, offset=offset, total=total))


@router.get("/findings/{fingerprint}")
def get_finding(request: Request, fingerprint: str) -> Response:
    """One finding with its evidence."""
    with context_of(request).store.database.read() as tx:
        found = findings.get(tx, fingerprint, project=project_of(request))
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/findings/{fingerprint}")
def judge_finding(request: Request, fingerprint: str, judged: Annotated[Judge, body_of(Judge)]) -> Response:
    """Accept, fix, dismiss or reopen a finding."""
    project = project_of(request)
    found = context_of(request).store.writer.run(
        lambda tx: findings.set_status(tx, fingerprint, judged.status, project=project)
    )
    return Response(found.model_dump_json(), media_type="application/json")
