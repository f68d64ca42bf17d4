"""Read tau-bench results: a list, or JSON Lines, of {task_id, reward, info, traj, trial}.

`traj` is the conversation in OpenAI's chat format. Status follows tau-bench's own measure: reward 1 means the task was solved
(succeeded), anything below means it was not (failed). The expected actions and outputs, and how the reward was computed, are
answers: they stay in the file, so that nothing downstream can read them off a run.
"""

from collections.abc import Iterator
from pathlib import Path

from leyden.ingest.readers.chat import conversation_spans, first_user_text
from leyden.ingest.readers.files import (
    BadRecord,
    Found,
    Malformed,
    files,
    is_list,
    is_map,
    merged,
    values,
    wrong_format,
)
from leyden.ingest.readers.messages import number
from leyden.ingest.readers.spans import digest, run_ids
from leyden.ingest.record import RecordedRun

FORMAT = "tau-bench"


def read(path: Path) -> Iterator[RecordedRun | BadRecord]:
    """One run per entry, in file order. Raises BadInput when there is nothing at `path`."""
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
    if isinstance(found, BadRecord) or not is_list(found.value):
        yield found
        return
    if not any(is_map(value) and "traj" in value for value in found.value):
        why = wrong_format(found.value, wanted=FORMAT, expected="objects with task_id and traj")
        yield BadRecord(found.file, found.where, why)
        return
    for index, value in enumerate(found.value):
        yield Found(found.file, f"entry {index}", value)


def _run(found: Found, seen: dict[str, int]) -> RecordedRun:
    record = found.value
    if not is_map(record) or "traj" not in record:
        raise Malformed(wrong_format(record, wanted=FORMAT, expected="an object with task_id and traj"))
    reward = number(record.get("reward"), name="reward")
    task_id, trial, messages = record.get("task_id"), record.get("trial"), record["traj"]
    identity = digest(task_id, trial, reward, messages, size=16)
    again = seen[identity] = seen.get(identity, -1) + 1
    ids = run_ids(FORMAT, task_id, trial, identity, again)
    info = record.get("info")
    task = info.get("task") if is_map(info) else None
    instruction = task.get("instruction") if is_map(task) else None
    user_id = task.get("user_id") if is_map(task) else None
    metadata = {
        "source": FORMAT,
        "file": found.file.name,
        "task_id": task_id,
        "trial": trial,
        "user_id": user_id,
    }
    return RecordedRun(
        rollout_id=ids.rollout_id,
        attempt_id=ids.attempt_id,
        input=instruction if isinstance(instruction, str) else first_user_text(messages),
        status="succeeded" if reward is None or reward >= 1 else "failed",
        start_time=None,
        end_time=None,
        metadata={key: value for key, value in metadata.items() if value is not None},
        spans=conversation_spans(ids, messages, agent=found.file.stem),
        reward=reward,
    )
