"""Readers of recorded runs: files of one format in, `RecordedRun`s out.

Reading the named files is the only I/O. A malformed file or record becomes a `BadRecord` and the rest is read; a path with
nothing to read raises BadInput. Answers and other labels in a file never reach a run.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from leyden.ingest.readers import claude_code, messages, otel_json, tau_bench
from leyden.ingest.readers.files import BadRecord
from leyden.ingest.record import RecordedRun

__all__ = ["READERS", "BadRecord", "Reader"]


class Reader(NamedTuple):
    """One format of `leyden import`. `default` is the path read when none is given; None asks for one."""

    name: str
    doc: str
    default: Path | None
    read: Callable[[Path], Iterator[RecordedRun | BadRecord]]


_ALL = (
    Reader(
        "claude-code",
        "session logs of Claude Code and recorded hook calls",
        claude_code.DEFAULT,
        claude_code.read,
    ),
    Reader("messages", "chat conversations in OpenAI's format, JSON Lines", None, messages.read),
    Reader(
        "otel-json",
        "traces as JSON: OTLP bodies, nested OpenInference traces, flat spans",
        None,
        otel_json.read,
    ),
    Reader("tau-bench", "tau-bench result files", None, tau_bench.read),
)

READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
