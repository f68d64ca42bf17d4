"""A client of OpenAI's Responses on an upstream that has only chat completions.

Owns: the input items and the parameters of a request, and a whole answer. Promises: instructions, roles, texts, images, function
calls with their ids and outputs in their order arrive; what needs a provider's memory or its own tools is refused by name. Refuses
to know: sockets and clocks.
"""

from typing import Any

from leyden.gateway.translate.contract import StreamTranslator
from leyden.gateway.translate.failure import chat_error
from leyden.gateway.translate.fields import given, objects, parts, refusal, text
from leyden.gateway.translate.items import Item, new_item
from leyden.gateway.translate.outcome import call_id
from leyden.gateway.translate.response import ended, response, stem
from leyden.gateway.translate.responses_stream import ResponsesStream
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty

_REFUSED = {
    "previous_response_id": "the upstream keeps no earlier responses; send the whole conversation as `input`",
    "conversation": "the upstream keeps no conversations; send the whole conversation as `input`",
    "prompt": "the upstream keeps no prompts; send `instructions`",
    "background": "the upstream answers at once only",
}


class ResponsesToChat:
    """One call of a Responses client answered by chat completions. now: unix seconds, which a response has to carry."""

    def __init__(self, *, now: int = 0) -> None:
        self._now = now
        self._asked: dict[str, Any] = {}

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The chat request."""
        self._asked = body
        return "/chat/completions", chat_request(body)

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """The response. An error of an OpenAI-compatible upstream is one already; it is only made whole."""
        if status >= 400 or body.get("error"):
            error = object_or_empty(chat_error(status, body)["error"])
            return {
                "error": {**error, **given(object_or_empty(body.get("error"))), "message": error["message"]}
            }
        begun = response(self._asked, chat_id=body.get("id"), model=body.get("model"), created=self._now)
        choice = object_or_empty(next(iter(list_or_empty(body.get("choices"))), None))
        output = _output(object_or_empty(choice.get("message")), stem(body.get("id")))
        return ended(begun, output=output, finish=choice.get("finish_reason"), usage=body.get("usage"))

    def stream(self) -> StreamTranslator:
        """Of the chat chunks into events of a response."""
        return ResponsesStream(self._asked, created=self._now)


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """A chat request from a Responses request. Raises BadInput for what chat completions cannot say."""
    for field, why in _REFUSED.items():
        if body.get(field):
            raise refusal(field, why)
    tools = [_tool(tool, where) for where, tool in objects(body.get("tools"), "tools")]
    is_stream = bool(body.get("stream"))
    return given(
        {
            "model": text(body.get("model"), "model"),
            "messages": conversation(body.get("instructions"), body.get("input")),
            "max_completion_tokens": body.get("max_output_tokens"),
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
            "reasoning_effort": object_or_empty(body.get("reasoning")).get("effort"),
            "user": body.get("safety_identifier") or body.get("user"),
            "response_format": _response_format(object_or_empty(body.get("text")).get("format")),
            "tools": tools or None,
            "tool_choice": _tool_choice(body.get("tool_choice")) if tools else None,
            "parallel_tool_calls": False if tools and body.get("parallel_tool_calls") is False else None,
            "stream": is_stream or None,
            "stream_options": {"include_usage": True} if is_stream else None,
        }
    )


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise refusal(f"{where}.type", f"the tool {tool.get('type')!r} exists at OpenAI only")
    function = {key: tool.get(key) for key in ("name", "description", "parameters", "strict")}
    return {
        "type": "function",
        "function": given({**function, "name": text(tool.get("name"), f"{where}.name")}),
    }


def _tool_choice(choice: Any) -> Any:
    if choice is None or choice in ("auto", "none", "required"):
        return choice
    if object_or_empty(choice).get("type") == "function":
        return {"type": "function", "function": {"name": text(choice.get("name"), "tool_choice.name")}}
    raise refusal("tool_choice", "only a function can be chosen in chat completions")


def _response_format(wanted: Any) -> dict[str, Any] | None:
    match object_or_empty(wanted).get("type"):
        case None | "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = {key: wanted.get(key) for key in ("name", "description", "schema", "strict")}
            return {"type": "json_schema", "json_schema": given(schema)}
        case kind:
            raise refusal("text.format", f"{kind!r} cannot be carried to chat completions")


def conversation(instructions: Any, items: Any) -> list[dict[str, Any]]:
    """All messages. Items of the assistant that follow one another (reasoning, text, calls) are one chat message; what is said to the
    system before anybody else speaks is one message in front."""
    turns: list[dict[str, Any]] = []
    if instructions is not None:
        turns.append({"role": "system", "content": text(instructions, "instructions")})
    if isinstance(items, str):
        return [*turns, {"role": "user", "content": items}]
    for where, item in objects(items, "input"):
        _take(turns, item, where)
    return turns


def _take(turns: list[dict[str, Any]], item: dict[str, Any], where: str) -> None:
    match item.get("type", "message"):
        case "message":
            _take_message(turns, item, where)
        case "function_call":
            function = {
                "name": text(item.get("name"), f"{where}.name"),
                "arguments": text(item.get("arguments"), f"{where}.arguments"),
            }
            call = {
                "id": text(item.get("call_id"), f"{where}.call_id"),
                "type": "function",
                "function": function,
            }
            _assistant(turns).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            answers = text(item.get("call_id"), f"{where}.call_id")
            content = _plain(_parts(item.get("output"), f"{where}.output"))
            turns.append({"role": "tool", "tool_call_id": answers, "content": content})
        case "reasoning":
            thought = "\n".join(
                text(part.get("text"), f"{at}.text")
                for at, part in parts(item.get("content"), f"{where}.content")
            )
            if thought:
                _assistant(turns)["reasoning_content"] = thought
        case kind:
            raise refusal(f"{where}.type", f"a {kind!r} item cannot be carried to chat completions")


def _take_message(turns: list[dict[str, Any]], item: dict[str, Any], where: str) -> None:
    made = _parts(item.get("content"), f"{where}.content")
    match item.get("role"):
        case "user":
            turns.append({"role": "user", "content": _plain(made)})
        case "assistant":
            turn = _assistant(turns)
            turn["content"] = (turn["content"] or "") + "".join(_texts(made, where))
        case "system" | "developer":
            if len(turns) == 1 and turns[0]["role"] == "system":
                turns[0]["content"] += "\n\n" + "\n\n".join(_texts(made, where))
            else:
                turns.append({"role": "system", "content": "\n\n".join(_texts(made, where))})
        case role:
            raise refusal(f"{where}.role", f"{role!r} is no role of a message")


def _assistant(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's turn that is being put together."""
    if not turns or turns[-1]["role"] != "assistant":
        turns.append({"role": "assistant", "content": None})
    return turns[-1]


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    return [_part(part, at) for at, part in parts(content, where)]


def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return {"type": "text", "text": text(part.get("text"), f"{where}.text")}
        case "refusal":
            return {"type": "text", "text": text(part.get("refusal"), f"{where}.refusal")}
        case "input_image":
            url = text(part.get("image_url"), f"{where}.image_url")
            return {"type": "image_url", "image_url": given({"url": url, "detail": part.get("detail")})}
        case "input_file":
            data = text(part.get("file_data"), f"{where}.file_data")
            return {"type": "file", "file": given({"filename": part.get("filename"), "file_data": data})}
        case kind:
            raise refusal(where, f"a {kind!r} part cannot be carried to chat completions")


def _plain(made: list[dict[str, Any]]) -> Any:
    is_text = all(part["type"] == "text" for part in made) and len(made) <= 1
    return "".join(part["text"] for part in made) if is_text else made


def _texts(made: list[dict[str, Any]], where: str) -> list[str]:
    """What is said where chat completions take nothing but text."""
    for n, part in enumerate(made):
        if part["type"] != "text":
            raise refusal(f"{where}.content[{n}]", "only text can be carried here")
    return [part["text"] for part in made]


def _output(message: dict[str, Any], answer: str) -> list[dict[str, Any]]:
    items: list[Item] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        new_item(items, "reasoning", answer=answer).said = thought
    spoken = message.get("content") or message.get("refusal")
    if isinstance(spoken, str) and spoken:
        new_item(items, "message", answer=answer).said = spoken
    for n, call in enumerate(filter(is_object, list_or_empty(message.get("tool_calls")))):
        function = object_or_empty(call.get("function"))
        item = new_item(items, "function_call", answer=answer)
        item.call_id, item.name = call_id(call.get("id"), answer, n), str(function.get("name") or "")
        item.said = str(function.get("arguments") or "") or "{}"
    return [item.body(is_done=True) for item in items]
