"""What OpenAI's and Anthropic's APIs call an error of each HTTP status."""

_OPENAI = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
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
_STATUS = {kind: status for status, kind in reversed(_ANTHROPIC.items())}


def openai_type(status: int) -> str:
    """OpenAI's `error.type`."""
    return _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")


def anthropic_type(status: int) -> str:
    """Anthropic's `error.type`."""
    return _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")


def status_of_type(kind: str) -> int:
    """The HTTP status of a type of Anthropic's, or of one of OpenAI's by the same name; 500 for others."""
    return _STATUS.get(kind, 500)
