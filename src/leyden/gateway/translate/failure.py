"""Error bodies, both ways. The HTTP status stays what the upstream answered; clients decide by it whether to try again."""

from typing import Any

from leyden.gateway.error_types import anthropic_type, openai_type, status_of_type
from leyden.ingest.shapes import is_object, object_or_empty

_TOO_LONG = "prompt is too long"
_TOO_LONG_CODE = "context_length_exceeded"
# Says that the limit asked for the answer is too large; a shorter prompt does not help there.
_ON_THE_LIMIT = ("'max_tokens'", "'max_completion_tokens'", "`max_tokens`")
_OTHERS_ON_TOO_LONG = ("maximum context length", "exceeds the available context", "context window")


def messages_error(status: int, body: Any) -> dict[str, Any]:
    """The error body of Anthropic's API from whatever an OpenAI-compatible upstream answered.

    A prompt over the model's context is said in Anthropic's words: agents that make room by themselves look for them.
    """
    message = said(body) or f"The upstream answered with status {status}."
    if _is_too_long(body, message) and _TOO_LONG not in message.lower():
        message = f"{_TOO_LONG}: {message}"
    return {"type": "error", "error": {"type": anthropic_type(status), "message": message}}


def chat_error(status: int, body: Any) -> dict[str, Any]:
    """The error body of OpenAI's API from whatever an Anthropic upstream answered."""
    message = said(body) or f"The upstream answered with status {status}."
    code = _TOO_LONG_CODE if _is_too_long(body, message) else None
    return {"error": {"message": message, "type": openai_type(status), "param": None, "code": code}}


def status_of(body: Any) -> int:
    """The HTTP status that an error inside a stream stands for: its own `code` when that is one, else by its type; 500 when unknown."""
    error = _error(body)
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return status_of_type(str(error.get("type")))


def said(body: Any) -> str:
    """The message of an error body of any of the shapes in use; "" when it has none."""
    if isinstance(body, str):
        return body
    error = _error(body)
    for value in (error.get("message"), error.get("detail"), object_or_empty(body).get("error")):
        if isinstance(value, str) and value:
            return value
    return ""


def _error(body: Any) -> dict[str, Any]:
    outer = object_or_empty(body)
    inner = outer.get("error")
    return inner if is_object(inner) else outer


def _is_too_long(body: Any, message: str) -> bool:
    lowered = message.lower()
    if any(words in lowered for words in _ON_THE_LIMIT):
        return False
    words = (_TOO_LONG, *_OTHERS_ON_TOO_LONG)
    return _error(body).get("code") == _TOO_LONG_CODE or any(word in lowered for word in words)
