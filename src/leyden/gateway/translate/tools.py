"""Tool definitions, the choice among them, and calls of them, both ways."""

import json
import re
from typing import Any

from leyden.gateway.translate.fields import given, objects, plain_json, refusal, text
from leyden.ingest.shapes import is_object, object_or_empty

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
_ODD_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def chat_tools(body: dict[str, Any]) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls` of a chat request from those of a Messages request.

    Raises BadInput for a tool that Anthropic runs itself or that has no schema in the request.
    """
    tools = [_chat_tool(tool, where) for where, tool in objects(body.get("tools"), "tools")]
    if not tools:
        return {}
    asked = object_or_empty(body.get("tool_choice"))
    return given(
        {
            "tools": tools,
            "tool_choice": _chat_choice(asked),
            "parallel_tool_calls": False if asked.get("disable_parallel_tool_use") else None,
        }
    )


def _chat_tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise refusal(
            f"{where}.type",
            f"the tool {tool['type']!r} exists at Anthropic only",
            "Leave it out, or define a tool of your own with an `input_schema`.",
        )
    function = {
        "name": text(tool.get("name"), f"{where}.name"),
        "description": tool.get("description"),
        "parameters": object_or_empty(tool.get("input_schema")) or _NO_ARGUMENTS,
        "strict": tool.get("strict"),
    }
    return {"type": "function", "function": given(function)}


def _chat_choice(asked: dict[str, Any]) -> Any:
    match asked.get("type"):
        case None:
            return None
        case "any":
            return "required"
        case "auto" | "none" as same:
            return same
        case "tool":
            name = text(asked.get("name"), "tool_choice.name")
            return {"type": "function", "function": {"name": name}}
        case kind:
            raise refusal("tool_choice.type", f"{kind!r} cannot be carried to chat completions")


def messages_tools(body: dict[str, Any]) -> dict[str, Any]:
    """`tools` and `tool_choice` of a Messages request from a chat request; `allowed_tools` leaves the other tools out."""
    tools = [_messages_tool(tool, where) for where, tool in objects(body.get("tools"), "tools")]
    if not tools:
        return {}
    choice = body.get("tool_choice")
    if is_object(choice) and choice.get("type") == "allowed_tools":
        allowed = object_or_empty(choice.get("allowed_tools"))
        names = _allowed_names(allowed)
        tools, choice = [tool for tool in tools if tool["name"] in names], allowed.get("mode")
    made = _messages_choice(choice)
    if body.get("parallel_tool_calls") is False and made != {"type": "none"}:
        made = {**(made or {"type": "auto"}), "disable_parallel_tool_use": True}
    return given({"tools": tools, "tool_choice": made})


def _messages_tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise refusal(
            f"{where}.type", f"a {tool.get('type')!r} tool cannot be carried to Anthropic's Messages"
        )
    function = object_or_empty(tool.get("function"))
    return given(
        {
            "name": text(function.get("name"), f"{where}.function.name"),
            "description": function.get("description"),
            # Anthropic wants to read that arguments are an object, which goes without saying in chat.
            "input_schema": {**_NO_ARGUMENTS, **object_or_empty(function.get("parameters"))},
            "strict": function.get("strict"),
        }
    )


def _messages_choice(choice: Any) -> dict[str, Any] | None:
    match choice:
        case None:
            return None
        case "required":
            return {"type": "any"}
        case "auto" | "none":
            return {"type": choice}
        case {"type": "function"}:
            name = object_or_empty(choice.get("function")).get("name")
            return {"type": "tool", "name": text(name, "tool_choice.function.name")}
        case _:
            raise refusal("tool_choice", f"{plain_json(choice)} cannot be carried to Anthropic's Messages")


def _allowed_names(allowed: dict[str, Any]) -> set[str]:
    named = (tool.get("function", tool) for _, tool in objects(allowed.get("tools"), "tool_choice.tools"))
    return {str(object_or_empty(function).get("name")) for function in named}


def chat_call(block: dict[str, Any], where: str) -> dict[str, Any]:
    """A `tool_use` block as an entry of `tool_calls`, under the same id."""
    function = {
        "name": text(block.get("name"), f"{where}.name"),
        "arguments": plain_json(object_or_empty(block.get("input"))),
    }
    return {"id": text(block.get("id"), f"{where}.id"), "type": "function", "function": function}


def tool_use(call: dict[str, Any], where: str) -> dict[str, Any]:
    """An entry of `tool_calls` in a request as a `tool_use` block. Raises BadInput when its arguments are no JSON object."""
    function = object_or_empty(call.get("function"))
    if call.get("type", "function") != "function":
        raise refusal(f"{where}.type", f"a {call['type']!r} call cannot be carried to Anthropic's Messages")
    arguments = read_arguments(text(function.get("arguments") or "", f"{where}.function.arguments"))
    if arguments is None:
        raise refusal(f"{where}.function.arguments", "Anthropic takes a JSON object here")
    return {
        "type": "tool_use",
        "id": allowed_id(text(call.get("id"), f"{where}.id")),
        "name": text(function.get("name"), f"{where}.function.name"),
        "input": arguments,
    }


def read_arguments(arguments: str) -> dict[str, Any] | None:
    """What a model wrote as arguments, {} for nothing at all; None when it is no JSON object."""
    if not arguments.strip():
        return {}
    try:
        read = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return read if is_object(read) else None


def allowed_id(call_id: str) -> str:
    """The id with what Anthropic refuses in one (Kimi writes `functions.search:0`) made `_`; the same id always gives the same."""
    return _ODD_IN_ID.sub("_", call_id)
