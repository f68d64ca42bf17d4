"""What a message says, in at most 200 characters: the text behind the many shapes that models and frameworks use."""

from typing import Any

import orjson

from leyden.ingest.record import PREVIEW_CHARS
from leyden.ingest.shapes import is_list, is_object
from leyden.ingest.text import column

# Longer JSON whose last message cannot be cut out is shown as it stands: parsing it costs more than a preview is worth.
_PARSE_CHARS = 65_536
_DEEPEST = 6
# Where one message starts, as the usual encoders write it. Inside a string the quotes would be escaped.
_MESSAGE_STARTS = ('{"role":', '{"role" :', '{"parts":', '{"content":')
_TEXT_KEYS = (
    "content",
    "parts",
    "text",
    "response",
    "result",
    "output",
    "message",
    "value",
    "arguments",
    "input",
)


def preview(value: Any) -> str | None:
    """The first 200 characters of a value; of a list of messages, the text of the last one."""
    if isinstance(value, str):
        start = value[:1]
        if start == "[":
            value = _last_content(value) or _last_message(value)
        elif start == "{":
            value = _last_message(value) if _may_be_message(value) else value
        elif start.isspace():
            value = value[: PREVIEW_CHARS * 4].strip()
    return column(value if isinstance(value, str) else _said(value), PREVIEW_CHARS)


def _last_content(text: str) -> str | None:
    """The start of the last message's text, cut out of the JSON without parsing it; None when that would not be certain."""
    # Forward search is several times faster than backward; most lists that are shown hold one message.
    at = text.find('"content":')
    if at >= 0 and text.find('"content":', at + 1) >= 0:
        at = text.rfind('"content":')
    if at < 0 or text.find('"role":', at) >= 0:
        return None
    at += 10
    at += text.startswith(" ", at)
    if not text.startswith('"', at):
        return None
    said = text[at + 1 : at + 1 + PREVIEW_CHARS]
    end = said.find('"')
    if end >= 0:
        said = said[:end]
    return None if "\\" in said or not said else said


def _last_message(text: str) -> Any:
    """The last message in the JSON text of a list of messages, parsed; the text itself when it is something else."""
    if text[0] == "[":
        for start in _MESSAGE_STARTS:
            at = text.rfind(start)
            if at < 0:
                continue
            try:
                return orjson.loads(text[at:].rstrip()[:-1])
            except (orjson.JSONDecodeError, UnicodeEncodeError):
                continue
    if len(text) > _PARSE_CHARS:
        return text
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return text
    return value if _is_message(value) else text


def _may_be_message(text: str) -> bool:
    """Whether the JSON text of an object needs parsing to tell that it is no message: without these keys it is none."""
    return (
        '"role"' in text
        or '"messages"' in text
        or '"parts"' in text
        or ('"text"' in text and '"type"' in text)
        or "\\u" in text
    )


def _is_message(value: Any) -> bool:
    if is_list(value):
        return bool(value) and _is_message(value[-1])
    if not is_object(value):
        return False
    return "role" in value or "messages" in value or "parts" in value or ("type" in value and "text" in value)


def _said(value: Any, depth: int = 0) -> Any:
    """The text inside a message or list of parts; anything else as it is."""
    if depth > _DEEPEST:
        return value
    if is_object(value) and (found := _said_plainly(value)):
        return found
    if is_list(value):
        parts = value
        if not parts or not isinstance(parts[-1], dict | str):
            return parts
        if depth == 0:
            return _said(parts[-1], depth + 1) if _is_message(parts) else parts
        said = [_said(part, depth + 1) for part in parts[:20]]
        return " ".join(text for text in said if isinstance(text, str) and text) or parts
    if not is_object(value):
        return value
    message = value
    if is_list(message.get("messages")):
        return _said(message["messages"], depth)
    if depth == 0 and not _is_message(message):
        return message
    for key in _TEXT_KEYS:
        if inner := message.get(key):
            return inner if isinstance(inner, str) else _said(inner, depth + 1)
    calls = message.get("tool_calls")
    if is_list(calls) and calls:
        return _said_call(calls[0])
    return message.get("name") or message


def _said_plainly(message: dict[str, Any]) -> str | None:
    """The text of a message in the two shapes that nearly all have: text as content, or one part with text as content."""
    if "role" not in message:
        return None
    content = message.get("content")
    if content is None:
        parts = message.get("parts")
        if is_list(parts) and len(parts) == 1 and is_object(parts[0]):
            content = parts[0].get("content")
    return content if isinstance(content, str) else None


def _said_call(call: Any) -> Any:
    """A requested tool call as `name(arguments)`."""
    if not is_object(call):
        return call
    inner = call
    function = inner["function"] if is_object(inner.get("function")) else inner
    arguments = function.get("arguments") or function.get("args") or ""
    return f"{column(function.get('name'), PREVIEW_CHARS) or ''}({column(arguments, PREVIEW_CHARS) or ''})"
