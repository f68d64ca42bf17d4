"""Read chat conversations: JSON Lines, each line {"messages": […]} in OpenAI's chat format, or the bare list of messages.

A line may also hold "id", "reward" (a number), "metadata" (an object), "tools" and "model". Status: a run without a reward
succeeded; with one it failed when the reward is 0 or less.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leyden.ingest.readers.chat import conversation_spans, first_user_text
from leyden.ingest.readers.files import (
    BadRecord,
    Found,
    Malformed,
    files,
    is_list,
    is_map,
    looks_like,
    merged,
    values,
    wrong_format,
)
from leyden.ingest.readers.spans import digest, run_ids
from leyden.ingest.record import RecordedRun

FORMAT = "messages"


def read(path: Path) -> Iterator[RecordedRun | BadRecord]:
    """One run per conversation, in file order. Raises BadInput when there is nothing at `path`."""
    return merged(run for file in files(path) for run in _runs(file))


def _runs(file: Path) -> Iterator[RecordedRun | BadRecord]:
    seen: dict[str, int] = {}
    for found in values(file):
        for entry in _entries(found):
            if isinstance(entry, BadRecord):
                yield entry
                continue
            try:
                yield _run(entry, seen)
            except Malformed as error:
                yield BadRecord(file, entry.where, str(error))


def _entries(found: Found | BadRecord) -> Iterator[Found | BadRecord]:
    """The conversations in one value: itself, or the entries when a whole file is a list of them."""
    if isinstance(found, BadRecord) or not is_list(found.value) or _is_conversation(found.value):
        yield found
        return
    if not found.value:
        yield BadRecord(found.file, found.where, "has no messages")
    for index, value in enumerate(found.value):
        yield Found(found.file, f"{found.where} entry {index}".strip(), value)


def _is_conversation(value: list[Any]) -> bool:
    return looks_like(value) == FORMAT and is_map(value[0]) and "role" in value[0]


def _run(found: Found, seen: dict[str, int]) -> RecordedRun:
    record: Any = {"messages": found.value} if is_list(found.value) else found.value
    if not is_map(record) or "messages" not in record:
        raise Malformed(
            wrong_format(record, wanted=FORMAT, expected='{"messages": […]} or a list of messages')
        )
    identity = digest(record, size=16)
    again = seen[identity] = seen.get(identity, -1) + 1
    ids = run_ids(FORMAT, record.get("id"), identity, again)
    reward = number(record.get("reward"), name="reward")
    agent, model = record.get("agent"), record.get("model")
    spans = conversation_spans(
        ids,
        record["messages"],
        agent=agent if isinstance(agent, str) and agent else found.file.stem,
        model=model if isinstance(model, str) else None,
        tools=record.get("tools"),
    )
    return RecordedRun(
        rollout_id=ids.rollout_id,
        attempt_id=ids.attempt_id,
        input=first_user_text(record["messages"]),
        status="failed" if reward is not None and reward <= 0 else "succeeded",
        start_time=None,
        end_time=None,
        metadata=_metadata(record, found),
        spans=spans,
        reward=reward,
    )


def _metadata(record: dict[str, Any], found: Found) -> dict[str, object]:
    given = record.get("metadata")
    if given is not None and not is_map(given):
        raise Malformed("has metadata that is no object")
    own = {"source": FORMAT, "file": found.file.name}
    return {**(given or {}), **own, **({"id": record["id"]} if record.get("id") is not None else {})}


def number(value: object, *, name: str) -> float | None:
    """A JSON number or boolean as a float, null as None. Raises Malformed for anything else."""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise Malformed(f"has a {name} that is no number: {str(value)[:40]!r}")
    return float(value)
