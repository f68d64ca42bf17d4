"""Calls about spans."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from leyden.sdk.calls.base import AGL, API, Calls, part, plain, present, read, read_optional, read_page
from leyden.sdk.wire import Answer, error_in, error_of
from leyden.types import Page, Span, SpanSummary


class SpanCalls(Calls):
    """Write and query spans."""

    def add_span(self, span: Span | Mapping[str, Any]) -> Span | None:
        """Store one span; None when the same one is stored already. Raises NotFound for an unknown rollout or attempt."""
        answer = self.request("POST", f"{AGL}/spans", body=plain([span])[0])
        return read_optional(Span, answer)

    def add_spans(self, spans: Iterable[Span | Mapping[str, Any]]) -> list[Span | None]:
        """Store many in one request; the answers are in the same order, None for those stored already.

        A span that is refused is refused alone: the others are stored, then the first refusal is raised.
        """
        answers = read(list[Any], self.request("POST", f"{AGL}/spans", body=plain(spans)))
        # A span may have a field of its own named "error".
        refusals = [error for item in answers if item and "span_id" not in item and (error := error_in(item))]
        if refusals:
            first = refusals[0]
            raise type(first)(
                f"{len(refusals)} of {len(answers)} spans were refused: {first.message}", first.hint
            )
        return [read_optional(Span, item) for item in answers]

    def next_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """The next number in the order of a rollout's spans."""
        answer = self.request(
            "POST", f"{AGL}/spans/next", body={"rollout_id": rollout_id, "attempt_id": attempt_id}
        )
        return int(read(dict[str, int], answer)["sequence_id"])

    def spans(
        self,
        rollout_id: str,
        *,
        attempt_id: str | None = None,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: Literal["and", "or"] = "and",
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> Page[Span]:
        """Whole spans of a rollout, in order; `attempt_id` may be "latest". Empty for an unknown rollout."""
        body = present(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            trace_id=trace_id,
            trace_id_contains=trace_id_contains,
            span_id=span_id,
            span_id_contains=span_id_contains,
            parent_id=parent_id,
            parent_id_contains=parent_id_contains,
            name=name,
            name_contains=name_contains,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return read_page(Span, self.request("POST", f"{AGL}/spans/search", body=body))

    def span(self, rollout_id: str, attempt_id: str, span_id: str) -> Span:
        """One whole span. Raises NotFound."""
        path = f"{API}/rollouts/{part(rollout_id)}/attempts/{part(attempt_id)}/spans/{part(span_id)}"
        return read(Span, self.request("GET", path))

    def span_summaries(
        self, rollout_id: str, *, attempt_id: str | None = None, limit: int = -1, offset: int = 0
    ) -> Page[SpanSummary]:
        """The narrow rows of a rollout's spans, in order."""
        params = {"attempt_id": attempt_id, "limit": limit, "offset": offset}
        answer = self.request("GET", f"{API}/rollouts/{part(rollout_id)}/spans", params=params)
        return read_page(SpanSummary, answer)

    def find_spans(
        self,
        filter: str | None = None,
        *,
        kind: str | None = None,
        name: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        model: str | None = None,
        session: str | None = None,
        status: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        attributes: Mapping[str, Any] | Sequence[str] | None = None,
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[SpanSummary]:
        """Spans of any rollout that match all that is given, newest first. Raises BadInput for a filter that is none.

        filter: `agent:router status:error since:7d`. attributes: a mapping, or "key:value" strings; times in unix ns.
        cursor: `next_cursor` of the page before, faster than an offset far down the list.
        """
        wanted = (
            [f"{k}:{v}" for k, v in attributes.items()] if isinstance(attributes, Mapping) else attributes
        )
        params = {
            "kind": kind,
            "name": name,
            "agent": agent,
            "tool": tool,
            "model": model,
            "session": session,
            "status": status,
            "since_ns": since_ns,
            "until_ns": until_ns,
            "attribute": None if wanted is None else list(wanted),
            "filter": filter,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
        }
        return read_page(SpanSummary, self.request("GET", f"{API}/spans", params=params))

    def export_otlp(
        self,
        body: bytes,
        content_type: str = "application/x-protobuf",
        *,
        content_encoding: str | None = None,
    ) -> Answer:
        """Send an OTLP trace export as it is and return the raw answer, partial success included."""
        headers = {"content-type": content_type}
        if content_encoding:
            headers["content-encoding"] = content_encoding
        answer = self.wire.send("POST", "/v1/traces", content=body, headers=headers)
        error = error_of(answer)
        if error is not None:
            raise error
        return answer
