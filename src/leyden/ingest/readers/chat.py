"""Turn one conversation in OpenAI's chat format into the spans of a run.

Owns: the shape such a run gets, shared by `tau-bench` and `messages`. One agent span is the root; under it one model call per
assistant message and one tool call per tool result, in the order of the conversation. A model call holds only what is new
since the assistant last spoke: the history is in the calls before it, and repeating it would square the size of a run.
The conversation carries no times, so the spans have none. Whether a result text is an error is for the ingest rules to say.
"""

import json
from typing import Any, NamedTuple

from leyden.ingest.readers.files import Malformed, decode, is_list, is_map
from leyden.ingest.readers.spans import (
    RunIds,
    call_part,
    content_parts,
    json_text,
    plain_text,
    response_part,
    span,
)

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_ROOT = "root"


class _Call(NamedTuple):
    id: str | None
    name: str
    arguments: Any


def conversation_spans(
    ids: RunIds, messages: object, *, agent: str, model: str | None = None, tools: object = None
) -> list[dict[str, object]]:
    """The spans of one conversation, root first.

    A tool result is joined with the latest call of its `tool_call_id`; one that answers no call keeps its own name.
    Raises Malformed, naming the message, for anything that is not the chat format.
    """
    checked = _checked(messages)
    root = _root(checked, agent=agent, tools=tools)
    spans = [span(ids, _ROOT, sequence_id=1, name=f"invoke_agent {agent}", parent=None, attributes=root)]
    calls: dict[str, _Call] = {}
    new: list[dict[str, Any]] = []
    for index, message in enumerate(checked):
        if message["role"] == "assistant":
            made = _calls(message, index)
            name, attributes = _model_call(message, made, new, model=model)
            calls |= {call.id or call.name: call for call in made}
            new = []
        elif message["role"] in ("tool", "function"):
            name, attributes = _tool_call(message, calls)
            new.append(_result_message(message))
        else:
            new.append({"role": message["role"], "parts": content_parts(message.get("content"))})
            continue
        attributes["gen_ai.agent.name"] = agent
        spans.append(
            span(
                ids,
                f"message {index}",
                sequence_id=len(spans) + 1,
                name=name,
                parent=_ROOT,
                attributes=attributes,
            )
        )
    return spans


def first_user_text(messages: object) -> str | None:
    """What the first user message says; None when no user speaks."""
    said = [m for m in messages if is_map(m) and m.get("role") == "user"] if is_list(messages) else []
    return plain_text(said[0].get("content")) if said else None


def _checked(messages: object) -> list[dict[str, Any]]:
    if not is_list(messages) or not messages:
        raise Malformed("has no messages")
    for index, message in enumerate(messages):
        if not is_map(message) or _text(message.get("role")) not in _ROLES:
            raise Malformed(f"has no chat message at index {index}: expected an object with a known role")
        try:
            content_parts(message.get("content"))
        except Malformed as error:
            raise Malformed(f"{error} (index {index})") from error
    return messages


def _root(messages: list[dict[str, Any]], *, agent: str, tools: object) -> dict[str, Any]:
    asked = first_user_text(messages)
    answers = [plain_text(m.get("content")) for m in messages if m["role"] == "assistant"]
    last = next((text for text in reversed(answers) if text), None)
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent,
        "gen_ai.tool.definitions": json_text(tools),
        "gen_ai.input.messages": asked and json_text([{"role": "user", "parts": content_parts(asked)}]),
        "gen_ai.output.messages": last and json_text([{"role": "assistant", "parts": content_parts(last)}]),
    }


def _model_call(
    message: dict[str, Any], made: list[_Call], new: list[dict[str, Any]], *, model: str | None
) -> tuple[str, dict[str, Any]]:
    parts = content_parts(message.get("content")) + [call_part(**call._asdict()) for call in made]
    used = message.get("model") if isinstance(message.get("model"), str) else model
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": used,
        "gen_ai.input.messages": json_text(new) if new else None,
        "gen_ai.output.messages": json_text([{"role": "assistant", "parts": parts}]),
        **_usage(message.get("usage")),
    }
    return f"chat {used}" if used else "chat", attributes


def _usage(usage: object) -> dict[str, Any]:
    """Token counts of one message, in OpenAI's names: prompt tokens there include the cached ones, as here."""
    if not is_map(usage):
        return {}
    details = usage.get("prompt_tokens_details")
    return {
        "gen_ai.usage.input_tokens": _count(usage.get("prompt_tokens")),
        "gen_ai.usage.output_tokens": _count(usage.get("completion_tokens")),
        "gen_ai.usage.cache_read.input_tokens": _count(details.get("cached_tokens"))
        if is_map(details)
        else None,
    }


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _tool_call(message: dict[str, Any], calls: dict[str, _Call]) -> tuple[str, dict[str, Any]]:
    own_name = _text(message.get("name"))
    call = calls.get(_text(message.get("tool_call_id")) or own_name or "")
    name = call.name if call else own_name or "unknown"
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": _text(message.get("tool_call_id")),
        "gen_ai.tool.call.arguments": json_text(call.arguments) if call else None,
        "gen_ai.tool.call.result": _result(message.get("content")),
    }
    return f"execute_tool {name}", attributes


def _result_message(message: dict[str, Any]) -> dict[str, Any]:
    part = response_part(id=_text(message.get("tool_call_id")), response=_result(message.get("content")))
    return {"role": "tool", "parts": [part]}


def _result(content: object) -> str:
    """The result as the model saw it: its text, or the JSON of its parts when some are not text."""
    parts = content_parts(content)
    only_text = all(part.get("type") == "text" for part in parts)
    return plain_text(content) if only_text else json.dumps(parts, ensure_ascii=False)


def _calls(message: dict[str, Any], index: int) -> list[_Call]:
    made = message.get("tool_calls")
    if made is not None and not is_list(made):
        raise Malformed(f"has tool_calls that are no list (index {index})")
    calls = [_call(call, index) for call in made or ()]
    legacy = message.get("function_call")
    return [*calls, _call({"function": legacy}, index)] if legacy else calls


def _call(call: object, index: int) -> _Call:
    function = call.get("function") if is_map(call) else None
    if not is_map(call) or not is_map(function) or not _text(function.get("name")):
        raise Malformed(f"has a tool call without a function name (index {index})")
    return _Call(_text(call.get("id")), str(function["name"]), _arguments(function.get("arguments")))


def _arguments(arguments: object) -> object:
    """Arguments arrive as JSON in a string; text that does not parse, which models do write, stays as it is."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return decode(arguments.encode())
    except Malformed:
        return arguments


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
