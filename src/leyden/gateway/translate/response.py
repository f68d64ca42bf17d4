"""What OpenAI's Responses answer with: the response itself and its usage."""

from typing import Any

from leyden.gateway.translate.outcome import messages_usage
from leyden.ingest.shapes import object_or_empty

_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "reasoning",
    "temperature",
    "text",
    "top_p",
    "user",
)
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def stem(chat_id: Any) -> str:
    """What the ids of a response and of its items are made of."""
    return str(chat_id or "").removeprefix("chatcmpl-")


def response(asked: dict[str, Any], *, chat_id: Any, model: Any, created: int) -> dict[str, Any]:
    """A response that has just begun. asked: the client's request, of which a response repeats the settings."""
    return {
        "id": "resp_" + stem(chat_id),
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model or asked.get("model"),
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "usage": None,
        **{key: asked[key] for key in _ECHOED if key in asked},
    }


def ended(begun: dict[str, Any], *, output: list[dict[str, Any]], finish: Any, usage: Any) -> dict[str, Any]:
    """The same response with all its output: completed, or incomplete with the reason."""
    reason = _INCOMPLETE.get(str(finish))
    return {
        **begun,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": None if usage is None else response_usage(usage),
    }


def response_usage(usage: Any) -> dict[str, Any]:
    """Usage of Responses from that of chat completions: the same counts, of which the cached ones are a part of the input."""
    counts = messages_usage(usage)
    read, written = counts["cache_read_input_tokens"], counts["cache_creation_input_tokens"]
    sent, output = counts["input_tokens"] + read + written, counts["output_tokens"]
    reasoning = object_or_empty(counts.get("output_tokens_details")).get("thinking_tokens", 0)
    return {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": sent + output,
    }
