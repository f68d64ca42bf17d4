"""A client of OpenAI's Responses on an Anthropic upstream.

Owns: what the way through chat completions, which lie between the two, would lose: the names of refused fields, the order of items, and
thinking that comes back. Promises: what the other two translators carry is carried here, and what either refuses is refused by the name
that the field has in Responses. Refuses to know: sockets, clocks, and which of Anthropic's models is asked.
"""

from collections.abc import Iterator
from typing import Any

from leyden.errors import BadInput
from leyden.gateway.translate.chat_stream import ChatStream
from leyden.gateway.translate.chat_to_messages import conversation as messages_conversation
from leyden.gateway.translate.chat_to_messages import messages_request
from leyden.gateway.translate.contract import StreamTranslator
from leyden.gateway.translate.failure import chat_error
from leyden.gateway.translate.fields import given, objects, plain_json, refusal, text
from leyden.gateway.translate.items import Item, ItemKind, new_item, of_kind
from leyden.gateway.translate.outcome import call_id, chat_usage, completion_id, finish_reason
from leyden.gateway.translate.response import ended, response, stem
from leyden.gateway.translate.responses_stream import ResponsesStream
from leyden.gateway.translate.responses_to_chat import chat_request
from leyden.gateway.translate.responses_to_chat import conversation as chat_conversation
from leyden.gateway.translate.sealing import THOUGHTS, THOUGHTS_FIELD, seals, unsealed
from leyden.ingest.shapes import list_or_empty, object_or_empty

_KINDS: dict[str, ItemKind] = {
    "text": "message",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "function_call",
}
_NAMES = {"reasoning_effort": "reasoning.effort", "response_format": "text.format"}


class ResponsesToMessages:
    """One call of a Responses client answered by Messages. now: unix seconds, which a response has to carry."""

    def __init__(self, *, now: int = 0) -> None:
        self._now = now
        self._asked: dict[str, Any] = {}

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The Messages request."""
        self._asked = body
        return "/messages", responses_request(body)

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """The response, its items in the order of the blocks."""
        if status >= 400 or body.get("error"):
            return chat_error(status, body)
        chat_id = completion_id(body.get("id"))
        begun = response(self._asked, chat_id=chat_id, model=body.get("model"), created=self._now)
        return ended(
            begun,
            output=_output(body.get("content"), stem(chat_id), seals_thinking=seals(self._asked)),
            finish=finish_reason(body.get("stop_reason")),
            usage=chat_usage(body.get("usage")),
        )

    def stream(self) -> StreamTranslator:
        """Of the Messages events into events of a response."""
        model = text(self._asked.get("model"), "model")
        return _Stream(
            (_SealedStream if seals(self._asked) else ChatStream)(
                model=model, created=self._now, with_usage=True
            ),
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


class _SealedStream(ChatStream):
    """Chat chunks, and behind each block of thinking the block as a whole, for a client that sends it back."""

    def __init__(self, *, model: str, created: int, with_usage: bool) -> None:
        super().__init__(model=model, created=created, with_usage=with_usage)
        self._thoughts: dict[str, dict[str, Any]] = {}  # by the index of the open block

    def _tell(self, event: dict[str, Any]) -> Iterator[bytes]:
        yield from super()._tell(event)
        index, block = str(event.get("index")), object_or_empty(event.get("content_block"))
        if event.get("type") == "content_block_start" and block.get("type") in THOUGHTS:
            self._thoughts[index] = dict(block)
        thought, delta = self._thoughts.get(index), object_or_empty(event.get("delta"))
        if thought is not None and event.get("type") == "content_block_delta":
            for name in ("thinking", "signature"):
                if isinstance(piece := delta.get(name), str):
                    thought[name] = str(thought.get(name) or "") + piece
        elif thought is not None and event.get("type") == "content_block_stop":
            yield self._chunk({THOUGHTS_FIELD: [self._thoughts.pop(index)]})


def responses_request(body: dict[str, Any]) -> dict[str, Any]:
    """A Messages request from a Responses request. Raises BadInput for what either chat completions or Messages cannot say."""
    system, turns = _conversation(body)
    try:
        made = messages_request(chat_request({**body, "input": None, "instructions": None}))
    except BadInput as error:
        field, _, why = error.message.partition(": ")
        raise refusal(_NAMES.get(field, field), why, error.hint) from error
    return made | given({"system": system or None, "messages": turns})


def _conversation(body: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System prompt and turns, each item on its own, so that all stay in their order. Items of one speaker that follow one another are
    one turn."""
    system, turns = messages_conversation(chat_conversation(body.get("instructions"), None))
    items = body.get("input")
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    for where, item in objects(items, "input"):
        said, made = _item_turns(item, where)
        system += said
        for turn in made:
            if turns and turns[-1]["role"] == turn["role"]:
                turns[-1]["content"] += turn["content"]
            else:
                turns.append(turn)
    settled = [{**turn, "content": _in_order(turn["content"])} for turn in turns]
    return system, [turn for turn in settled if turn["content"]]


def _in_order(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A turn as Anthropic takes it: results before all else that is said, and no thinking at the end, where one was cut."""
    results = [block for block in content if block["type"] == "tool_result"]
    others = [block for block in content if block["type"] != "tool_result"]
    while others and others[-1]["type"] in THOUGHTS:
        others.pop()
    return [*results, *others]


def _item_turns(item: dict[str, Any], where: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if item.get("type") == "reasoning":
        thoughts = unsealed(item.get("encrypted_content"))
        return [], [{"role": "assistant", "content": thoughts}] if thoughts else []
    try:
        return messages_conversation(chat_conversation(None, [item]))
    except BadInput as error:
        field, _, why = error.message.partition(": ")
        content = "output" if item.get("type") == "function_call_output" else "content"
        for name, responses_name in (
            ("input[0]", where),
            ("messages[0].content", f"{where}.{content}"),
            ("messages[0].tool_calls[0].function", where),
            ("messages[0]", where),
        ):
            field = field.replace(name, responses_name)
        raise refusal(field, why, error.hint) from error


def _output(content: Any, answer: str, *, seals_thinking: bool) -> list[dict[str, Any]]:
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
            continue
        if kind is not None and (said := str(block.get(block["type"]) or "")):
            of_kind(items, kind, answer=answer).said += said
        if seals_thinking and kind == "reasoning":
            of_kind(items, kind, answer=answer).sealed.append(block)
    return [item.body(is_done=True) for item in items]
