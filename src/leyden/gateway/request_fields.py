"""What requests of all protocols say beside their messages: parameters, tools and session. Pure, and raises on nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from leyden.gateway.decoding import read_json
from leyden.gateway.parts import lean, text_of
from leyden.gateway.reading import Asked
from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> Any:
    texts = [entry for entry in (value if is_list(value) else [value]) if isinstance(entry, str)]
    return texts or None


def _choice(value: Any) -> Any:
    return lean(value) if is_object(value) or text_of(value) else None


_FIELDS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("temperature", "temperature", _number),
    ("top_p", "top_p", _number),
    ("top_k", "top_k", _number),
    ("min_p", "min_p", _number),
    ("max_tokens", "max_tokens", _number),
    ("max_completion_tokens", "max_tokens", _number),
    ("max_output_tokens", "max_tokens", _number),
    ("seed", "seed", _number),
    ("n", "choice.count", _number),
    ("best_of", "best_of", _number),
    ("frequency_penalty", "frequency_penalty", _number),
    ("presence_penalty", "presence_penalty", _number),
    ("repetition_penalty", "repetition_penalty", _number),
    ("dimensions", "dimensions", _number),
    ("top_logprobs", "top_logprobs", _number),
    ("logprobs", "logprobs", lambda value: value if isinstance(value, bool | int) else None),
    ("stop", "stop_sequences", _texts),
    ("stop_sequences", "stop_sequences", _texts),
    ("encoding_format", "encoding_formats", _texts),
    ("stream", "stream", _flag),
    ("parallel_tool_calls", "parallel_tool_calls", _flag),
    ("service_tier", "service_tier", text_of),
    ("reasoning_effort", "reasoning.level", text_of),
    ("previous_response_id", "previous_response.id", text_of),
    ("tool_choice", "tool_choice", _choice),
    ("function_call", "tool_choice", _choice),
    ("response_format", "response_format", _choice),
    ("thinking", "thinking", _choice),
)


def asked_of(
    body: Mapping[str, Any],
    *,
    messages: list[dict[str, Any]],
    system: list[dict[str, Any]],
    prompt: list[dict[str, Any]],
) -> Asked:
    """What a request asks for, its conversation as the protocol reads it and the rest as all protocols have it."""
    return Asked(messages, system, tools_of(body), prompt, parameters_of(body), session_of(body))


def parameters_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """`gen_ai.request.*` by what comes after that prefix. Where two fields mean the same, the newer name wins.

    Beside the convention's own: tool_choice, response_format and thinking as the request has them, and a few sampling
    parameters. reasoning.level also comes from Responses' reasoning.effort and Anthropic's output_config.effort.
    """
    found: dict[str, Any] = {}
    for field, name, read in _FIELDS:
        if field in body and (value := read(body[field])) is not None:
            found[name] = value
    for place in ("reasoning", "output_config"):
        if effort := text_of(object_or_empty(body.get(place)).get("effort")):
            found.setdefault("reasoning.level", effort)
    shape = object_or_empty(body.get("text")).get("format") or object_or_empty(body.get("output_config")).get(
        "format"
    )
    if is_object(shape):
        found.setdefault("response_format", lean(shape))
    return found


def tools_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tool definitions, all in one form: type, name, description, parameters; format for one of type custom. A provider's own keep
    their fields."""
    tools = [_tool(tool) for tool in list_or_empty(body.get("tools")) if is_object(tool)]
    legacy = [_function(tool) for tool in list_or_empty(body.get("functions")) if is_object(tool)]
    return tools + legacy


def session_of(body: Mapping[str, Any]) -> str | None:
    """The conversation that a request names.

    First of: metadata.session_id or conversation_id, Responses' conversation, metadata.user_id, user, previous_response_id.
    Claude Code writes its session into metadata.user_id, at the end of a text or as JSON; then it is that session.
    """
    metadata = object_or_empty(body.get("metadata"))
    conversation = body.get("conversation")
    named = conversation.get("id") if is_object(conversation) else conversation
    candidates = (
        metadata.get("session_id"),
        metadata.get("conversation_id"),
        named,
        _session_in(metadata.get("user_id")),
        body.get("user"),
        body.get("previous_response_id"),
    )
    return next((text for candidate in candidates if (text := text_of(candidate))), None)


def _session_in(user_id: Any) -> str | None:
    text = text_of(user_id)
    if text is None:
        return None
    if text.startswith("{"):
        inner = object_or_empty(read_json(text.encode("utf-8", "replace")))
        return text_of(inner.get("session_id")) or text
    _, marker, session = text.rpartition("_session_")
    return session if marker and session else text


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    kind, function, custom = tool.get("type"), tool.get("function"), tool.get("custom")
    if is_object(function):
        return _function(function)
    if kind == "custom" and "input_schema" not in tool:  # which is Anthropic's word for a function
        given = custom if is_object(custom) else tool
        shape = {"format": lean(given["format"])} if is_object(given.get("format")) else {}
        return {**_function(given), "type": "custom", **shape}
    return _function(tool) if kind in (None, "function", "custom") or "input_schema" in tool else lean(tool)


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters", function.get("input_schema"))
    fields = {
        "type": "function",
        "name": text_of(function.get("name")) or "",
        "description": text_of(function.get("description")),
        "parameters": schema if is_object(schema) else None,
    }
    return {key: value for key, value in fields.items() if value is not None}
