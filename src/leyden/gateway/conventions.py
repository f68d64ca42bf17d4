"""What was asked and said, as span attributes: OpenTelemetry's GenAI conventions, and the names that Agent Lightning's adapters read. Pure.

Both are written because both are read: `gen_ai.input.messages` by everything that follows the conventions, `gen_ai.prompt.N.*`,
`gen_ai.completion.N.*` and the token ids by the adapters that make training rows. Repetition costs little once a rollout is packed.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from leyden.gateway import surfaces
from leyden.gateway.call import Call, Door
from leyden.gateway.fitting import Fitting, first_tools, newest, shortened
from leyden.gateway.reading import Asked, Said
from leyden.ingest.shapes import is_list, list_or_empty, object_or_empty
from leyden.ingest.usage import Usage
from leyden.sdk import semconv

OPERATIONS: dict[Door, str] = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "embeddings": "embeddings",
    "messages": "chat",
}
"""`gen_ai.operation.name` by door; the others are no model calls, but for some of "other"."""

_FLAT_BYTES = 128  # that the names of a message's attributes take in the flat form

_PARAMETERS = frozenset(
    [
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "seed",
        "stop_sequences",
        "frequency_penalty",
        "presence_penalty",
        "choice.count",
        "encoding_formats",
    ]
)


def operation_of(call: Call) -> str | None:
    """`gen_ai.operation.name` of a call; None for one in which no model does anything, which leaves no span."""
    return surfaces.operation_of(call) if call.door == "other" else OPERATIONS.get(call.door)


def of_request(asked: Asked) -> dict[str, Any]:
    """Parameters of a request, without its content."""
    return {
        f"gen_ai.request.{name}": value
        for name, value in asked.parameters.items()
        if name in _PARAMETERS and _is_plain(value)
    }


def of_content_in(asked: Asked, fitted: Fitting, *, room: int) -> dict[str, Any]:
    """What was sent. fitted: what it was read from. room: bytes that the system's instructions, the messages in each of their two forms and
    the tools may take; the newest messages are kept, and numbered from 0. What was left out is counted."""
    found: dict[str, Any] = {}
    messages, tools = newest(asked.messages, room), first_tools(asked.tools, room)
    if asked.system:
        found[semconv.SYSTEM] = _text(shortened(asked.system, room))
    if asked.messages:
        found[semconv.INPUT_MESSAGES] = _text(messages)
    if tools:
        found["gen_ai.tool.definitions"] = _text(tools)
        for n, tool in enumerate(tools):
            for name in ("name", "description", "parameters"):
                if (value := tool.get(name)) is not None:
                    found[f"gen_ai.request.functions.{n}.{name}"] = _scalar(value)
    for n, message in enumerate(newest(asked.prompt, room, each=_FLAT_BYTES)):
        found.update(_message(f"gen_ai.prompt.{n}", message))
    left_out = {
        "messages": fitted.messages + len(asked.messages) - len(messages),
        "tools": fitted.tools + len(asked.tools) - len(tools),
        "fields": fitted.fields,
    }
    return found | {f"leyden.gateway.left_out.{name}": count for name, count in left_out.items() if count}


def of_response(said: Said) -> dict[str, Any]:
    """Ids, reasons and counts of an answer, without its content."""
    found: dict[str, Any] = {}
    if said.id:
        found[semconv.RESPONSE_ID] = said.id
    if said.model:
        found[semconv.RESPONSE_MODEL] = said.model
    if said.finish_reasons:
        found[semconv.FINISH_REASONS] = list(said.finish_reasons)
    if said.service_tier:
        found["openai.response.service_tier"] = said.service_tier
    if said.usage is not None:
        found.update(of_usage(said.usage))
    return found


def of_usage(usage: Usage) -> dict[str, int]:
    """Token counts as the conventions count them, which is with overlap, and each of our buckets that is not empty."""
    parts = {
        semconv.CACHE_READ_TOKENS: usage.cache_read,
        semconv.CACHE_WRITE_TOKENS: usage.cache_write + usage.cache_write_1h,
        semconv.REASONING_TOKENS: usage.reasoning,
    }
    found = {semconv.INPUT_TOKENS: usage.all_input, semconv.OUTPUT_TOKENS: usage.all_output}
    found |= {name: count for name, count in parts.items() if count}
    return found | {f"leyden.usage.{name}": count for name, count in usage._asdict().items() if count}


def of_content_out(said: Said, *, room: int) -> dict[str, Any]:
    """What was answered, with the tokens and logprobs that the upstream gave. room: bytes that each may take: texts are cut, and lists of
    tokens, which would teach something false, left out."""
    found: dict[str, Any] = {}
    if said.messages:
        found[semconv.OUTPUT_MESSAGES] = _text(shortened(said.messages, room))
    for n, message in enumerate(shortened(said.completion, room)):
        found.update(_message(f"gen_ai.completion.{n}", message))
    tokens = {"prompt_token_ids": said.prompt_token_ids, "response_token_ids": said.response_token_ids}
    found |= {n: ids for n, ids in tokens.items() if ids is not None and len(orjson.dumps(ids)) <= room}
    if said.logprobs is not None and len(logprobs := _text(said.logprobs)) <= room:
        found["logprobs.content"] = logprobs
    return found


def _message(prefix: str, message: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A chat message in the flat form: one attribute for each field."""
    for name in ("role", "content", "finish_reason", "tool_call_id", "name"):
        if (value := message.get(name)) is not None:
            yield f"{prefix}.{name}", _scalar(value)
    for n, call in enumerate(list_or_empty(message.get("tool_calls"))):
        parts = object_or_empty(call)
        function = object_or_empty(parts.get("function"))
        flat = {"id": parts.get("id"), "type": parts.get("type")}
        flat |= {f"function.{name}": value for name, value in function.items()}
        for name, value in flat.items():
            if value is not None:
                yield f"{prefix}.tool_calls.{n}.{name}", _scalar(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) or (
        is_list(value) and all(isinstance(item, str) for item in value)
    )


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else _text(value)


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # it nests deeper than orjson writes
        return "null"
