"""OTLP/HTTP trace bodies in protobuf → span records.

Each span is kept exactly as it came: its payload is a standalone TracesData of one resource, one scope and the span's own
bytes, spliced and never re-encoded. A bad span is refused alone; only a body that is no OTLP at all raises.
Refuses to know: HTTP, storage, and which rollouts exist.
"""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from leyden.errors import BadFormat
from leyden.ingest import native, wire
from leyden.ingest.derive import NAME_CHARS, RULES_VERSION, EventView, no_events
from leyden.ingest.filing import (
    DEFAULT_LIMITS,
    MAX_NS,
    NO_SPAN,
    NO_TRACE,
    NOBODY,
    STATUS,
    Limits,
    Owner,
    Refused,
    assemble,
    filed,
    owner_of,
)
from leyden.ingest.plain import Batch, derive_plain
from leyden.ingest.record import Decoded, Rejected, SpanRecord
from leyden.ingest.text import column


def decode_protobuf(body: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """The spans of a protobuf ExportTraceServiceRequest, in its order.

    Raises BadFormat when the body is no such message. An empty body is an empty request.
    """
    try:
        traces = wire.Traces.FromString(body)
    except wire.DecodeError:
        raise BadFormat("The body is not an OTLP trace request in protobuf.") from None
    records: list[SpanRecord] = []
    rejected: list[Rejected] = []
    index = 0
    attributes = wire.Attributes()
    is_whole = native.reader is None and wire.is_whole(body)
    for group in traces.resource_spans:
        owner, resource_error = _resource_owner(group.resource, attributes, limits)
        before_scope = _field(b"\x0a", group.resource) + _field(b"\x1a", group.schema_url)
        for scope in group.scope_spans:
            before_span = _field(b"\x0a", scope.scope) + _field(b"\x1a", scope.schema_url)
            frame = _Frame(before_scope, before_span)
            raws: list[bytes] = scope.spans[:]
            found: list[SpanRecord | None] = [None] * len(raws)
            if resource_error:
                pass
            elif native.reader is not None:
                found = native.reader.records(
                    raws, owner, before_scope, before_span, limits, limits.span_bytes
                )
            elif is_whole:
                found = _plain_records(raws, owner, frame, limits)
            for raw, record in zip(raws, found, strict=True):
                try:
                    if resource_error:
                        raise Refused(resource_error)
                    records.append(record or _record(raw, owner, frame, limits, attributes))
                except Refused as refused:
                    rejected.append(Rejected(index, str(refused)))
                index += 1
    return Decoded(records, rejected)


_Head = tuple[int, bytes, list[bytes], bytes, bytes, bytes, bytes, int, int, int]
"""Where a span stands in its scope, its bytes and its attributes' bytes; then trace, span and parent id, name, status code,
start and end as they came."""


def _plain_records(
    raws: list[bytes], owner: Owner, frame: "_Frame", limits: Limits
) -> list[SpanRecord | None]:
    """The records of those spans of a scope that can be read together, None for the others: see `ingest/plain.py`.

    Only for a request of which `wire.is_whole` is true.
    """
    found: list[SpanRecord | None] = [None] * len(raws)
    for layout, heads in _by_layout(raws, limits).items():
        batch = Batch(layout, [head[2] for head in heads])
        names = list(map(wire.string, [head[6] for head in heads]))
        derived = derive_plain(batch, names)
        titles = {name: column(name, NAME_CHARS) or "" for name in set(names)}
        for head, columns, name, own in zip(heads, derived, names, _owners(batch, limits), strict=False):
            if columns is not None and own is not None:
                at, raw, _, trace_id, span_id, parent_id, _, code, start_ns, end_ns = head
                trace = trace_id.hex()
                rollout_id, attempt_id, sequence_id, source = filed(owner, own, trace)
                record = (
                    rollout_id,
                    attempt_id,
                    sequence_id,
                    trace,
                    span_id.hex(),
                    parent_id.hex() if parent_id and parent_id != NO_SPAN else None,
                    titles[name],
                    columns[0],
                    STATUS[code] if 0 <= code <= 2 else "unset",
                    start_ns if 0 < start_ns <= MAX_NS else None,
                    end_ns if 0 < end_ns <= MAX_NS else None,
                    *columns[1:-1],
                    RULES_VERSION,
                    "otlp",
                    frame[len(raw)] + raw,
                    source,
                    columns[-1],
                )
                found[at] = tuple.__new__(SpanRecord, record)  # pyright: ignore[reportUnknownMemberType]
    return found


def _by_layout(raws: list[bytes], limits: Limits) -> dict[wire.Layout, list[_Head]]:
    """Valid spans without error status and events, by the layout of their attributes."""
    groups: dict[wire.Layout, list[_Head]] = {}
    for at, raw in enumerate(raws):
        try:
            span = wire.Span.FromString(raw)
        except wire.DecodeError:
            continue
        trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
        code, pairs = span.status.code, span.attributes[:]
        if len(trace_id) != 16 or len(span_id) != 8 or (parent_id and len(parent_id) != 8):
            continue
        if trace_id == NO_TRACE or span_id == NO_SPAN or len(raw) > limits.span_bytes:
            continue
        if code == 2 or span.events or (layout := wire.layout(pairs)) is None:
            continue
        head = (at, raw, pairs, trace_id, span_id, parent_id, span.name, code, span.start_ns, span.end_ns)
        if (group := groups.get(layout)) is None:
            group = groups[layout] = []
        group.append(head)
    return groups


_OWNER_KEYS: tuple[str, ...] = (
    "agentlightning.rollout_id",
    "agentlightning.attempt_id",
    "agentlightning.span_sequence_id",
)


def _owners(batch: Batch, limits: Limits) -> Iterable[Owner | None]:
    """What each span names itself; None for one that names something that no row may have."""
    if batch.layout.ends.keys().isdisjoint(_OWNER_KEYS):
        return repeat(NOBODY)
    return [_owner_or_none(ids, limits) for ids in zip(*map(batch.values, _OWNER_KEYS), strict=True)]


def _owner_or_none(ids: tuple[Any, ...], limits: Limits) -> Owner | None:
    try:
        named: dict[str, Any] = dict(zip(_OWNER_KEYS, ids, strict=True))
        return owner_of(named.get, limits)
    except Refused:
        return None


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + wire.length(len(content)) + content if content else b""


class _Frame(dict[int, bytes]):
    """What stands before a span of a given length in its payload: the opened TracesData with resource and scope."""

    def __init__(self, before_scope: bytes, before_span: bytes) -> None:
        self._before_scope = before_scope
        self._before_span = before_span

    def __missing__(self, span_bytes: int) -> bytes:
        span_head = self._before_span + b"\x12" + wire.length(span_bytes)
        scope_head = self._before_scope + b"\x12" + wire.length(len(span_head) + span_bytes) + span_head
        frame = self[span_bytes] = b"\x0a" + wire.length(len(scope_head) + span_bytes) + scope_head
        return frame


def _resource_owner(raw: bytes, attributes: wire.Attributes, limits: Limits) -> tuple[Owner, str | None]:
    """Whose spans a resource holds, and why they must be refused if it does not decode."""
    try:
        return owner_of(attributes.of(wire.Resource.FromString(raw).attributes).get, limits), None
    except wire.DecodeError:
        return NOBODY, "its resource does not decode"
    except Refused as refused:
        return NOBODY, f"of its resource: {refused}"


def _record(
    raw: bytes, owner: Owner, frame: _Frame, limits: Limits, attributes: wire.Attributes
) -> SpanRecord:
    if len(raw) > limits.span_bytes:
        raise Refused(f"it has {len(raw)} bytes; at most {limits.span_bytes} are accepted")
    try:
        span = wire.Span.FromString(raw)
        held = attributes.of(span.attributes)
    except wire.DecodeError:
        raise Refused("it does not decode as a span") from None
    trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or trace_id == NO_TRACE:
        raise Refused("it has no valid trace id (16 bytes, not all zero)")
    if len(span_id) != 8 or span_id == NO_SPAN:
        raise Refused("it has no valid span id (8 bytes, not all zero)")
    if parent_id and len(parent_id) != 8:
        raise Refused("its parent span id is not 8 bytes")
    status = span.status
    code: int = status.code
    return assemble(
        held,
        owner,
        limits,
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        parent_id=parent_id.hex() if parent_id and parent_id != NO_SPAN else None,
        name=wire.string(span.name),
        status=STATUS[code] if 0 <= code <= 2 else "unset",
        message=wire.string(status.message) if code == 2 else "",
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        events=_events(raw_events, attributes) if (raw_events := span.events[:]) else no_events,
        encoding="otlp",
        payload=frame[len(raw)] + raw,
    )


def _events(raw_events: list[bytes], attributes: wire.Attributes) -> Callable[[], list[EventView]]:
    def events() -> list[EventView]:
        found: list[EventView] = []
        for raw in raw_events:
            try:
                event = wire.Event.FromString(raw)
                found.append(EventView(wire.string(event.name), attributes.of(event.attributes).get))
            except wire.DecodeError:
                raise Refused("one of its events does not decode") from None
        return found

    return events
