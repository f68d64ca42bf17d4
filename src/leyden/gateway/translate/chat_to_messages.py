"""A client of OpenAI's chat completions on an Anthropic upstream.

Owns: the conversation and the parameters of a request, and a whole answer. Promises: roles, texts, images, tool calls with their
ids and results in their order arrive; what cannot be carried is refused by name. What is left behind on purpose stands in
`docs/how-to/another-protocol.md`. Refuses to know: sockets, clocks, and which of Anthropic's models is asked.
"""

from typing import Any

from leyden.gateway.translate.chat_stream import ChatStream
from leyden.gateway.translate.contract import StreamTranslator
from leyden.gateway.translate.failure import chat_error
from leyden.gateway.translate.fields import given, objects, only_texts, plain_json, refusal, text
from leyden.gateway.translate.outcome import chat_usage, completion_id, finish_reason
from leyden.gateway.translate.parts import blocks
from leyden.gateway.translate.tools import allowed_id, messages_tools, tool_use
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty

DEFAULT_MAX_TOKENS = 32_000
"""Asked for when the client sets no limit, because Anthropic wants one: the most that every current model of theirs gives."""

_HOTTEST = 1
_REFUSED = {
    "n": "Anthropic gives one answer for each call",
    "logprobs": "Anthropic gives no log probabilities",
    "logit_bias": "Anthropic takes no bias",
    "presence_penalty": "Anthropic knows no penalties",
    "frequency_penalty": "Anthropic knows no penalties",
    "audio": "Anthropic makes no sound",
    "functions": "this form is no longer in use; define `tools`",
    "web_search_options": "OpenAI's search does not exist at Anthropic",
}
_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


class ChatToMessages:
    """One call of a chat client answered by Messages. now: unix seconds, which a chat answer has to carry."""

    def __init__(self, *, now: int = 0) -> None:
        self._now = now
        self._model = ""
        self._with_usage = False

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The Messages request."""
        self._model = text(body.get("model"), "model")
        self._with_usage = bool(object_or_empty(body.get("stream_options")).get("include_usage"))
        return "/messages", messages_request(body)

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """The chat completion."""
        if status >= 400 or body.get("error"):
            return chat_error(status, body)
        return completion(body, model=self._model, created=self._now)

    def stream(self) -> StreamTranslator:
        """Of the Messages events into chat chunks."""
        return ChatStream(model=self._model, created=self._now, with_usage=self._with_usage)


def messages_request(body: dict[str, Any]) -> dict[str, Any]:
    """A Messages request from a chat request. Raises BadInput for what Messages cannot say."""
    for field, why in _REFUSED.items():
        if body.get(field) and not (field == "n" and body["n"] == 1):
            raise refusal(field, why)
    system, messages = conversation(body.get("messages"))
    config = {"effort": _effort(body.get("reasoning_effort")), "format": _format(body.get("response_format"))}
    return given(
        {
            "model": text(body.get("model"), "model"),
            "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS,
            "system": system or None,
            "messages": messages,
            "temperature": _temperature(body.get("temperature")),
            "top_p": body.get("top_p"),
            "top_k": body.get("top_k"),
            "stop_sequences": _stop(body.get("stop")),
            "metadata": _metadata(body.get("safety_identifier") or body.get("user")),
            "output_config": given(config) or None,
            "thinking": {"type": "disabled"} if body.get("reasoning_effort") == "none" else None,
            **messages_tools(body),
            "stream": True if body.get("stream") else None,
        }
    )


def _temperature(value: Any) -> Any:
    if isinstance(value, int | float) and value > _HOTTEST:
        raise refusal("temperature", f"{value} is more than the 1 that Anthropic takes at most")
    return value


def _stop(value: Any) -> list[Any] | None:
    if isinstance(value, str):
        return [value] if value else None
    return list_or_empty(value) or None


def _metadata(user: Any) -> dict[str, Any] | None:
    return {"user_id": user} if isinstance(user, str) and user else None


def _effort(value: Any) -> str | None:
    if value in (None, "none"):
        return None
    effort = _EFFORTS.get(str(value))
    if effort is None:
        raise refusal("reasoning_effort", f"{value!r} is no effort that Anthropic knows")
    return effort


def _format(wanted: Any) -> dict[str, Any] | None:
    kind = object_or_empty(wanted).get("type", "text")
    if kind == "text":
        return None
    schema = object_or_empty(object_or_empty(wanted).get("json_schema")).get("schema")
    if kind != "json_schema" or not is_object(schema):
        raise refusal("response_format", f"Anthropic has no {kind!r} without a schema; give a `json_schema`")
    return {"type": "json_schema", "schema": schema}


def conversation(messages: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System prompt and turns. Turns of the user and results of tools that follow one another become one turn, as Anthropic wants
    all results of a turn's calls in the next one; system messages move to the front, where every model takes them."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for where, message in objects(messages, "messages"):
        role = message.get("role")
        if role in ("system", "developer"):
            texts = only_texts(message.get("content"), f"{where}.content")
            system += [{"type": "text", "text": said} for said in texts]
            continue
        speaker, content = _turn(message, role, where)
        if speaker == "user" and turns and turns[-1]["role"] == "user":
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": speaker, "content": content})
    return system, turns


def _turn(message: dict[str, Any], role: Any, where: str) -> tuple[str, list[dict[str, Any]]]:
    match role:
        case "user":
            return "user", blocks(message.get("content"), f"{where}.content")
        case "tool":
            return "user", [_tool_result(message, where)]
        case "assistant":
            return "assistant", _assistant(message, where)
        case _:
            raise refusal(f"{where}.role", f"{role!r} cannot be carried to Anthropic's Messages")


def _tool_result(message: dict[str, Any], where: str) -> dict[str, Any]:
    answers = allowed_id(text(message.get("tool_call_id"), f"{where}.tool_call_id"))
    content = message.get("content")
    said = content if isinstance(content, str) else blocks(content, f"{where}.content")
    return {"type": "tool_result", "tool_use_id": answers, "content": said}


def _assistant(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Text and calls. Reasoning stays behind: Anthropic takes none without the signature that it gave it."""
    said = blocks(message.get("content"), f"{where}.content")
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        said.append({"type": "text", "text": message["refusal"]})
    calls = objects(message.get("tool_calls"), f"{where}.tool_calls")
    return [*said, *(tool_use(call, at) for at, call in calls)]


def completion(body: dict[str, Any], *, model: str, created: int) -> dict[str, Any]:
    """A chat completion from a Messages answer. model: what to call it when the upstream does not say."""
    content = [object_or_empty(block) for block in list_or_empty(body.get("content"))]
    calls = [_call(block) for block in content if block.get("type") == "tool_use"]
    said = _joined(content, "text")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": said or (None if calls else ""),
        "refusal": None,
    }
    if thought := _joined(content, "thinking"):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    reason = finish_reason(body.get("stop_reason"))
    return {
        "id": completion_id(body.get("id")),
        "object": "chat.completion",
        "created": created,
        "model": body.get("model") or model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": chat_usage(body.get("usage")),
    }


def _joined(content: list[dict[str, Any]], kind: str) -> str:
    return "".join(str(block.get(kind, "")) for block in content if block.get("type") == kind)


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {
        "name": str(block.get("name") or ""),
        "arguments": plain_json(object_or_empty(block.get("input"))),
    }
    return {"id": block.get("id"), "type": "function", "function": function}
