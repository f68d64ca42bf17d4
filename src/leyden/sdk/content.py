"""What a call says about itself, as span attributes: its arguments, its result, its failure.

Promises: nothing here disturbs the traced code. What goes wrong is logged once per process and goes no further.
"""

import logging
import traceback
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode

from leyden.sdk import messages, semconv
from leyden.sdk.capture import bounded_json, bounded_text, safe_str
from leyden.sdk.spans import OwnSpan

log = logging.getLogger("leyden")

OPERATIONS = {
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "llm": "chat",
    "chain": "invoke_workflow",
    "retriever": "retrieval",
    "embedding": "embeddings",
}
KIND_OF = {operation: kind for kind, operation in OPERATIONS.items()}
KINDS = frozenset({*OPERATIONS, "span"})


def write(span: Span, attributes: dict[str, Any]) -> None:
    """Set attributes that are scalars or tuples of strings."""
    if isinstance(span, OwnSpan):
        span.write(attributes)
        return
    # For the few attributes of a call, one by one is half as dear as set_attributes.
    for name, value in attributes.items():
        span.set_attribute(name, value)


def input_attributes(kind: str, value: Any) -> dict[str, Any]:
    """What went into a call of this kind."""
    if kind == "tool":
        return {semconv.TOOL_ARGUMENTS: bounded_text(value)}
    if kind in ("agent", "llm"):
        return {semconv.INPUT_MESSAGES: messages.input_messages(value)}
    return {semconv.INPUT_VALUE: bounded_text(value)}


def output_attributes(kind: str, value: Any) -> dict[str, Any]:
    """What came out of it."""
    if kind == "tool":
        return {semconv.TOOL_RESULT: bounded_text(value)}
    if kind == "llm":
        return messages.response_attributes(value)
    if kind == "agent":
        return {semconv.OUTPUT_MESSAGES: messages.output_messages(value)}
    return {semconv.OUTPUT_VALUE: bounded_text(value)}


def mark_failed(span: Span, error: BaseException | str) -> None:
    """Status, error.type and an exception event; a text is only the status."""
    if isinstance(error, str):
        span.set_status(Status(StatusCode.ERROR, error[:2_000]))
        return
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = safe_str(error)
    span.set_attribute(semconv.ERROR_TYPE, name)
    span.set_status(Status(StatusCode.ERROR, message))
    stack = "".join(traceback.format_exception(kind, error, error.__traceback__, limit=50))
    event = {
        "exception.type": name,
        "exception.message": message,
        "exception.stacktrace": bounded_text(stack),
    }
    span.add_event("exception", event)


def scalar(value: Any) -> Any:
    """A scalar as it is, anything else as bounded JSON."""
    return value if isinstance(value, (str, bool, int, float)) else bounded_json(value)


def harmless(act: Callable[..., object], *args: Any) -> None:
    """Do it; a failure of ours is logged once and goes no further."""
    try:
        act(*args)
    except Exception:
        complain()


_complained = False


def complain() -> None:
    """Say once per process that a recording went wrong."""
    global _complained
    if not _complained:
        _complained = True
        log.warning("Leyden could not record a span; the traced code is not affected", exc_info=True)
