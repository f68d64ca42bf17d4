"""A client of OpenAI's Responses on an Anthropic upstream, such as Codex on Claude.

Owns: what the way through chat completions, which lie between the two, would lose: the names of refused fields and the order of an
answer's items. Promises: what the other two translators carry is carried here, and what either refuses is refused by the name that the
field has in Responses. Refuses to know: sockets, clocks, and which of Anthropic's models is asked.
"""

from collections.abc import Iterator
from typing import Any

from leyden.errors import BadInput
from leyden.gateway.translate.chat_stream import ChatStream
from leyden.gateway.translate.chat_to_messages import messages_request
from leyden.gateway.translate.contract import StreamTranslator
from leyden.gateway.translate.failure import chat_error
from leyden.gateway.translate.fields import objects, plain_json, refusal, text
from leyden.gateway.translate.outcome import call_id, chat_usage, completion_id, finish_reason
from leyden.gateway.translate.response import Item, ItemKind, ended, new_item, response, stem
from leyden.gateway.translate.responses_stream import ResponsesStream
from leyden.gateway.translate.responses_to_chat import chat_request
from leyden.ingest.shapes import list_or_empty, object_or_empty

_KINDS: dict[str, ItemKind] = {"text": "message", "thinking": "reasoning", "tool_use": "function_call"}
_NAMES = {"reasoning_effort": "reasoning.effort", "response_format": "text.format"}


class ResponsesToMessages:
    """One call of a Responses client answered by Messages. now: unix seconds, which a response has to carry."""

    def __init__(self, *, now: int = 0) -> None:
        self._now = now
        self._asked: dict[str, Any] = {}

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The Messages request."""
        self._asked = body
        asked = chat_request(body)
        try:
            return "/messages", messages_request(asked)
        except BadInput as error:
            raise _renamed(error, body) from error

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """The response, its items in the order of the blocks."""
        if status >= 400 or body.get("error"):
            return chat_error(status, body)
        chat_id = completion_id(body.get("id"))
        begun = response(self._asked, chat_id=chat_id, model=body.get("model"), created=self._now)
        return ended(
            begun,
            output=list(_output(body.get("content"), stem(chat_id))),
            finish=finish_reason(body.get("stop_reason")),
            usage=chat_usage(body.get("usage")),
        )

    def stream(self) -> StreamTranslator:
        """Of the Messages events into events of a response."""
        model = text(self._asked.get("model"), "model")
        return _Stream(
            ChatStream(model=model, created=self._now, with_usage=True),
            ResponsesStream(self._asked, created=self._now),
        )


class _Stream:
    """Messages events into chat chunks, and those into events of a response."""

    def __init__(self, into_chat: StreamTranslator, into_response: StreamTranslator) -> None:
        self._into_chat, self._into_response = into_chat, into_response

    def feed(self, piece: bytes) -> bytes:
        """Events for what these bytes complete."""
        return self._into_response.feed(self._into_chat.feed(piece))

    def end(self, *, error: str | None = None) -> bytes:
        """What is missing: the rest of a complete response, or a failed one."""
        return self._into_response.feed(self._into_chat.end(error=error)) + self._into_response.end()


def _renamed(error: BadInput, body: dict[str, Any]) -> BadInput:
    """A refusal of the chat request, said of the field of the Responses request that it was made of."""
    field, _, why = error.message.partition(": ")
    if field.startswith("messages["):
        field = next(_refused_items(body), "input")
    return refusal(_NAMES.get(field, field), why, error.hint)


def _refused_items(body: dict[str, Any]) -> Iterator[str]:
    """The places that Messages refuse in the input. Each item is tried alone: several may be one chat message."""
    for where, item in objects(body.get("input"), "input"):
        try:
            messages_request(chat_request({"model": "", "input": [item]}))
        except BadInput as error:
            place = error.message.partition(": ")[0].replace("messages[0]", where)
            is_output = item.get("type") == "function_call_output"
            content = f"{where}.output" if is_output else f"{where}.content"
            yield place.replace(".tool_calls[0].function", "").replace(f"{where}.content", content)


def _output(content: Any, answer: str) -> list[dict[str, Any]]:
    """An item for each run of blocks of one kind, and for each call."""
    items: list[Item] = []
    for block in map(object_or_empty, list_or_empty(content)):
        kind = _KINDS.get(str(block.get("type")))
        if kind == "function_call":
            n = sum(known.kind == "function_call" for known in items)
            item = new_item(items, kind, answer=answer)
            item.call_id = call_id(block.get("id"), answer, n)
            item.name = str(block.get("name") or "")
            item.said = plain_json(object_or_empty(block.get("input")))
        elif kind is not None and (said := str(block.get(block["type"]) or "")):
            is_more = bool(items) and items[-1].kind == kind
            item = items[-1] if is_more else new_item(items, kind, answer=answer)
            item.said += said
    return [item.body(is_done=True) for item in items]
