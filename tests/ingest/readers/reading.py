"""What every reader test needs: the recorded data, files on disk, and runs told apart from bad records."""

import json
import os
from pathlib import Path

import pytest

from leyden.ingest.readers import READERS, BadRecord
from leyden.ingest.record import RecordedRun
from leyden.types import Span

_REPO = Path(__file__).parents[3]


def recorded(name: str) -> Path:
    """A set of the recorded runs; skips where the data is absent, unless nothing may be skipped."""
    path = Path(os.environ.get("LEYDEN_DATA", _REPO.parent / "shared" / "data")) / name
    if not path.exists():
        reason = f"recorded runs are absent: {path}"
        pytest.fail(reason) if os.environ.get("LEYDEN_REQUIRE_ALL") == "1" else pytest.skip(reason)
    return path


def read(format: str, path: Path) -> tuple[list[RecordedRun], list[BadRecord]]:
    found = list(READERS[format].read(path))
    runs = [item for item in found if isinstance(item, RecordedRun)]
    for run in runs:
        assert_importable(run)
    return runs, [item for item in found if isinstance(item, BadRecord)]


def assert_importable(run: RecordedRun) -> None:
    """The promises of `RecordedRun`: valid spans of this run, unique ids, one known parent each, strict JSON throughout."""
    json.dumps(run._asdict(), allow_nan=False, ensure_ascii=False).encode()
    assert run.status in ("succeeded", "failed", "cancelled")
    spans = [Span.model_validate(span) for span in run.spans]
    assert [span.sequence_id for span in spans] == list(range(1, len(spans) + 1))
    assert {(span.rollout_id, span.attempt_id) for span in spans} == {(run.rollout_id, run.attempt_id)}
    assert len({span.span_id for span in spans}) == len(spans)


def write(path: Path, *lines: object) -> Path:
    """JSON Lines; a string or bytes goes in as it is."""
    raw = (line if isinstance(line, str | bytes) else json.dumps(line) for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in raw))
    return path


def named(run: RecordedRun, prefix: str) -> list[Span]:
    return [Span.model_validate(span) for span in run.spans if str(span["name"]).startswith(prefix)]


def tools(runs: list[RecordedRun]) -> list[Span]:
    return [span for run in runs for span in named(run, "execute_tool")]
