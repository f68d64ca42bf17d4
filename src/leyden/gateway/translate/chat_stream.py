"""Events of Anthropic's Messages as they come → chat chunks.

Each event that says something becomes a chunk at once; several open content blocks are kept apart by their index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leyden.gateway.translate.events import DONE_EVENT, ToldStream, data_event
from leyden.gateway.translate.failure import chat_error, status_of
from leyden.gateway.translate.fields import plain_json
from leyden.gateway.translate.outcome import chat_usage, completion_id, finish_reason, merged_usage
from leyden.ingest.shapes import object_or_empty


@dataclass(slots=True)
class _Call:
    """A tool call whose block is open. input: what the block began with, which is {} where the arguments follow."""

    n: int
    input: dict[str, Any]
    has_arguments: bool = False


class ChatStream(ToldStream):
    """One stream. model: what to call it until the upstream says; created: unix seconds; with_usage: the client asked for it."""

    def __init__(self, *, model: str, created: int, with_usage: bool) -> None:
        super().__init__()
        self._model = model
        self._created = created
        self._with_usage = with_usage
        self._id = completion_id("")
        self._calls: dict[str, _Call] = {}  # by the index of the open block
        self._made = 0
        self._usage: dict[str, Any] = {}

    def _tell(self, event: dict[str, Any]) -> Iterator[bytes]:
        index = str(event.get("index"))
        match event.get("type"):
            case "message_start":
                yield self._start(object_or_empty(event.get("message")))
            case "content_block_start":
                yield from self._open(index, object_or_empty(event.get("content_block")))
            case "content_block_delta":
                yield from self._delta(index, object_or_empty(event.get("delta")))
            case "content_block_stop":
                yield from self._close_block(index)
            case "message_delta":
                yield from self._message_delta(event)
            case "message_stop":
                yield from self._close()
            case "error":
                yield from self._fail(event)
            case _:
                return

    def _start(self, message: dict[str, Any]) -> bytes:
        self._id = completion_id(message.get("id"))
        self._model = message.get("model") or self._model
        self._usage = merged_usage(self._usage, message.get("usage"))
        return self._chunk({"role": "assistant", "content": ""})

    def _open(self, index: str, block: dict[str, Any]) -> Iterator[bytes]:
        match block.get("type"):
            case "text":
                yield from self._say("content", block.get("text"))
            case "thinking":
                yield from self._say("reasoning_content", block.get("thinking"))
            case "tool_use":
                call = self._calls[index] = _Call(self._made, object_or_empty(block.get("input")))
                self._made += 1
                function = {"name": block.get("name"), "arguments": ""}
                yield self._call(
                    {"index": call.n, "id": block.get("id"), "type": "function", "function": function}
                )
            case _:
                return

    def _delta(self, index: str, delta: dict[str, Any]) -> Iterator[bytes]:
        match delta.get("type"):
            case "text_delta":
                yield from self._say("content", delta.get("text"))
            case "thinking_delta":
                yield from self._say("reasoning_content", delta.get("thinking"))
            case "input_json_delta":
                call, piece = self._calls.get(index), delta.get("partial_json")
                if call is not None and isinstance(piece, str) and piece:
                    yield self._arguments(call, piece)
            case _:
                return

    def _say(self, field: str, said: Any) -> Iterator[bytes]:
        if isinstance(said, str) and said:
            yield self._chunk({field: said})

    def _close_block(self, index: str) -> Iterator[bytes]:
        call = self._calls.pop(index, None)
        if call is not None and not call.has_arguments:
            # A call without arguments streams none at all; chat clients want JSON even then.
            yield self._arguments(call, plain_json(call.input))

    def _arguments(self, call: _Call, piece: str) -> bytes:
        call.has_arguments = True
        return self._call({"index": call.n, "function": {"arguments": piece}})

    def _call(self, call: dict[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [call]})

    def _message_delta(self, event: dict[str, Any]) -> Iterator[bytes]:
        self._usage = merged_usage(self._usage, event.get("usage"))
        reason = object_or_empty(event.get("delta")).get("stop_reason")
        if reason and not self._is_complete:
            self._is_complete = True
            yield self._chunk({}, finish=finish_reason(reason))

    def _finish(self) -> Iterator[bytes]:
        self._has_ended = True
        if self._with_usage:
            yield data_event({**self._envelope(), "choices": [], "usage": chat_usage(self._usage)})
        yield DONE_EVENT

    def _fail(self, error: Any) -> Iterator[bytes]:
        self._has_ended = True
        yield data_event(chat_error(status_of(error), error))
        yield DONE_EVENT

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._with_usage else {}
        return data_event({**self._envelope(), "choices": [choice], **usage})

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
