"""How an answer ended, what it used and what it is called, both ways.

Anthropic counts what came from or went to a cache beside `input_tokens`; OpenAI counts it inside `prompt_tokens`.
"""

from typing import Any

from leyden.gateway.translate.fields import given
from leyden.ingest.shapes import object_or_empty

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Chat's word for each of Anthropic's."""


def stop_reason(choice: dict[str, Any], *, has_calls: bool, refused: bool) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence` of a Messages answer from a choice that has its `finish_reason`.

    An answer that calls tools stops for them: Ollama, and OpenAI when the tool was forced, say `stop` there. The sequence is known
    where the upstream tells it (vLLM's `stop_reason`).
    """
    reason = _STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn")
    if reason in ("end_turn", "tool_use") and has_calls:
        return "tool_use", None
    if refused:
        return "refusal", None
    sequence = choice.get("stop_reason")
    if reason == "end_turn" and isinstance(sequence, str):
        return "stop_sequence", sequence
    return ("end_turn" if reason == "tool_use" else reason), None


def finish_reason(reason: Any) -> str:
    """`finish_reason` of a chat answer from a `stop_reason`."""
    return FINISH_REASONS.get(str(reason), "stop")


def messages_usage(usage: Any) -> dict[str, Any]:
    """Anthropic's usage from OpenAI's.

    An upstream that reports more cached than sent counts the cache apart already: then nothing is taken off.
    """
    counts = object_or_empty(usage)
    details = object_or_empty(counts.get("prompt_tokens_details"))
    sent, read, written = (
        _count(counts.get("prompt_tokens")),
        _count(details.get("cached_tokens")),
        _count(details.get("cache_write_tokens")),
    )
    made: dict[str, Any] = {
        "input_tokens": sent - read - written if read + written <= sent else sent,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(counts.get("completion_tokens")),
    }
    reasoning = object_or_empty(counts.get("completion_tokens_details")).get("reasoning_tokens")
    if reasoning is not None:
        made["output_tokens_details"] = {"thinking_tokens": _count(reasoning)}
    return made


def chat_usage(usage: Any) -> dict[str, Any]:
    """OpenAI's usage from Anthropic's."""
    counts = object_or_empty(usage)
    read, written = (
        _count(counts.get("cache_read_input_tokens")),
        _count(counts.get("cache_creation_input_tokens")),
    )
    sent, output = _count(counts.get("input_tokens")) + read + written, _count(counts.get("output_tokens"))
    made: dict[str, Any] = {
        "prompt_tokens": sent,
        "completion_tokens": output,
        "total_tokens": sent + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }
    thinking = object_or_empty(counts.get("output_tokens_details")).get("thinking_tokens")
    if thinking is not None:
        made["completion_tokens_details"] = {"reasoning_tokens": _count(thinking)}
    return made


def merged_usage(earlier: dict[str, Any], later: Any) -> dict[str, Any]:
    """Counts of a Messages stream: the later ones are totals too and hold, save where they say nothing."""
    return {**earlier, **given(object_or_empty(later))}


def _count(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def message_id(chat_id: Any) -> str:
    """The id of a Messages answer: the upstream's behind Anthropic's prefix."""
    return "msg_" + str(chat_id or "").removeprefix("chatcmpl-")


def completion_id(message: Any) -> str:
    """The id of a chat answer: the upstream's behind OpenAI's prefix."""
    return "chatcmpl-" + str(message or "").removeprefix("msg_")


def call_id(given_id: Any, answer_id: str, n: int) -> str:
    """The id of a tool call: the upstream's, or one made of the answer's where it gave none."""
    return (
        given_id if isinstance(given_id, str) and given_id else f"call_{answer_id.removeprefix('msg_')}_{n}"
    )
