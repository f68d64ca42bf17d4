"""Errors of ours in the words of the client's own protocol, so that its library raises what it raises for its provider.

Promises: the body is JSON of that protocol's shape; the text says what happened and what to do; a client that may try again
learns when. Refuses to know: what went wrong, and errors of upstreams, which pass through as they are.
"""

import math
from typing import Any

import orjson

from leyden.errors import LeydenError, RateLimited
from leyden.gateway.call import Family
from leyden.gateway.error_types import anthropic_type, openai_type
from leyden.ingest.text import scrubbed

Headers = list[tuple[bytes, bytes]]

_PARAMS = {"model_not_allowed": "model"}


def refusal(error: LeydenError, family: Family) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer to a call that is turned away."""
    text = scrubbed(_sentences(error.message, error.hint) if error.hint else error.message)
    if family == "anthropic":
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": anthropic_type(error.status), "message": text},
        }
    else:
        told = {
            "message": text,
            "type": openai_type(error.status),
            "param": _PARAMS.get(error.code),
            "code": error.code,
        }
        body = {"error": told}
    return error.status, [(b"content-type", b"application/json"), *_again(error)], orjson.dumps(body)


def _sentences(message: str, hint: str) -> str:
    return f"{message.rstrip('.')}; {hint.rstrip('.')}"


def _again(error: LeydenError) -> Headers:
    """When to try again: whole seconds for everybody, milliseconds for those clients that read them."""
    if error.status not in (429, 503):
        return []
    after_s = error.retry_after_s if isinstance(error, RateLimited) else 1.0
    return [
        (b"retry-after", str(max(1, math.ceil(after_s))).encode()),
        (b"retry-after-ms", str(max(1, math.ceil(after_s * 1000))).encode()),
    ]
