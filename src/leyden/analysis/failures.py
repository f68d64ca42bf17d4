"""Failures grouped by what failed and how.

Detects: spans that failed, grouped by the fingerprint that ingest gives them (tool or span name, and the error message
without its changing parts); errors that are one problem however they are worded, such as rate limits, are one group.
Only the deepest failing span of a chain counts: a step that failed because its tool did is
the same failure once more.
Cannot tell: whether an outer span failed for a second reason of its own, or that a tool answered wrongly without an error.
"""

import re
from dataclasses import dataclass, field

from pydantic import BaseModel

from leyden.analysis.occurrences import Occurrences
from leyden.analysis.recommend import one_cause
from leyden.analysis.run import Cause, Events, ModelCall, ToolCall

GroupKey = tuple[bool, str, str]
_NUMBERED = re.compile(r"[\s_#-]*\d+$")


class FailureGroup(BaseModel):
    """Equal failures. `fingerprint` is that of the error, or its label where one problem has many wordings. `calls` counts all calls of the tool or model, None for other spans; `share` is count / calls."""

    fingerprint: str
    name: str
    is_tool: bool
    error_type: str | None
    error_message: str | None
    agent: str | None
    count: int
    calls: int | None
    share: float | None
    runs: int
    failed_runs: int


@dataclass(slots=True)
class Failures:
    """Running groups of equal failures.

    A key is (is a tool call, name of the tool, model or span without its number, error fingerprint or label).
    """

    groups: dict[GroupKey, Occurrences] = field(default_factory=dict[GroupKey, Occurrences])

    def add(self, events: Events) -> None:
        """Count the causes of one run."""
        for cause in events.causes:
            key = _key(cause)
            group = self.groups.get(key) or self.groups.setdefault(key, Occurrences())
            call = cause.call
            group.add(
                events.run,
                cause.span,
                agent=cause.agent,
                time_s=call.duration_s if call else None,
                asked_by=call.asked_by if isinstance(call, ToolCall) else None,
            )
            if isinstance(call, ModelCall):
                group.tokens += call.tokens


def _key(cause: Cause) -> GroupKey:
    span = cause.span
    if isinstance(cause.call, ToolCall):
        name = cause.call.tool
    elif isinstance(cause.call, ModelCall):
        name = span.model or span.name
    else:
        # "Step 7" fails like "Step 12" does.
        name = _NUMBERED.sub("", span.name) or span.name
    is_tool = isinstance(cause.call, ToolCall)
    known = one_cause(is_tool=is_tool, error_type=span.error_type, message=span.error_message)
    return (is_tool, name, known or span.fingerprint or span.error_type or "error")
