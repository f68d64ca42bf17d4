"""Error bodies, both ways. The HTTP status stays what the upstream answered; clients decide by it whether to try again."""

from typing import Any

from leyden.ingest.shapes import is_object, object_or_empty

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_STATUS = {kind: status for status, kind in reversed(_ANTHROPIC.items())}
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
    kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def chat_error(status: int, body: Any) -> dict[str, Any]:
    """The error body of OpenAI's API from whatever an Anthropic upstream answered."""
    message = said(body) or f"The upstream answered with status {status}."
    kind = _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = _TOO_LONG_CODE if _is_too_long(body, message) else None
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def status_of(body: Any) -> int:
    """The HTTP status that an error inside a stream stands for: its own `code` when that is one, else by its type; 500 when unknown."""
    error = _error(body)
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS.get(str(error.get("type")), 500)


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
