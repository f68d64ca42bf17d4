"""What an error body says, whoever sent it. Pure, and raises on nothing."""

from collections.abc import Mapping
from typing import Any

from leyden.gateway.parts import text_of
from leyden.gateway.reading import Said
from leyden.ingest.shapes import is_list, is_object

UNKNOWN = "error"
"""The type of an error whose body names none."""


def error_of(body: Any) -> tuple[str, str] | None:
    """Type and message of the error that a body is or holds; None when it is none.

    OpenAI: error.type or error.code; Azure: error.code; Gemini: error.status, also with a list around the body; Anthropic:
    error.type; vLLM and others without an `error`: type, code and message at the top; FastAPI: detail.
    """
    if is_list(body):
        return next((found for entry in body[:1] if (found := error_of(entry))), None)
    if not is_object(body):
        return None
    error = body.get("error")
    if isinstance(error, str) and error:
        return text_of(body.get("type")) or UNKNOWN, text_of(body.get("message")) or error
    if is_object(error) and error:
        return _named(error)
    return _at_the_top(body)


def only_error(body: Any) -> Said:
    """The reading of a body that says nothing but, perhaps, an error."""
    return Said(None, None, (), None, [], [], error=error_of(body))


def _named(error: Mapping[str, Any]) -> tuple[str, str]:
    inner = error.get("innererror")
    names = [
        error.get("status"),
        error.get("type"),
        error.get("code"),
        is_object(inner) and inner.get("code"),
    ]
    kind = next((name for name in names if isinstance(name, str) and name not in ("", "error")), None)
    if kind is None:
        code = error.get("code")
        kind = str(code) if isinstance(code, int) and not isinstance(code, bool) else UNKNOWN
    return kind, text_of(error.get("message")) or ""


def _at_the_top(body: Mapping[str, Any]) -> tuple[str, str] | None:
    is_answer = any(key in body for key in ("choices", "content", "output", "data", "response"))
    message = next(
        (said for key in ("message", "Message", "detail") if (said := text_of(body.get(key)))), None
    )
    if is_answer or (message is None and "error" not in (body.get("type"), body.get("object"))):
        return None
    kinds = [body.get("type"), body.get("code"), body.get("object")]
    kind = next((kind for kind in kinds if isinstance(kind, str) and kind not in ("", "error")), UNKNOWN)
    return kind, message or ""
