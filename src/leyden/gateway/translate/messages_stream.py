"""Chat chunks as they come → events of Anthropic's Messages.

Owns: which content block is open. Anthropic's blocks follow one another, while chat may interleave its tool calls. Arguments are
passed on as they arrive for the block that is open; those of another call wait until the open one is complete. So a client never
sees two open blocks, and waits only where an upstream really mixes its calls.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from leyden.gateway.translate.chunks import CallPiece, call_pieces, first_choice
from leyden.gateway.translate.events import ToldStream, named_event
from leyden.gateway.translate.failure import messages_error, status_of
from leyden.gateway.translate.outcome import call_id, message_id, messages_usage, stop_reason
from leyden.gateway.translate.progress import ArgumentsProgress
from leyden.ingest.shapes import object_or_empty

_FIELDS = {"text": "text_delta", "thinking": "thinking_delta"}


@dataclass(slots=True, eq=False)
class _Block:
    """A content block: open, or waiting with the pieces that it could not say yet."""

    kind: Literal["text", "thinking", "tool_use"]
    call_id: str = ""
    name: str = ""
    waiting: list[str] = field(default_factory=list[str])
    progress: ArgumentsProgress = field(default_factory=ArgumentsProgress)

    @property
    def may_close(self) -> bool:
        return self.kind != "tool_use" or self.progress.is_complete


class MessagesStream(ToldStream):
    """One stream. model, input_tokens: what to say until the upstream says better."""

    def __init__(self, *, model: str, input_tokens: int, shows_thinking: bool) -> None:
        super().__init__()
        self._model = model
        self._input_tokens = input_tokens
        self._shows_thinking = shows_thinking
        self._id = ""
        self._index = -1
        self._open: _Block | None = None
        self._queue: list[_Block] = []
        self._calls: dict[int, _Block] = {}  # by the upstream's index: the call that it means now
        self._made = 0
        self._refused = False
        self._choice: dict[str, Any] = {}  # the one with the finish reason
        self._usage: Any = None
        self._has_started = False

    def _tell(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if chunk.get("error"):
            yield from self._fail(chunk)
            return
        if not self._has_started:
            yield self._start(chunk)
        self._usage = chunk.get("usage") or self._usage
        choice = first_choice(chunk)
        yield from self._delta(object_or_empty(choice.get("delta")))
        if choice.get("finish_reason"):
            self._choice, self._is_complete = choice, True

    def _start(self, chunk: dict[str, Any]) -> bytes:
        self._has_started = True
        self._id = message_id(chunk.get("id"))
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._input_tokens, "output_tokens": 0},
        }
        return named_event("message_start", {"message": message})

    def _delta(self, delta: dict[str, Any]) -> Iterator[bytes]:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if self._shows_thinking:
            yield from self._say("thinking", reasoning)
        yield from self._say("text", delta.get("content"))
        refusal = delta.get("refusal")
        self._refused = self._refused or bool(refusal)
        yield from self._say("text", refusal)
        for piece in call_pieces(delta):
            yield from self._call(piece)

    def _say(self, kind: Literal["text", "thinking"], said: Any) -> Iterator[bytes]:
        if not isinstance(said, str) or not said:
            return
        newest = self._queue[-1] if self._queue else self._open
        block = newest if newest is not None and newest.kind == kind else _Block(kind)
        yield from self._add(block, said)

    def _call(self, piece: CallPiece) -> Iterator[bytes]:
        block = self._calls.get(piece.at)
        if block is None or piece.begins_other(block.call_id):
            if not piece.name:
                return
            block = _Block("tool_use", call_id(piece.id, self._id, self._made), piece.name)
            self._made += 1
            self._calls[piece.at] = block
        yield from self._add(block, piece.arguments)

    def _add(self, block: _Block, piece: str) -> Iterator[bytes]:
        if block is not self._open and block not in self._queue:
            if block.progress.is_complete:
                return  # closed: whatever follows complete arguments cannot be said any more
            self._queue.append(block)
        if block is self._open:
            yield from self._pass_on(block, piece)
        elif piece:
            block.waiting.append(piece)
        yield from self._advance()

    def _advance(self) -> Iterator[bytes]:
        """Close what is complete and open what waits, as far as that goes."""
        while self._queue and (self._open is None or self._open.may_close):
            yield from self._close_block()
            yield from self._open_next()

    def _open_next(self) -> Iterator[bytes]:
        block = self._open = self._queue.pop(0)
        self._index += 1
        yield named_event("content_block_start", {"index": self._index, "content_block": _begun(block)})
        waiting, block.waiting = block.waiting, []
        for piece in waiting:
            yield from self._pass_on(block, piece)

    def _pass_on(self, block: _Block, piece: str) -> Iterator[bytes]:
        if not piece:
            return
        if block.kind == "tool_use":
            block.progress.add(piece)
            delta = {"type": "input_json_delta", "partial_json": piece}
        else:
            delta = {"type": _FIELDS[block.kind], block.kind: piece}
        yield named_event("content_block_delta", {"index": self._index, "delta": delta})

    def _close_block(self) -> Iterator[bytes]:
        if self._open is not None:
            yield named_event("content_block_stop", {"index": self._index})
        self._open = None

    def _finish(self) -> Iterator[bytes]:
        self._has_ended = True
        yield from self._close_block()
        while self._queue:
            yield from self._open_next()
            yield from self._close_block()
        reason, sequence = stop_reason(self._choice, has_calls=self._made > 0, refused=self._refused)
        usage = {"output_tokens": 0} if self._usage is None else messages_usage(self._usage)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        yield named_event("message_delta", {"delta": delta, "usage": usage})
        yield named_event("message_stop", {})

    def _fail(self, error: Any) -> Iterator[bytes]:
        self._has_ended = True
        body = messages_error(status_of(error), error)
        yield named_event("error", {"error": body["error"]})


def _begun(block: _Block) -> dict[str, Any]:
    match block.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use":
            return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": {}}
