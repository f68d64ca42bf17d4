"""What protobuf and JSON spans share once they are read: whose they are, what is refused, and the record they become.

Refuses to know: how either is written.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from leyden.ingest.derive import MAX_COUNT, NAME_CHARS, RULES_VERSION, EventView, derive
from leyden.ingest.record import SpanRecord
from leyden.ingest.text import column, scrubbed

SOURCE = "otlp"
STATUS = ("unset", "ok", "error")
MAX_NS = 2**63 - 1
NO_TRACE, NO_SPAN = bytes(16), bytes(8)


class Limits(NamedTuple):
    """How much is accepted: bytes of one span, characters of an id, nesting of a JSON body."""

    span_bytes: int = 8 * 2**20
    id_chars: int = 256
    depth: int = 64


DEFAULT_LIMITS = Limits()


class Owner(NamedTuple):
    """The rollout, attempt and sequence number that a resource or span names; None for each it does not."""

    rollout_id: str | None
    attempt_id: str | None
    sequence_id: int | None


NOBODY = Owner(None, None, None)


class Refused(Exception):
    """Why one span is refused."""


def owner_of(get: Callable[[str], Any], limits: Limits) -> Owner:
    """What a span or resource names. Raises Refused for an id that no row may have."""
    rollout_id, attempt_id = get("agentlightning.rollout_id"), get("agentlightning.attempt_id")
    sequence_id = get("agentlightning.span_sequence_id")
    if rollout_id is None and attempt_id is None and sequence_id is None:
        return NOBODY
    return Owner(
        named_id(rollout_id, "rollout", limits),
        named_id(attempt_id, "attempt", limits),
        sequence(sequence_id),
    )


def named_id(value: Any, noun: str, limits: Limits) -> str | None:
    """An id as text; None for an empty one, which the published tracer writes when it names none."""
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > limits.id_chars:
        raise Refused(f"its {noun} id has {len(text)} characters; at most {limits.id_chars} are accepted")
    if scrubbed(text) != text:
        raise Refused(f"its {noun} id holds a character that no id may hold")
    return text


def sequence(value: Any) -> int | None:
    """A sequence number; None, which asks for the next one, for anything that is none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 17 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None


def filed(owner: Owner, own: Owner, trace_id: str) -> tuple[str, str, int | None, str | None]:
    """Rollout, attempt, sequence number and source of a span, of what its resource and itself name.

    Without both a rollout and an attempt it belongs to its trace's own rollout.
    """
    rollout_id, attempt_id, sequence_id = owner
    if own is not NOBODY:
        rollout_id, attempt_id = own.rollout_id or rollout_id, own.attempt_id or attempt_id
        sequence_id = sequence_id if own.sequence_id is None else own.sequence_id
    if rollout_id is None or attempt_id is None:
        return f"ro-{trace_id}", f"at-{trace_id[:8]}", sequence_id, SOURCE
    return rollout_id, attempt_id, sequence_id, None


def known_time(ns: int) -> int | None:
    """Unix nanoseconds; None for 0, which means unknown, and for a time past 2262, which no column holds."""
    return ns if 0 < ns <= MAX_NS else None


def assemble(
    attributes: dict[str, Any],
    owner: Owner,
    limits: Limits,
    *,
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    name: str,
    status: str,
    message: str,
    start_ns: int,
    end_ns: int,
    events: Callable[[], list[EventView]],
    encoding: str,
    payload: bytes,
) -> SpanRecord:
    """The record of one span."""
    rollout_id, attempt_id, sequence_id, source = filed(owner, owner_of(attributes.get, limits), trace_id)
    found = derive(attributes, name=name, status=status, message=message, events=events)
    columns = (
        rollout_id,
        attempt_id,
        sequence_id,
        trace_id,
        span_id,
        parent_id,
        column(name, NAME_CHARS) or "",
        found[0],
        status,
        known_time(start_ns),
        known_time(end_ns),
        *found[1:-1],
        RULES_VERSION,
        encoding,
        payload,
        source,
        found[-1],
    )
    # Twice as fast as calling the class, which unpacks every field by name.
    return tuple.__new__(SpanRecord, columns)  # pyright: ignore[reportUnknownMemberType]
