"""A client of Anthropic's Messages on an OpenAI-compatible upstream, such as Claude Code on a local model.

Owns: the conversation and the parameters of a request, and a whole answer. Promises: roles, texts, images, tool calls with their
ids and results in their order arrive; what cannot be carried is refused by name. What is left behind on purpose stands in
`docs/how-to/another-protocol.md`. Refuses to know: sockets, and what the upstream is.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from leyden.gateway.translate.contract import StreamTranslator
from leyden.gateway.translate.estimate import estimate_tokens
from leyden.gateway.translate.failure import messages_error
from leyden.gateway.translate.fields import given, objects, only_texts, parts, refusal, text
from leyden.gateway.translate.messages_stream import MessagesStream
from leyden.gateway.translate.outcome import call_id, message_id, messages_usage, stop_reason
from leyden.gateway.translate.parts import chat_part, chat_parts
from leyden.gateway.translate.tools import chat_call, chat_tools, read_arguments
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty

# Claude Code begins its system prompt with a block for Anthropic's billing that differs in every request. No model needs it, and in
# front it would keep an upstream from ever reusing the prefix it has cached.
_BILLING = re.compile(r"x-anthropic-billing-header:[^\n]*\n?")
_LONGEST_USER = 64
_REFUSED = ("container", "mcp_servers")


class MessagesToChat:
    """One call of a Messages client answered by chat completions."""

    def __init__(self) -> None:
        self._model = ""
        self._input_tokens = 0
        self._shows_thinking = False

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The chat request. An answer's reasoning is shown as thinking only to a client that asks for thinking."""
        self._model = text(body.get("model"), "model")
        self._input_tokens = estimate_tokens(body)
        self._shows_thinking = object_or_empty(body.get("thinking")).get("type", "disabled") != "disabled"
        return "/chat/completions", chat_request(body)

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """The Messages answer."""
        if status >= 400 or body.get("error"):
            return messages_error(status, body)
        return message(body, model=self._model, shows_thinking=self._shows_thinking)

    def stream(self) -> StreamTranslator:
        """Of the chat chunks into Messages events."""
        return MessagesStream(
            model=self._model, input_tokens=self._input_tokens, shows_thinking=self._shows_thinking
        )


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """A chat request from a Messages request. Raises BadInput for what chat completions cannot say."""
    for field in _REFUSED:
        if body.get(field):
            raise refusal(field, "exists at Anthropic only and cannot be carried to chat completions")
    is_stream = bool(body.get("stream"))
    return given(
        {
            "model": text(body.get("model"), "model"),
            "messages": _conversation(body.get("system"), body.get("messages")),
            "max_completion_tokens": body.get("max_tokens"),
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
            "top_k": body.get("top_k"),
            "stop": body.get("stop_sequences") or None,
            "user": _user(object_or_empty(body.get("metadata")).get("user_id")),
            "response_format": _response_format(body),
            **chat_tools(body),
            "stream": is_stream or None,
            "stream_options": {"include_usage": True} if is_stream else None,
        }
    )


def _user(user_id: Any) -> str | None:
    if not isinstance(user_id, str) or not user_id:
        return None
    if len(user_id) <= _LONGEST_USER:
        return user_id
    # OpenAI refuses more than 64 characters; the hash still names the same user each time.
    return hashlib.blake2b(user_id.encode(errors="replace"), digest_size=_LONGEST_USER // 2).hexdigest()


def _response_format(body: dict[str, Any]) -> dict[str, Any] | None:
    wanted = object_or_empty(body.get("output_config")).get("format") or body.get("output_format")
    if wanted is None:
        return None
    schema = object_or_empty(wanted).get("schema")
    if object_or_empty(wanted).get("type") != "json_schema" or not is_object(schema):
        raise refusal("output_config.format", "only a `json_schema` with its schema can be carried")
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": True}}


def _conversation(system: Any, messages: Any) -> list[dict[str, Any]]:
    """All messages. What is said to the system before the first answer is one message in front: the chat templates of many local
    models take no other, and none of its parts. Later system messages stay in their place."""
    front = [said for said in map(_without_billing, only_texts(system, "system")) if said]
    turns: list[dict[str, Any]] = []
    has_answered = False
    for where, turn in objects(messages, "messages"):
        content = turn.get("content")
        match turn.get("role"):
            case "user":
                turns += _user_turn(content, f"{where}.content")
            case "assistant":
                turns.append(_assistant_turn(content, f"{where}.content"))
                has_answered = True
            case "system" if has_answered:
                turns.append(_system_turn(only_texts(content, f"{where}.content")))
            case "system":
                front += only_texts(content, f"{where}.content")
            case role:
                raise refusal(f"{where}.role", f"{role!r} is no role of a message")
    if turns and turns[-1]["role"] == "assistant":
        raise refusal(
            "messages", "an answer that begins with given words cannot be asked of chat completions"
        )
    return [_system_turn(front), *turns] if front else turns


def _without_billing(said: str) -> str:
    return said[found.end() :] if (found := _BILLING.match(said)) else said


def _system_turn(texts: list[str]) -> dict[str, Any]:
    return {"role": "system", "content": "\n\n".join(texts)}


def _user_turn(content: Any, where: str) -> Iterator[dict[str, Any]]:
    """Results of tools first, each a message of its own, because chat wants them right behind the calls; then all else."""
    rest: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for at, block in parts(content, where):
        if block.get("type") == "tool_result":
            result, pictures = _tool_result(block, at)
            yield result
            shown += pictures
        else:
            rest += chat_part(block, at)
    rest = [*shown, *(part for part in rest if part.get("text") != "")]
    if rest:
        yield {"role": "user", "content": _plain(rest)}


def _plain(made: list[dict[str, Any]]) -> Any:
    """One text as the string it is, which every upstream understands."""
    return made[0]["text"] if len(made) == 1 and made[0]["type"] == "text" else made


def _tool_result(block: dict[str, Any], where: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tool message, and what it cannot hold (images, files) as parts for the user message behind it."""
    answers = text(block.get("tool_use_id"), f"{where}.tool_use_id")
    made = chat_parts(block.get("content"), f"{where}.content")
    said = "\n".join(part["text"] for part in made if part["type"] == "text")
    if block.get("is_error") and not said.lower().startswith("error"):
        said = f"Error: {said}"
    pictures = [part for part in made if part["type"] != "text"]
    if pictures:
        pictures.insert(0, {"type": "text", "text": f"From the result of tool call {answers}:"})
    return {"role": "tool", "tool_call_id": answers, "content": said}, pictures


def _assistant_turn(content: Any, where: str) -> dict[str, Any]:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for at, block in parts(content, where):
        match block.get("type"):
            case "text":
                texts.append(text(block.get("text"), f"{at}.text"))
            case "thinking":
                reasoning.append(text(block.get("thinking"), f"{at}.thinking"))
            case "tool_use":
                calls.append(chat_call(block, at))
            case "redacted_thinking":
                continue
            case kind:
                raise refusal(at, f"a {kind!r} block cannot be carried to chat completions")
    turn: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or (None if calls else "")}
    if any(reasoning):
        turn["reasoning_content"] = "\n".join(reasoning)
    if calls:
        turn["tool_calls"] = calls
    return turn


def message(body: dict[str, Any], *, model: str, shows_thinking: bool) -> dict[str, Any]:
    """A Messages answer from a chat completion: its first choice. model: what to call it when the upstream does not say."""
    choice = object_or_empty(next(iter(list_or_empty(body.get("choices"))), None))
    said = object_or_empty(choice.get("message"))
    answer_id = message_id(body.get("id"))
    content = _content(said, answer_id, shows_thinking=shows_thinking)
    reason, sequence = stop_reason(
        choice,
        has_calls=any(block["type"] == "tool_use" for block in content),
        refused=bool(said.get("refusal")),
    )
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": body.get("model") or model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": messages_usage(body.get("usage")),
    }


def _content(said: dict[str, Any], answer_id: str, *, shows_thinking: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    if shows_thinking and isinstance(reasoning, str) and reasoning:
        content.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    spoken = (said.get("content"), said.get("refusal"))
    content += [{"type": "text", "text": words} for words in spoken if isinstance(words, str) and words]
    calls = enumerate(list_or_empty(said.get("tool_calls")))
    return [*content, *(_use(object_or_empty(call), answer_id, n) for n, call in calls)]


def _use(call: dict[str, Any], answer_id: str, n: int) -> dict[str, Any]:
    function = object_or_empty(call.get("function"))
    written = str(function.get("arguments") or "")
    arguments = read_arguments(written)
    return {
        "type": "tool_use",
        "id": call_id(call.get("id"), answer_id, n),
        "name": str(function.get("name") or ""),
        # What is no JSON reaches the client all the same: its tool refuses it and the model gets to see why.
        "input": {"arguments": written} if arguments is None else arguments,
    }
