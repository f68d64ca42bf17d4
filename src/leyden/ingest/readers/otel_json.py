"""Read traces written as JSON: nested traces, flat span lists, OTLP/JSON bodies; one run per trace.

Spans keep their ids, times and attributes; the rollout is `ro-` + the whole trace id. OTLP spreads a trace over many bodies and
files, so those are gathered over the whole path first; the other shapes hold a trace each and are passed on as they come.
Status: a run failed when a span without a parent in the trace ended in an error, else it succeeded. What a file says *about* a
run (task metadata, expected results, a verdict) is a label and is left behind.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from leyden.ingest.readers.files import (
    BadRecord,
    Found,
    Malformed,
    files,
    is_map,
    merged,
    values,
    wrong_format,
)
from leyden.ingest.readers.otel_shapes import RawSpan, is_otlp, spans_of, unwrapped
from leyden.ingest.readers.spans import RunIds, seconds, span_json
from leyden.ingest.record import RecordedRun

FORMAT = "otel-json"

# Where conventions put what an agent was asked, best first.
_INPUT_KEYS = (
    "input.value",
    "gen_ai.input.messages",
    "task.input",
    "user_prompt",
    "traceloop.entity.input",
    "ai.prompt",
)

_Traces = dict[str, dict[str, RawSpan]]


def read(path: Path) -> Iterator[RecordedRun | BadRecord]:
    """One run per trace under `path`. Raises BadInput when there is nothing to read."""
    return merged(_read(files(path)))


def _read(listed: list[Path]) -> Iterator[RecordedRun | BadRecord]:
    gathered: _Traces = {}
    sources: dict[str, str] = {}
    for file in listed:
        yield from _read_file(file, gathered, sources)
    for trace_id, spans in gathered.items():
        yield _run(trace_id, spans.values(), {"file": sources[trace_id]})


def _read_file(file: Path, gathered: _Traces, sources: dict[str, str]) -> Iterator[RecordedRun | BadRecord]:
    quiet = True
    for found in values(file):
        if isinstance(found, BadRecord):
            quiet = False
            yield found
            continue
        traces: _Traces = {}
        for bad in _sort(found, traces):
            quiet = False
            yield bad
        quiet = quiet and not traces
        value = unwrapped(found.value)
        if is_map(value) and not is_otlp(value):
            yield from (_run(trace_id, spans.values(), _about(found)) for trace_id, spans in traces.items())
            continue
        for trace_id, spans in traces.items():
            sources.setdefault(trace_id, file.name)
            gathered.setdefault(trace_id, {}).update(spans)
    if quiet:
        yield BadRecord(file, "", "holds no spans")


def _sort(found: Found, traces: _Traces) -> Iterator[BadRecord]:
    """Put the spans of one value into `traces`; yield what was refused. A span that comes twice counts as it came last."""
    value = unwrapped(found.value)
    try:
        if not is_map(value) or not (is_otlp(value) or "spans" in value):
            raise Malformed(wrong_format(found.value, wanted=FORMAT, expected="a trace with spans"))
        for span in spans_of(value):
            if isinstance(span, RawSpan):
                traces.setdefault(span.trace_id, {})[span.span_id] = span
            else:
                yield BadRecord(found.file, f"{found.where} span {span.place}".strip(), span.why)
    except Malformed as error:
        yield BadRecord(found.file, found.where, str(error))


def _about(found: Found) -> dict[str, object]:
    """What a file says of its one trace: names and the task text, never what was expected of it."""
    told = {key: found.value.get(key) for key in ("run_id", "task_id", "task")}
    return {"file": found.file.name, **{k: v for k, v in told.items() if isinstance(v, str | int)}}


def _run(trace_id: str, spans: Iterable[RawSpan], about: dict[str, object]) -> RecordedRun:
    ids = RunIds(f"ro-{trace_id}", f"at-{trace_id[:8]}", trace_id)
    ordered = _in_order(list(spans))
    known = {span.span_id for span in ordered}
    roots = [span for span in ordered if span.parent_id not in known]
    broken = [root for root in roots if root.status["status_code"] == "ERROR"]
    starts = [span.start_ns for span in ordered if span.start_ns is not None]
    ends = [span.end_ns for span in ordered if span.end_ns is not None]
    service = next((_service(span) for span in ordered if _service(span)), None)
    reason = broken[0].status["description"] if broken else None
    return RecordedRun(
        rollout_id=ids.rollout_id,
        attempt_id=ids.attempt_id,
        input=about.pop("task", None) or _input(roots, ordered),
        status="failed" if broken else "succeeded",
        start_time=seconds(min(starts, default=None)),
        end_time=seconds(max(ends, default=None)),
        metadata={"source": FORMAT, **({"service": service} if service else {}), **about},
        spans=[_span(ids, span, sequence_id) for sequence_id, span in enumerate(ordered, 1)],
        failure_reason=reason if isinstance(reason, str) else None,
    )


def _in_order(spans: list[RawSpan]) -> list[RawSpan]:
    """By start; a parent before the children that start with it; spans without a start last, as the file lists them."""
    parents = {span.span_id: span.parent_id for span in spans}
    depths: dict[str | None, int] = {}
    return sorted(
        spans,
        key=lambda span: (
            span.start_ns is None,
            span.start_ns or 0,
            _depth(span.span_id, parents, depths),
        ),
    )


def _depth(span_id: str | None, parents: dict[str, str | None], depths: dict[str | None, int]) -> int:
    path: list[str | None] = []
    while span_id in parents and span_id not in depths:
        depths[span_id] = 0  # A parent that is its own descendant ends the walk here.
        path.append(span_id)
        span_id = parents[span_id]
    base = depths.get(span_id, -1)
    for above, step in enumerate(reversed(path), 1):
        depths[step] = base + above
    return depths[path[0]] if path else base


def _service(span: RawSpan) -> object:
    attributes = span.resource["attributes"]
    return attributes.get("service.name") if is_map(attributes) else None


def _input(roots: list[RawSpan], ordered: list[RawSpan]) -> Any:
    """What the run was asked, from its roots or else the first span that says; None when content was not recorded."""
    asked = (span.attributes.get(key) for span in [*roots, *ordered] for key in _INPUT_KEYS)
    return next((value for value in asked if value and value != "<REDACTED>"), None)


def _span(ids: RunIds, span: RawSpan, sequence_id: int) -> dict[str, object]:
    return span_json(
        ids,
        span_id=span.span_id,
        parent_id=span.parent_id,
        sequence_id=sequence_id,
        name=span.name,
        status=span.status,
        attributes=span.attributes,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        events=span.events,
        links=span.links,
        resource=span.resource,
        trace_state=span.trace_state,
        extra=span.extra,
    )
