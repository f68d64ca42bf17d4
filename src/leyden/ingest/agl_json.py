"""A span in the store protocol's JSON → its record. The payload is the JSON exactly as it came."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from leyden.errors import BadInput
from leyden.ingest.derive import MAX_COUNT, NAME_CHARS, RULES_VERSION, EventView, derive, no_events
from leyden.ingest.record import SpanRecord
from leyden.ingest.shapes import is_list, object_or_empty
from leyden.ingest.text import column, scrubbed

ID_CHARS = 256
_STATUS = {"UNSET": "unset", "OK": "ok", "ERROR": "error"}
_MAX_NS = 2**63 - 1


def record(raw: bytes, span: Mapping[str, Any], *, id_chars: int = ID_CHARS) -> SpanRecord:
    """The record of one span of `leyden.types.Span`'s shape; `raw` is the JSON it was read from.

    Raises BadInput for an id that no row may have: missing, too long, or holding NUL.
    """
    status = object_or_empty(span.get("status"))
    parent_id = span.get("parent_id")
    listed = span.get("events")
    sequence_id = span.get("sequence_id")
    name = str(span.get("name") or "")
    state = _STATUS.get(str(status.get("status_code")), "unset")
    found = derive(
        object_or_empty(span.get("attributes")),
        name=name,
        status=state,
        message=str(status.get("description") or "") if state == "error" else "",
        events=_events(listed) if is_list(listed) and listed else no_events,
    )
    is_sequence = (
        isinstance(sequence_id, int) and not isinstance(sequence_id, bool) and 0 <= sequence_id <= MAX_COUNT
    )
    return SpanRecord(
        _id(span.get("rollout_id"), "rollout_id", id_chars),
        _id(span.get("attempt_id"), "attempt_id", id_chars),
        sequence_id if is_sequence else None,
        _id(span.get("trace_id"), "trace_id", id_chars),
        _id(span.get("span_id"), "span_id", id_chars),
        None if parent_id is None or parent_id == "" else _id(parent_id, "parent_id", id_chars),
        column(name, NAME_CHARS) or "",
        found[0],
        state,
        nanoseconds(span.get("start_time")),
        nanoseconds(span.get("end_time")),
        *found[1:-1],
        RULES_VERSION,
        "agl",
        raw,
        None,
        found[-1],
    )


def nanoseconds(seconds: Any) -> int | None:
    """Unix seconds as nanoseconds, rounded once; None for none, for 0 and for what no column holds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    above, below = seconds.as_integer_ratio()
    ns = (above * 2_000_000_000 + below) // (2 * below)
    return ns if 0 < ns <= _MAX_NS else None


def _id(value: Any, noun: str, limit: int) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(f"The span has no {noun}.")
    if len(value) > limit:
        raise BadInput(f"The span's {noun} has {len(value)} characters; at most {limit} are accepted.")
    if scrubbed(value) != value:
        raise BadInput(f"The span's {noun} holds a character that no id may hold.")
    return value


def _events(listed: list[Any]) -> Callable[[], list[EventView]]:
    def events() -> list[EventView]:
        held = [object_or_empty(item) for item in listed]
        return [
            EventView(str(one.get("name") or ""), object_or_empty(one.get("attributes")).get) for one in held
        ]

    return events
