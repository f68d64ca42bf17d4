"""Chat chunks as they come → events of OpenAI's Responses.

Each output item is told apart by its index, so items may be open side by side: calls whose pieces an upstream mixes are passed on
as they come, and all items are done at the end.
"""

from collections.abc import Generator, Iterator
from typing import Any, Literal

from leyden.gateway.translate.chunks import CallPiece, call_pieces, first_choice
from leyden.gateway.translate.events import INCOMPLETE, ToldStream, named_event
from leyden.gateway.translate.failure import said as message_of
from leyden.gateway.translate.items import Item, ItemKind, new_item, of_kind, text_part
from leyden.gateway.translate.outcome import call_id
from leyden.gateway.translate.response import ended, response, stem
from leyden.gateway.translate.sealing import THOUGHTS_FIELD
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty

_DELTA = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function_call": "response.function_call_arguments",
}


class ResponsesStream(ToldStream):
    """One stream. asked: the client's request; created: unix seconds."""

    def __init__(self, asked: dict[str, Any], *, created: int) -> None:
        super().__init__()
        self._asked = asked
        self._created = created
        self._response: dict[str, Any] | None = None
        self._stem = ""
        self._number = -1
        self._items: list[Item] = []
        self._calls: dict[int, Item] = {}  # by the upstream's index
        self._finish_reason: Any = None
        self._usage: Any = None

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return named_event(kind, {"sequence_number": self._number, **fields})

    def _begin(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        self._stem = stem(chunk.get("id"))
        begun = self._response = response(
            self._asked, chat_id=chunk.get("id"), model=chunk.get("model"), created=self._created
        )
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)

    def _tell(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if chunk.get("error"):
            yield from self._fail(chunk)
            return
        if self._response is None:
            yield from self._begin(chunk)
        self._usage = chunk.get("usage") or self._usage
        choice = first_choice(chunk)
        delta = object_or_empty(choice.get("delta"))
        yield from self._say("reasoning", delta.get("reasoning_content") or delta.get("reasoning"))
        yield from self._seal(list_or_empty(delta.get(THOUGHTS_FIELD)))
        yield from self._say("message", delta.get("content") or delta.get("refusal"))
        for piece in call_pieces(delta):
            yield from self._call(piece)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        self._is_complete = bool(self._finish_reason)

    def _say(self, kind: Literal["message", "reasoning"], said: Any) -> Iterator[bytes]:
        if not isinstance(said, str) or not said:
            return
        item = yield from self._item(kind)
        if not item.said:
            yield self._event("response.content_part.added", **self._at(item), part=_part(item, ""))
        yield self._delta(item, said)

    def _seal(self, blocks: list[Any]) -> Iterator[bytes]:
        """Keep thinking for a client that sends it back. It may have no text, where a provider hides it."""
        for block in filter(is_object, blocks):
            item = yield from self._item("reasoning")
            item.sealed.append(block)

    def _item(self, kind: ItemKind) -> Generator[bytes, None, Item]:
        n = len(self._items)
        item = of_kind(self._items, kind, answer=self._stem)
        if len(self._items) > n:
            yield self._added(item)
        return item

    def _call(self, piece: CallPiece) -> Iterator[bytes]:
        item = self._calls.get(piece.at)
        if item is None or piece.begins_other(item.call_id):
            if not piece.name:
                return
            n = sum(known.kind == "function_call" for known in self._items)
            item = self._calls[piece.at] = new_item(self._items, "function_call", answer=self._stem)
            item.name, item.call_id = piece.name, call_id(piece.id, self._stem, n)
            yield self._added(item)
        if piece.arguments:
            yield self._delta(item, piece.arguments)

    def _added(self, item: Item) -> bytes:
        return self._event(
            "response.output_item.added", output_index=item.index, item=item.body(is_done=False)
        )

    def _at(self, item: Item) -> dict[str, Any]:
        place: dict[str, Any] = {"item_id": item.id, "output_index": item.index}
        return place if item.kind == "function_call" else {**place, "content_index": 0}

    def _delta(self, item: Item, said: str) -> bytes:
        item.said += said
        logprobs: dict[str, Any] = {"logprobs": []} if item.kind == "message" else {}
        return self._event(f"{_DELTA[item.kind]}.delta", **self._at(item), delta=said, **logprobs)

    def _done(self, item: Item) -> Iterator[bytes]:
        if item.kind == "function_call":
            item.said = item.said or "{}"
            yield self._event(f"{_DELTA[item.kind]}.done", **self._at(item), arguments=item.said)
        elif item.said:
            logprobs: dict[str, Any] = {"logprobs": []} if item.kind == "message" else {}
            yield self._event(f"{_DELTA[item.kind]}.done", **self._at(item), text=item.said, **logprobs)
            yield self._event("response.content_part.done", **self._at(item), part=_part(item, item.said))
        yield self._event("response.output_item.done", output_index=item.index, item=item.body(is_done=True))

    def _finish(self) -> Iterator[bytes]:
        self._has_ended = True
        for item in self._items:
            yield from self._done(item)
        output = [item.body(is_done=True) for item in self._items]
        made = ended(self._response or {}, output=output, finish=self._finish_reason, usage=self._usage)
        yield self._event(f"response.{made['status']}", response=made)

    def _fail(self, error: Any) -> Iterator[bytes]:
        if self._response is None:
            yield from self._begin({})
        self._has_ended = True
        told = {"code": "server_error", "message": message_of(error) or INCOMPLETE}
        yield self._event(
            "response.failed", response={**(self._response or {}), "status": "failed", "error": told}
        )


def _part(item: Item, said: str) -> dict[str, Any]:
    return text_part(said) if item.kind == "message" else {"type": "reasoning_text", "text": said}
