"""Runs and spans for tests: one call per span, everything else defaulted."""

from typing import Any

from leyden.analysis.run import Run
from leyden.types import SpanSummary

SECOND = 1_000_000_000


def span(number: int, kind: Any = "span", name: str = "step", **over: Any) -> SpanSummary:
    """Span number `number`: starts at that second and takes half a second."""
    error = over.pop("error", None)
    if kind == "tool":
        over.setdefault("tool", name)
    if error is not None:
        over.setdefault("error_message", error)
        over.setdefault("fingerprint", f"{name}:{error}")
    fields: dict[str, Any] = {
        "rollout_id": "ro-1",
        "attempt_id": "at-1",
        "sequence_id": number,
        "trace_id": "tr-1",
        "span_id": f"s{number}",
        "parent_id": None,
        "name": name,
        "kind": kind,
        "status": "error" if error is not None else "ok",
        "start_ns": number * SECOND,
        "end_ns": number * SECOND + SECOND // 2,
    }
    return SpanSummary(**(fields | over))


def run(*spans: SpanSummary, id: str = "ro-1", status: str = "succeeded", **over: Any) -> Run:
    for each in spans:
        each.rollout_id = id
    return Run(id, "at-1", status, list(spans), **over)


def tool(
    number: int, name: str = "search", *, error: str | None = None, call: str | None = None, **over: Any
) -> SpanSummary:
    """A tool call; `call` names equal arguments."""
    return span(number, "tool", name, error=error, call_hash=call and f"{name}:{call}", **over)
