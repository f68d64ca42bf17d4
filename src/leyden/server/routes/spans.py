"""Spans in the store protocol's JSON, and as narrow rows."""

import asyncio
import time
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ValidationError

from leyden.asgi import Reply, check_id, decode, error_reply, json_reply, unfit
from leyden.errors import BadInput, LeydenError, NotFound, TooLarge
from leyden.ingest import agl_json, payload
from leyden.ingest.costs import with_costs
from leyden.ingest.record import SpanRecord
from leyden.server import wire
from leyden.server.hot import Call, Routes, takes
from leyden.server.requests import Json, context_of, project_of
from leyden.settings import Settings
from leyden.store import span_lists, spans
from leyden.store.filters import span_tests
from leyden.store.filters.fields import SPAN_FIELDS, Every, Is, Test, Tests, Within
from leyden.store.filters.spans import taken_apart
from leyden.store.query import Paging
from leyden.store.span_lists import place_of
from leyden.store.spans import SpanFilter

router = APIRouter(tags=["spans"])

TEXTS = ("trace_id", "span_id", "parent_id", "name")


class _Status(msgspec.Struct):
    status_code: Literal["UNSET", "OK", "ERROR"]
    description: str | None = None


class _Span(msgspec.Struct):
    """The shape a span must have; what else it holds is kept as it came."""

    rollout_id: str
    attempt_id: str
    sequence_id: int
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    status: _Status
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    links: list[dict[str, Any]]
    start_time: float | None
    end_time: float | None
    context: dict[str, Any] | None
    parent: dict[str, Any] | None
    resource: dict[str, Any]


class _Next(msgspec.Struct):
    rollout_id: str
    attempt_id: str


def _record(raw: bytes, settings: Settings) -> SpanRecord:
    if len(raw) > settings.max_span_bytes:
        raise TooLarge(
            f"A span of {len(raw)} bytes is larger than {settings.max_span_bytes}",
            hint="cut its attributes, or raise LEYDEN_MAX_SPAN_BYTES",
        )
    shape = decode(raw, _Span, settings)
    for name in ("rollout_id", "attempt_id", "trace_id", "span_id"):
        check_id(getattr(shape, name), name, settings)
    if shape.sequence_id < 0 or shape.sequence_id >= 2**63:
        raise BadInput(f"sequence_id {shape.sequence_id} is not a number from 0 on")
    return agl_json.record(raw, orjson.loads(raw))


@takes(_Span | list[_Span], status=201)
async def add(call: Call) -> Reply:
    """POST spans: one span, or a list of them. 201 with the span, or null for one that was there already.

    In a list each span stands alone: one that is refused answers `{"error": …}` in its place.
    """
    settings = call.context.settings
    if call.body[:64].lstrip()[:1] != b"[":
        record = _record(call.body, settings)
        answer = (await _store(call, [record]))[0]
        if isinstance(answer, LeydenError):
            raise answer
        return Reply(201, answer)
    raws = decode(call.body, list[msgspec.Raw], settings)
    records: list[SpanRecord] = []
    answers: dict[int, bytes] = {}
    places: list[int] = []
    for i, raw in enumerate(raws):
        try:
            records.append(_record(bytes(raw), settings))
            places.append(i)
        except LeydenError as error:
            answers[i] = error_reply(error).body
    for place, answer in zip(places, await _store(call, records), strict=True):
        answers[place] = error_reply(answer).body if isinstance(answer, LeydenError) else answer
    return Reply(201, b"[" + b",".join(answers[i] for i in range(len(raws))) + b"]")


async def _store(call: Call, records: list[SpanRecord]) -> list[bytes | LeydenError]:
    """Store records; for each its JSON, `null` for a duplicate, or why it was refused."""
    if not records:
        return []
    now, quiet_s = time.time(), call.context.settings.quiet_s
    records = with_costs(records, await call.context.prices.ready(call.project))
    size = sum(len(record.payload) for record in records)
    stored = await call.context.store.writer.arun(
        lambda tx: spans.insert(tx, records, project=call.project, now=now, quiet_s=quiet_s), size=size
    )
    return [
        NotFound(stored.refused[i])
        if i in stored.refused
        else records[i].payload
        if stored.is_new[i]
        else b"null"
        for i in range(len(records))
    ]


@takes(_Next)
async def next_sequence_id(call: Call) -> Reply:
    """POST spans/next: the next sequence id of a rollout, from 1; counts for an id that nobody knows too."""
    asked = decode(call.body, _Next, call.context.settings)
    numbers = await call.context.store.writer.arun(
        lambda tx: spans.next_sequence_ids(tx, [(asked.rollout_id, asked.attempt_id)], project=call.project)
    )
    return json_reply({"sequence_id": numbers[0]})


class SearchSpans(BaseModel):
    """Which spans of one rollout, as a body."""

    rollout_id: str
    attempt_id: str | None = None
    trace_id: str | None = None
    trace_id_contains: str | None = None
    span_id: str | None = None
    span_id_contains: str | None = None
    parent_id: str | None = None
    parent_id_contains: str | None = None
    name: str | None = None
    name_contains: str | None = None
    filter_logic: Literal["and", "or"] = "and"
    sort_by: str | None = "sequence_id"
    sort_order: Literal["asc", "desc"] = "asc"
    limit: int = -1
    offset: int = 0

    def parts(self) -> tuple[SpanFilter, Paging]:
        """The filter and the slice."""
        exact = tuple((n, v) for n in TEXTS if (v := getattr(self, n)) is not None)
        contains = tuple((n, v) for n in TEXTS if (v := getattr(self, f"{n}_contains")) is not None)
        return SpanFilter(self.rollout_id, self.attempt_id, exact, contains, self.filter_logic), Paging(
            self.limit, self.offset, self.sort_by, self.sort_order
        )


def _page(call: Call, search: SearchSpans) -> Reply:
    which, paging = search.parts()
    with call.context.store.database.read() as tx:
        rows, total = spans.query_payloads(tx, which, paging, project=call.project)
    return Reply(200, _joined(payload.spans_json(rows), search, total))


def _joined(items: list[bytes], search: SearchSpans, total: int) -> bytes:
    """A page around its items. Megabytes often, so they are copied once."""
    end = b'],"limit":%d,"offset":%d,"total":%d}' % (search.limit, search.offset, total)
    if not items:
        return b'{"items":[' + end
    items[0] = b'{"items":[' + items[0]
    items[-1] += end
    return b",".join(items)


@takes(SearchSpans)
async def search(call: Call) -> Reply:
    """POST spans/search: a page of a rollout's spans as they came."""
    return await _answer_page(call, decode(call.body, dict[str, Any], call.context.settings))


@takes(query=SearchSpans)
async def listing(call: Call) -> Reply:
    """GET spans: the same page, asked for with a query."""
    text = call.scope["query_string"].decode("latin-1")
    return await _answer_page(call, dict(parse_qsl(text, keep_blank_values=True)))


async def _answer_page(call: Call, asked: dict[str, Any]) -> Reply:
    try:
        which = SearchSpans.model_validate(asked)
    except ValidationError as error:
        raise unfit(error, "query" if call.scope["method"] == "GET" else "body") from None
    return await asyncio.to_thread(_page, call, which)


HOT: Routes = {
    ("POST", "/v1/agl/spans"): add,
    ("POST", "/v1/agl/spans/next"): next_sequence_id,
    ("POST", "/v1/agl/spans/search"): search,
    ("GET", "/v1/agl/spans"): listing,
}


@router.get("/api/rollouts/{rollout_id}/spans")
def list_summaries(
    request: Request, rollout_id: str, attempt_id: str | None = None, limit: int = -1, offset: int = 0
) -> Response:
    """The narrow rows of a rollout's spans, in sequence order."""
    with context_of(request).store.database.read() as tx:
        rows, total = spans.summaries(
            tx, SpanFilter(rollout_id, attempt_id), Paging(limit, offset), project=project_of(request)
        )
    return Json(wire.page(rows, limit=limit, offset=offset, total=total))


@router.get("/api/rollouts/{rollout_id}/attempts/{attempt_id}/spans/{span_id}")
def get_span(request: Request, rollout_id: str, attempt_id: str, span_id: str) -> Response:
    """One span in full."""
    with context_of(request).store.database.read() as tx:
        row = spans.payload(tx, rollout_id, attempt_id, span_id, project=project_of(request))
    if row is None:
        raise NotFound(f"Span {span_id} not found in attempt {attempt_id} of rollout {rollout_id}")
    return Response(payload.spans_json([row])[0], media_type="application/json")


class SpanQuery(BaseModel):
    """Which spans across rollouts. `filter` is a text of the filter language (docs/how-to/filter.md), `attribute` is
    `key:value`, repeatable; an end time is exclusive. All of them hold at once. `cursor` is `next_cursor` of the page before.
    """

    filter: str = ""
    kind: str | None = None
    name: str | None = None
    agent: str | None = None
    tool: str | None = None
    model: str | None = None
    session: str | None = None
    status: Literal["unset", "ok", "error"] | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    attribute: list[str] = []
    limit: int = 50
    offset: int = 0
    cursor: str | None = None

    def tests(self, *, now: float) -> Tests:
        """All of it as one filter. Raises BadInput."""
        found: list[Tests] = [
            Test(SPAN_FIELDS[name], (Is(value),))
            for name in ("kind", "name", "agent", "tool", "model", "session", "status")
            if (value := getattr(self, name)) is not None
        ]
        if self.since_ns is not None:
            found.append(Test(SPAN_FIELDS["since"], (Within(low=self.since_ns),)))
        if self.until_ns is not None:
            found.append(Test(SPAN_FIELDS["until"], (Within(high=self.until_ns, strict=True),)))
        for text in self.attribute:
            key, colon, value = text.partition(":")
            if not colon:
                raise BadInput("attribute takes key:value", hint="for example attribute=user.id:42")
            found.append(Test(SPAN_FIELDS["attr.NAME"], (Is(value),), key))
        return Every((span_tests(self.filter, now=now), *found))


@router.get("/api/spans")
def search_spans(request: Request, asked: Annotated[SpanQuery, Query()]) -> Response:
    """Narrow rows across rollouts, newest first, by a filter, time range, columns and attributes.

    `total` counts them all when `total_is_exact`; else there are at least so many, always more than the page shows.
    """
    wanted = taken_apart(asked.tests(now=time.time()))
    after = None if asked.cursor is None else place_of(asked.cursor)
    with context_of(request).store.database.read() as tx:
        found = span_lists.page(
            tx, wanted, project=project_of(request), limit=asked.limit, offset=asked.offset, after=after
        )
    return Json(
        {
            **wire.page(found.rows, limit=asked.limit, offset=asked.offset, total=found.total),
            "total_is_exact": found.is_exact,
            "next_cursor": found.next,
        }
    )
