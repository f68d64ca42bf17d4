"""Build spans in the store protocol's JSON form, with ids that follow from content.

Promises: the same identity gives the same ids on every machine, so a second import finds the first. Times go in as integer
nanoseconds and come out as the double nearest to that many seconds.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from leyden.ingest.readers.files import Malformed, is_list, is_map

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PERIOD = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


class RunIds(NamedTuple):
    """The ids every span of one recorded run shares."""

    rollout_id: str
    attempt_id: str
    trace_id: str


def run_ids(format: str, *identity: object) -> RunIds:
    """Ids of the run that `identity` names within `format`; identity is any JSON."""
    trace_id = digest(format, *identity, size=16)
    return RunIds(f"ro-{trace_id[:12]}", f"at-{trace_id[12:20]}", trace_id)


def digest(*parts: object, size: int) -> str:
    """`size` bytes of BLAKE2b over the canonical JSON of `parts`, in hex."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=size).hexdigest()


def span_id(ids: RunIds, key: str) -> str:
    """The id of the span that `key` names within the run."""
    return digest(ids.trace_id, key, size=8)


def span(
    ids: RunIds,
    key: str,
    *,
    sequence_id: int,
    name: str,
    parent: str | None,
    attributes: Mapping[str, Any],
    start_ns: int | None = None,
    end_ns: int | None = None,
    error: str | None = None,
) -> dict[str, object]:
    """A span of a run that had none. `key` and `parent` name spans within the run; attributes that are None are left out.

    `error` None means the status stays unset: whether a result text is an error is for the ingest rules to say.
    """
    return span_json(
        ids,
        span_id=span_id(ids, key),
        parent_id=None if parent is None else span_id(ids, parent),
        sequence_id=sequence_id,
        name=name,
        status=status("UNSET" if error is None else "ERROR", error),
        attributes={k: v for k, v in attributes.items() if v is not None},
        start_ns=start_ns,
        end_ns=end_ns,
    )


def status(code: str, description: str | None) -> dict[str, object]:
    """`code` is UNSET, OK or ERROR."""
    return {"status_code": code, "description": description}


def span_json(
    ids: RunIds,
    *,
    span_id: str,
    parent_id: str | None,
    sequence_id: int,
    name: str,
    status: dict[str, object],
    attributes: dict[str, Any],
    start_ns: int | None,
    end_ns: int | None,
    events: list[dict[str, object]] | None = None,
    links: list[dict[str, object]] | None = None,
    resource: dict[str, object] | None = None,
    trace_state: dict[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The one place that spells a span's keys. `extra` holds fields the protocol has no place for and keeps as they are."""
    return {
        "rollout_id": ids.rollout_id,
        "attempt_id": ids.attempt_id,
        "sequence_id": sequence_id,
        "trace_id": ids.trace_id,
        "span_id": span_id,
        "parent_id": parent_id,
        "name": name,
        "status": status,
        "attributes": attributes,
        "events": events or [],
        "links": links or [],
        "start_time": seconds(start_ns),
        "end_time": seconds(end_ns),
        "context": context(ids.trace_id, span_id, trace_state),
        "parent": None if parent_id is None else context(ids.trace_id, parent_id),
        "resource": resource or {"attributes": {}, "schema_url": ""},
        **(extra or {}),
    }


def context(trace_id: str, span_id: str, trace_state: dict[str, str] | None = None) -> dict[str, object]:
    return {"trace_id": trace_id, "span_id": span_id, "is_remote": False, "trace_state": trace_state or {}}


# ── Times ────────────────────────────────────────────────────────────────────────────────────────────────────────


def seconds(ns: int | None) -> float | None:
    # int / int rounds once; int / float would round the nanoseconds first.
    return None if ns is None else ns / 1_000_000_000


def iso_ns(text: object) -> int | None:
    """Unix nanoseconds of an ISO 8601 timestamp, to the microsecond; one without an offset is UTC. None stays None.

    Raises Malformed for anything else.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
        return in_64_bits((_aware(moment) - _EPOCH) // timedelta(microseconds=1) * 1000)
    except Malformed:
        raise
    except (ValueError, OverflowError) as error:
        raise Malformed(f"has a timestamp that is no ISO 8601 time: {str(text)[:40]!r}") from error


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def period_ns(text: object) -> int | None:
    """Nanoseconds of an ISO 8601 period such as "PT1M48.7S". None stays None; raises Malformed for anything else."""
    if text is None:
        return None
    match = _PERIOD.fullmatch(str(text)) if len(str(text)) < 64 else None
    if match is None or not any(match.groups()):
        raise Malformed(f"has a duration that is no ISO 8601 period: {str(text)[:40]!r}")
    days, hours, minutes, secs = (Decimal(part or 0) for part in match.groups())
    return in_64_bits(int((((days * 24 + hours) * 60 + minutes) * 60 + secs) * 1_000_000_000))


def in_64_bits(ns: int) -> int:
    """The same nanoseconds; raises Malformed when the store's columns cannot hold them."""
    if not -(2**63) <= ns < 2**63:
        raise Malformed("has a time outside what 64 bits of nanoseconds hold")
    return ns


# ── Messages in the GenAI conventions ────────────────────────────────────────────────────────────────────────────


def json_text(value: object) -> str | None:
    """`value` as an attribute: text stays text, None stays None, everything else becomes JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def call_part(*, id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def response_part(*, id: str | None, response: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": id, "response": response}


def content_parts(content: object) -> list[dict[str, Any]]:
    """The parts of a message's content: a string, a list of {"type": "text", "text": …} and other blocks, or null.

    Blocks other than text keep all they hold. Raises Malformed for any other content.
    """
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [text_part(content)]
    if not is_list(content):
        raise Malformed("has a message whose content is neither text nor a list of parts")
    return [_part(block) for block in content]


def _part(block: object) -> dict[str, Any]:
    if isinstance(block, str):
        return text_part(block)
    if not is_map(block):
        raise Malformed("has a message part that is neither text nor an object")
    if isinstance(block.get("text"), str):
        return text_part(block["text"])
    if block.get("type") == "text":
        raise Malformed("has a text part without text")
    return block


def plain_text(content: object) -> str:
    """The text of a message's content, parts joined by line feeds; "" when it has none."""
    return "\n".join(part["content"] for part in content_parts(content) if part.get("type") == "text")
