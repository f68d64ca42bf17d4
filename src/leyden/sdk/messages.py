"""Model calls in OpenTelemetry's GenAI form: what OpenAI and Anthropic clients take and return, as span attributes.

Duck-typed: SDK objects, pydantic models and plain dicts read the same, and neither package is imported. Pure.
`input_tokens` includes cached tokens, as the convention asks; Anthropic reports them apart, so they are added.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from leyden.sdk import semconv
from leyden.sdk.capture import MAX_CHARS, bounded_json, bounded_text, clip, encode

_MESSAGE_KEYS = ("messages", "input", "prompt", "question", "query", "text")


def request_attributes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a model call from the arguments it was called with."""
    found: dict[str, Any] = {}
    model = arguments.get("model")
    if isinstance(model, str):
        found[semconv.REQUEST_MODEL] = model
    system = arguments.get("system") or arguments.get("instructions")
    if system is not None:
        found[semconv.SYSTEM] = bounded_json(_parts(system))
    content = next((arguments[key] for key in _MESSAGE_KEYS if key in arguments), None)
    if content is None and arguments:
        content = dict(arguments)
    if content is not None:
        found[semconv.INPUT_MESSAGES] = input_messages(content)
    return found


def input_messages(content: Any) -> str:
    """What a model or agent was given, as `gen_ai.input.messages`: a message list, or one user message."""
    items = cast(list[Any], content) if isinstance(content, (list, tuple)) else None
    if items and all(_get(item, "role") or _get(item, "type") for item in items):
        return _joined([_message(item) for item in items])
    return bounded_json([{"role": "user", "parts": [_text(content)]}])


def output_messages(content: Any) -> str:
    """What an agent answered, as `gen_ai.output.messages`: one assistant message."""
    return bounded_json([{"role": "assistant", "parts": [_text(content)]}])


def response_attributes(response: Any) -> dict[str, Any]:
    """Attributes of a model call from its response: OpenAI chat or Responses, Anthropic messages, a dict of either, or text."""
    found: dict[str, Any] = {}
    provider = type(response).__module__.partition(".")[0]
    if provider in ("openai", "anthropic"):
        found[semconv.PROVIDER] = provider
    model, response_id = _get(response, "model"), _get(response, "id")
    if isinstance(model, str):
        found[semconv.RESPONSE_MODEL] = model
    if isinstance(response_id, str):
        found[semconv.RESPONSE_ID] = response_id
    messages = _answers(response)
    found[semconv.OUTPUT_MESSAGES] = _joined(messages) if messages else output_messages(response)
    reasons = [str(m["finish_reason"]) for m in messages if m.get("finish_reason")]
    if reasons:
        found[semconv.FINISH_REASONS] = tuple(reasons)
    found.update(usage_attributes(_get(response, "usage")))
    return found


def usage_attributes(usage: Any) -> dict[str, int]:
    """Token counts from an OpenAI or Anthropic usage object or dict; what it does not say is left out."""
    if usage is None:
        return {}
    given = _first(usage, "input_tokens", "prompt_tokens")
    details_in = _get(usage, "prompt_tokens_details") or _get(usage, "input_tokens_details")
    details_out = _get(usage, "completion_tokens_details") or _get(usage, "output_tokens_details")
    read_apart, written = (
        _first(usage, "cache_read_input_tokens"),
        _first(usage, "cache_creation_input_tokens"),
    )
    if given is not None and (read_apart is not None or written is not None):
        given += (read_apart or 0) + (written or 0)
    counts = {
        semconv.INPUT_TOKENS: given,
        semconv.OUTPUT_TOKENS: _first(usage, "output_tokens", "completion_tokens"),
        semconv.CACHE_READ_TOKENS: read_apart
        if read_apart is not None
        else _first(details_in, "cached_tokens"),
        semconv.CACHE_WRITE_TOKENS: written,
        semconv.REASONING_TOKENS: _first(details_out, "reasoning_tokens", "thinking_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None}


class StreamedResponse:
    """Chunks of a streamed model call, gathered into one response: OpenAI chunks, Anthropic events, or text."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._text: list[str] = []
        self._chars = 0
        self._finish: str | None = None

    def add(self, chunk: Any) -> None:
        """Take one chunk. Text beyond what a span holds is counted, not kept."""
        if isinstance(chunk, str):
            self._say(chunk)
            return
        opened = _get(chunk, "message") if _get(chunk, "type") == "message_start" else None
        for source in (chunk, opened, _get(chunk, "response")):
            for name in ("id", "model"):
                value = _get(source, name)
                if isinstance(value, str):
                    self._fields[name] = value
            self._usage.update({k: v for k, v in _plain(_get(source, "usage")).items() if v is not None})
        for choice in _items(_get(chunk, "choices")):
            self._say(_get(_get(choice, "delta"), "content"))
            self._finish = _get(choice, "finish_reason") or self._finish
        delta = _get(chunk, "delta")
        self._say(delta if isinstance(delta, str) else _get(delta, "text"))
        self._finish = _get(delta, "stop_reason") or self._finish

    def response(self) -> dict[str, Any]:
        """The whole call in Anthropic's shape."""
        return {
            **self._fields,
            "content": [{"type": "text", "text": "".join(self._text)}],
            "stop_reason": self._finish,
            "usage": self._usage or None,
        }

    def _say(self, text: Any) -> None:
        if isinstance(text, str) and self._chars < 100_000:
            self._text.append(text)
            self._chars += len(text)


def _joined(messages: list[dict[str, Any]]) -> str:
    """Messages as JSON, cut like any value. The texts inside are cut already, so most need no second walk."""
    texts: list[str] = []
    room = MAX_CHARS
    try:
        for message in messages:
            texts.append(encode(message))
            room -= len(texts[-1])
            if room < 0:
                return bounded_json(messages)
    except Exception:  # an id or a name that is no text
        return bounded_json(messages)
    return f"[{','.join(texts)}]"


def _answers(response: Any) -> list[dict[str, Any]]:
    choices = _items(_get(response, "choices"))
    if choices:
        return [_message(_get(c, "message") or c, finish=_get(c, "finish_reason")) for c in choices]
    output = _items(_get(response, "output"))
    if output:
        parts = [part for item in output for part in _response_parts(item)]
        return [_drop_none({"role": "assistant", "parts": parts, "finish_reason": _get(response, "status")})]
    content = _get(response, "content")
    if content is not None:
        return [
            _message(
                {"role": _get(response, "role") or "assistant", "content": content},
                finish=_get(response, "stop_reason"),
            )
        ]
    return []


def _message(message: Any, finish: Any = None) -> dict[str, Any]:
    role = _get(message, "role")
    if role is None:
        return {"role": "user", "parts": _response_parts(message)}
    call_id = _get(message, "tool_call_id")
    content = _get(message, "content")
    if call_id is not None:
        parts: list[Any] = [{"type": "tool_call_response", "id": call_id, "response": clip(content)}]
    else:
        parts = _parts(content) + [_tool_call(call) for call in _items(_get(message, "tool_calls"))]
    return _drop_none({"role": role, "parts": parts, "finish_reason": finish})


def _parts(content: Any) -> list[Any]:
    if content is None:
        return []
    if isinstance(content, (list, tuple)):
        return [_part(block) for block in cast(list[Any], content)]
    return [_text(content)]


def _part(block: Any) -> Any:
    kind = _get(block, "type")
    if kind in ("text", "input_text", "output_text"):
        return _text(_get(block, "text"))
    if kind == "thinking":
        return {"type": "reasoning", "content": _get(block, "thinking")}
    if kind == "tool_use":
        return {
            "type": "tool_call",
            "id": _get(block, "id"),
            "name": _get(block, "name"),
            "arguments": clip(_get(block, "input")),
        }
    if kind == "tool_result":
        return {
            "type": "tool_call_response",
            "id": _get(block, "tool_use_id"),
            "response": clip(_get(block, "content")),
        }
    return clip(block)


def _response_parts(item: Any) -> list[Any]:
    """Parts of one item of OpenAI's Responses API."""
    kind = _get(item, "type")
    if kind == "message":
        return _parts(_get(item, "content"))
    if kind == "function_call":
        return [_tool_call({"id": _get(item, "call_id"), "function": item})]
    if kind == "function_call_output":
        return [
            {
                "type": "tool_call_response",
                "id": _get(item, "call_id"),
                "response": clip(_get(item, "output")),
            }
        ]
    if kind == "reasoning":
        return [
            {"type": "reasoning", "content": _get(part, "text")} for part in _items(_get(item, "summary"))
        ]
    return [clip(item)]


def _tool_call(call: Any) -> dict[str, Any]:
    function = _get(call, "function") or call
    return {
        "type": "tool_call",
        "id": _get(call, "id"),
        "name": _get(function, "name"),
        "arguments": clip(_get(function, "arguments")),
    }


def _text(content: Any) -> dict[str, Any]:
    return {"type": "text", "content": bounded_text(content)}


def _get(value: Any, name: str) -> Any:
    """A field of a dict or an object; None when it is absent or reading it raises."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is dict:
        return value.get(name)
    if value is None or isinstance(value, (str, int, float)):
        return None
    try:
        return (
            cast(Mapping[str, Any], value).get(name)
            if isinstance(value, Mapping)
            else getattr(value, name, None)
        )
    except Exception:
        return None


def _first(value: Any, *names: str) -> int | None:
    for name in names:
        count = _get(value, name)
        if type(count) is int:
            return count
        if isinstance(count, (int, float)) and not isinstance(count, bool):
            return int(count)
    return None


def _items(value: Any) -> list[Any]:
    return list(cast(Iterable[Any], value)) if isinstance(value, (list, tuple)) else []


def _plain(value: Any) -> dict[str, Any]:
    names = (
        "input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "cache_read_input_tokens",
        "cache_creation_input_tokens", "prompt_tokens_details", "completion_tokens_details", "input_tokens_details",
        "output_tokens_details",
    )  # fmt: skip
    return {name: _get(value, name) for name in names} if value is not None else {}


def _drop_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
