"""Errors of ours in the words of the client's own protocol, so that its library raises what it raises for its provider.

Promises: the body is JSON of that protocol's shape; the text says what happened and what to do; a client that may try again
learns when. Refuses to know: what went wrong, and errors of upstreams, which pass through as they are.
"""

import math
from typing import Any

import orjson

from leyden.errors import LeydenError, RateLimited
from leyden.gateway.call import Family
from leyden.ingest.text import scrubbed

Headers = list[tuple[bytes, bytes]]

# Statuses without a line are 400 among those of the client, 500 among those of the server.
_OPENAI = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_PARAMS = {"model_not_allowed": "model"}


def refusal(error: LeydenError, family: Family) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer to a call that is turned away."""
    text = scrubbed(_sentences(error.message, error.hint) if error.hint else error.message)
    if family == "anthropic":
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": _type(_ANTHROPIC, error.status), "message": text},
        }
    else:
        told = {
            "message": text,
            "type": _type(_OPENAI, error.status),
            "param": _PARAMS.get(error.code),
            "code": error.code,
        }
        body = {"error": told}
    return error.status, [(b"content-type", b"application/json"), *_again(error)], orjson.dumps(body)


def _type(types: dict[int, str], status: int) -> str:
    return types.get(status) or types[500 if status >= 500 else 400]


def _sentences(message: str, hint: str) -> str:
    return f"{message.rstrip('.')}. {hint.rstrip('.')}."


def _again(error: LeydenError) -> Headers:
    """When to try again: whole seconds for everybody, milliseconds for those clients that read them."""
    if error.status not in (429, 503):
        return []
    after_s = error.retry_after_s if isinstance(error, RateLimited) else 1.0
    return [
        (b"retry-after", str(max(1, math.ceil(after_s))).encode()),
        (b"retry-after-ms", str(max(1, math.ceil(after_s * 1000))).encode()),
    ]
