"""Streams of Anthropic's messages, put together. Pure.

The input of a tool call whose JSON does not parse, because the stream broke or the model wrote it so, stays as the text
`partial_json` beside an empty `input`.
"""

from typing import Any

from leyden.gateway.decoding import read_json
from leyden.gateway.deltas import Pieces, whole
from leyden.gateway.sse import MAX_EVENT_BYTES, JsonStream
from leyden.ingest.shapes import is_list, is_object, object_or_empty

_CONTINUED = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}


class MessageAssembler(JsonStream):
    """Events into one message. Complete with `message_stop`."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        super().__init__(max_event_bytes=max_event_bytes)
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._error: Any = None

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Take one event; kinds that nobody knows are passed over."""
        kind = value["type"] if isinstance(value.get("type"), str) else kind
        if kind == "content_block_delta":
            self._continue(value)
        elif kind == "content_block_start":
            block = value.get("content_block")
            self._blocks[_index(value)] = dict(block) if is_object(block) else {}
        elif kind == "message_start":
            self._message = dict(object_or_empty(value.get("message")))
            self._count(self._message.pop("usage", None))
        elif kind == "message_delta":
            self._end(value)
        elif kind == "message_stop":
            self.is_complete = True
        elif kind == "error":
            self._error = value.get("error") or {}

    def body(self) -> dict[str, Any]:
        """The answer so far, as one body: a message, with `error` when the stream said one; {} before the first event."""
        if not self._message and not self._blocks:
            return {} if self._error is None else {"type": "error", "error": self._error}
        body = {**self._message, "content": [_finished(self._blocks[i]) for i in sorted(self._blocks)]}
        if self._usage:
            body["usage"] = dict(self._usage)
        return body if self._error is None else {**body, "error": self._error}

    def _continue(self, value: dict[str, Any]) -> None:
        block = self._blocks.setdefault(_index(value), {})
        delta = object_or_empty(value.get("delta"))
        kind = delta.get("type")
        field = _CONTINUED.get(kind) if isinstance(kind, str) else None
        if field is not None:
            _append(block, field, delta.get(field))
        elif kind == "citations_delta":
            cited = block.get("citations")
            block["citations"] = cited = cited if is_list(cited) else []
            cited.append(delta.get("citation"))
        else:
            for name, text in delta.items():
                if name != "type":
                    _append(block, name, text)

    def _end(self, value: dict[str, Any]) -> None:
        delta = object_or_empty(value.get("delta"))
        self._message.update({k: v for k, v in delta.items() if v is not None or k not in self._message})
        if value.get("context_management") is not None:
            self._message["context_management"] = value["context_management"]
        self._count(value.get("usage"))

    def _count(self, usage: Any) -> None:
        """Counts are cumulative: none falls, and what a later event leaves out or has as null stands."""
        for name, new in object_or_empty(usage).items():
            old = self._usage.get(name)
            if new is None and old is not None:
                continue
            is_less = isinstance(new, int | float) and isinstance(old, int | float) and new < old
            self._usage[name] = old if is_less else new


def _index(value: dict[str, Any]) -> int:
    index = value.get("index")
    return index if type(index) is int else 0


def _append(block: dict[str, Any], field: str, text: Any) -> None:
    if not isinstance(text, str):
        if text is not None:
            block[field] = text
        return
    old = block.get(field)
    if isinstance(old, Pieces):
        old.append(text)
    else:
        block[field] = Pieces((old, text) if isinstance(old, str) else (text,))


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    done = {key: whole(value) for key, value in block.items()}
    text = done.pop("partial_json", None)
    if not text:
        return done
    read = read_json(text.encode()) if isinstance(text, str) else None
    return {**done, "input": {}, "partial_json": text} if read is None else {**done, "input": read}
