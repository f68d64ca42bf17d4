"""One span's attributes → the columns that lists, sums and findings read. The same rules for every way a span comes in.

Tokens, time to first token and cost are columns of model calls only (kinds llm and embedding): an agent's span repeats what
its calls used, and a sum over spans must be right. `input_tokens` includes tokens read from or written to a cache, whatever
the dialect counts. `fingerprint` is set exactly when the span failed, whether or not its status says so.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from leyden.ingest.dialects.agentops import reward_value
from leyden.ingest.dialects.dialect import Dialect, Get, first
from leyden.ingest.fingerprint import call_hash, error_fingerprint
from leyden.ingest.preview import preview
from leyden.ingest.shapes import is_object
from leyden.ingest.subject import NAME_CHARS, subject
from leyden.ingest.text import column, json_object
from leyden.types import SpanKind

RULES_VERSION = 2
"""Raised when a rule below or a dialect changes what a column holds, so that stored spans can be derived again."""

MESSAGE_CHARS = 500
MAX_COUNT = 2**53
MAX_SCORES = 64
_MAX_MESSAGES = 4096


class EventView(NamedTuple):
    """One event of a span: its name and a reader of its attributes."""

    name: str
    get: Get


Events = Callable[[], list[EventView]]
"""Decodes a span's events when a rule asks for them."""


class Columns(NamedTuple):
    """What the rules found; fields as in `SpanRecord`."""

    kind: SpanKind
    agent: str | None
    tool: str | None
    provider: str | None
    model: str | None
    session: str | None
    error_type: str | None
    error_message: str | None
    fingerprint: str | None
    call_hash: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    ttft_ms: float | None
    input_preview: str | None
    output_preview: str | None
    dialect: str | None
    scores: tuple[tuple[str, float], ...]


def no_events() -> list[EventView]:
    """For spans without events."""
    return []


def derive(
    attributes: Mapping[str, Any], *, name: str, status: str, message: str, events: Events = no_events
) -> Columns:
    """The columns of a span. status: "unset", "ok" or "error", `message` its description; both as they came."""
    about = subject(attributes, name)
    _, dialect, kind, agent, tool, provider, model, error_type = about
    get: Get = attributes.get if dialect.view is None else dialect.view(attributes.get)
    if kind == "tool":
        said, answer = first(get, dialect.arguments), first(get, dialect.result)
    else:
        said, answer = first(get, dialect.input), first(get, dialect.output)
    counts, cost, ttft_ms = NO_TOKENS, None, None
    if kind == "llm" or kind == "embedding":
        counts = _tokens(get, dialect)
        cost, ttft_ms = amount(first(get, dialect.cost)), ttft(get, dialect)
        if said is None and dialect.messages_in is not None:
            said = _indexed_message(get, *dialect.messages_in)
        if answer is None and dialect.messages_out is not None:
            answer = _indexed_message(get, *dialect.messages_out)
    if events is not no_events and (said is None or answer is None):
        said, answer = _from_events(events(), said, answer)
    said = None if said in REDACTED else said
    error_type, error_message = _error(
        get,
        error_type,
        status=status,
        message=message,
        events=events,
        answer=answer if kind == "tool" else None,
    )
    columns = (
        kind,
        agent,
        tool,
        provider,
        model,
        column(first(get, dialect.session), NAME_CHARS),
        error_type,
        error_message,
        error_fingerprint(tool or name, error_type, error_message) if error_type or error_message else None,
        call_hash(tool, said) if tool is not None and said is not None else None,
        *counts,
        cost,
        ttft_ms,
        preview(said) if said is not None else None,
        preview(answer) if answer is not None else None,
        about.spoken,
        _scores(get, kind, events),
    )
    # Twice as fast as calling the class, which unpacks every field by name.
    return tuple.__new__(Columns, columns)  # pyright: ignore[reportUnknownMemberType]


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────

NO_TOKENS = (None, None, None, None, None)
Tokens = tuple[int | None, int | None, int | None, int | None, int | None]


def _count(value: Any) -> int | None:
    """A value as a count; None when it is none, negative, or beyond 2**53."""
    if value is None or (type(value) is int and 0 <= value <= MAX_COUNT):
        return value
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 17 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value)


def amount(value: Any) -> float | None:
    """A value as a finite number of at least 0, else None."""
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value[:64])
        except ValueError:
            return None
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def tokens(dialect: Dialect, sent: Any, output: Any, read: Any, written: Any, reasoning: Any) -> Tokens:
    """Tokens in, out, read from cache, written to cache, spent on reasoning; the first includes both cache counts."""
    counted_in, counted_read, counted_written = _count(sent), _count(read), _count(written)
    cached = (counted_read or 0) + (counted_written or 0)
    # More from the cache than was sent: whatever the convention says, this source counts them apart.
    if counted_in is not None and cached and (not dialect.input_includes_cache or cached > counted_in):
        counted_in += cached
    return counted_in, _count(output), counted_read, counted_written, _count(reasoning)


def _tokens(get: Get, dialect: Dialect) -> Tokens:
    return tokens(
        dialect,
        first(get, dialect.input_tokens),
        first(get, dialect.output_tokens),
        first(get, dialect.cache_read),
        first(get, dialect.cache_write),
        first(get, dialect.reasoning),
    )


def ttft(get: Get, dialect: Dialect) -> float | None:
    """Milliseconds to the first token; None when no attribute says."""
    for key, to_ms in dialect.ttft:
        taken = amount(get(key))
        if taken is not None and math.isfinite(taken * to_ms):
            return taken * to_ms
    return None


# ── What was said ────────────────────────────────────────────────────────────────────────────────────────────────

REDACTED = ("<REDACTED>", "_REDACTED__", "[REDACTED]")
_SAID_IN_MESSAGE = (
    "content",
    "contents.0.message_content.text",
    "tool_calls.0.function.name",
    "tool_calls.0.tool_call.function.name",
    "tool_calls.0.name",
)


def _indexed_message(get: Get, prefix: str, infix: str) -> Any:
    """The text of the last of messages that stand in one attribute per field: `gen_ai.prompt.3.content`."""

    def is_there(n: int) -> bool:
        at = f"{prefix}{n}{infix}"
        return get(f"{at}role") is not None or get(f"{at}content") is not None

    if not is_there(0):
        return None
    low, high = 0, 1
    while high < _MAX_MESSAGES and is_there(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_there(middle) else (low, middle)
    return first(get, tuple(f"{prefix}{low}{infix}{field}" for field in _SAID_IN_MESSAGE))


_SAID_IN_EVENT = {
    "gen_ai.system.message": "content",
    "gen_ai.user.message": "content",
    "gen_ai.assistant.message": "content",
    "gen_ai.tool.message": "content",
    "gen_ai.content.prompt": "gen_ai.prompt",
    "gen_ai.client.inference.operation.details": "gen_ai.input.messages",
}
_ANSWERED_IN_EVENT = {
    "gen_ai.choice": ("message", "content"),
    "gen_ai.content.completion": ("gen_ai.completion",),
    "gen_ai.client.inference.operation.details": ("gen_ai.output.messages",),
    "tool.output": ("output",),
}


def _from_events(events: list[EventView], said: Any, answer: Any) -> tuple[Any, Any]:
    """Fills what is None from events, where older conventions keep messages; the last message wins."""
    in_events = out_events = None
    for event in events:
        if (key := _SAID_IN_EVENT.get(event.name)) and (found := event.get(key)):
            in_events = found
        if (keys := _ANSWERED_IN_EVENT.get(event.name)) and (found := first(event.get, keys)):
            out_events = found
    return in_events if said is None else said, out_events if answer is None else answer


# ── What went wrong ──────────────────────────────────────────────────────────────────────────────────────────────

_TYPED = re.compile(
    r"^((?:[A-Za-z_][\w.]{0,120}?)?(?:Error|Exception|Exit|Interrupt|Warning|Timeout|Failure)):\s*"
)
_FAILED_ANSWER = re.compile(
    r"\s*(?:Error\s*:|Error (?:executing|calling|invoking|running|when|while)\b|Traceback \(most recent call last\)"
    r"|(?:[A-Za-z_][\w.]{0,120}?)?(?:Error|Exception)\s*:|<tool_use_error>)"
)
TOOL_ERROR = "tool_error"


def _error(
    get: Get, kind: str | None, *, status: str, message: str, events: Events, answer: Any
) -> tuple[str | None, str | None]:
    """Type and message of what went wrong; (None, None) when nothing did. kind: the span's `error.type`."""
    if status != "error" and kind is None:
        if answer is not None and (failure := failed_answer(answer)):
            return TOOL_ERROR, column(failure, MESSAGE_CHARS)
        kind = column(get("exception.type"), NAME_CHARS)
        return (kind, column(get("exception.message"), MESSAGE_CHARS)) if kind else (None, None)
    raised, told = _exception(events())
    told = told or message or first(get, ("exception.message", "error.message", "error"))
    raised = raised or column(get("exception.type"), NAME_CHARS) or kind
    text = column(told, MESSAGE_CHARS * 4) or ""
    typed = _TYPED.match(text)
    if typed and (raised is None or raised.rpartition(".")[2] == typed[1].rpartition(".")[2]):
        raised, text = raised or typed[1], text[typed.end() :]
    return raised or ("error" if not text else None), column(text, MESSAGE_CHARS)


def _exception(events: list[EventView]) -> tuple[str | None, Any]:
    """Type and message of the last exception recorded on a span."""
    for event in reversed(events):
        if event.name == "exception" or event.name == "gen_ai.client.operation.exception":
            return column(event.get("exception.type"), NAME_CHARS), event.get("exception.message")
    return None, None


def failed_answer(answer: Any) -> str | None:
    """The error that a tool answered with, or None when the answer is none.

    Conservative: the text must begin like an error, or be an object that is marked as one or whose first key is `error`.
    """
    if isinstance(answer, str):
        start = answer.lstrip()[:1]
        if start == "{":
            # All that marks an error has these letters; parsing costs ten times as much.
            may_fail = "rror" in answer or "\\u" in answer
            return _failed_object(json_object(answer.strip())) if may_fail else None
        if start == '"':
            answer = answer.strip().strip('"')
        return answer if _FAILED_ANSWER.match(answer) else None
    return _failed_object(answer) if is_object(answer) else None


def _failed_object(answer: dict[str, Any]) -> str | None:
    if not answer:
        return None
    if next(iter(answer)) == "error" and answer["error"]:
        error = answer["error"]
        told = error.get("message") if is_object(error) else None
        return column(told or error, MESSAGE_CHARS)
    marked = answer.get("is_error") is True or answer.get("isError") is True
    if marked or (answer.get("status") == "error" and "content" in answer):
        return preview([{"role": "tool", **answer}]) or "error"
    return None


# ── Scores ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _scores(get: Get, kind: SpanKind, events: Events) -> tuple[tuple[str, float], ...]:
    """(name, value) of every finite reward or evaluation on the span, the primary one first."""
    if kind == "reward":
        return tuple(_rewards(get))
    if events is no_events:
        if kind != "evaluator" and kind != "span":
            return ()
        value = _number(get("gen_ai.evaluation.score.value"))
        name = column(get("gen_ai.evaluation.name"), NAME_CHARS)
        return ((name or "evaluation", value),) if value is not None else ()
    found = [
        (column(event.get("gen_ai.evaluation.name"), NAME_CHARS) or "evaluation", value)
        for event in events()[:MAX_SCORES]
        if event.name == "gen_ai.evaluation.result"
        and (value := _number(event.get("gen_ai.evaluation.score.value"))) is not None
    ]
    return tuple(found)


def _rewards(get: Get) -> Iterator[tuple[str, float]]:
    """Rewards of an annotation: the indexed ones, else one of the older single forms."""
    if get("agentlightning.reward.0.value") is None:
        said = first(get, ("reward", "agentlightning.operation.output"))
        value = _number(said) if said is not None else reward_value(get)
        if value is not None:
            yield "primary", value
        return
    for n in range(MAX_SCORES):
        if (said := get(f"agentlightning.reward.{n}.value")) is None:
            return
        if (value := _number(said)) is not None:
            name = column(get(f"agentlightning.reward.{n}.name"), NAME_CHARS)
            yield name or ("primary" if n == 0 else f"reward {n}"), value
