"""Streams of OpenAI's chat completions and legacy completions, put together. Pure.

Fields that upstreams add (vLLM's token ids, Gemini's thought signatures, Azure's filter results) are kept where they were.
"""

from typing import Any

from leyden.gateway.deltas import Growing, grow, grow_field, whole
from leyden.gateway.sse import MAX_EVENT_BYTES, JsonStream
from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty


class ChunkAssembler(JsonStream):
    """Chunks into one chat completion, or one text completion: they differ in where a choice's text is.

    Complete with `[DONE]`, or once every choice that began has its finish_reason.
    """

    def __init__(self, *, is_chat: bool, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        super().__init__(max_event_bytes=max_event_bytes)
        self._is_chat = is_chat
        self._top: dict[str, Any] = {}
        self._newest: dict[str, Any] = {}
        self._choices: dict[int, Growing] = {}
        self._unfinished = 0
        self._is_done = False

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Take one chunk."""
        choices = value.pop("choices", None)
        value.pop("obfuscation", None)
        if value != self._newest:  # nearly every chunk says again who it is from
            self._newest = value
            self._take_top(value)
        for choice in list_or_empty(choices):
            if is_object(choice):
                self._take_choice(choice)
        self.is_complete = self._is_done or (self._unfinished == 0 and bool(self._choices))

    def done(self) -> None:
        """The stream said that it is over."""
        self._is_done = True

    def body(self) -> dict[str, Any]:
        """The answer so far, as one body; {} before the first chunk."""
        top = dict(self._top)
        kind = top.get("object")
        if isinstance(kind, str):
            top["object"] = kind.removesuffix(".chunk")
        if self._choices or "id" in top:
            top["choices"] = [self._finished(self._choices[index]) for index in sorted(self._choices)]
        return top

    def _take_top(self, value: dict[str, Any]) -> None:
        for key, entry in value.items():
            # Azure's first chunk and every chunk before the last say "", 0 or null where others say more.
            if entry or key not in self._top:
                self._top[key] = entry
        if "x_groq" in value and not self._top.get("usage"):
            self._top["usage"] = object_or_empty(value["x_groq"]).get("usage")

    def _take_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        if type(index) is not int:
            index = 0
        grown = self._choices.get(index)
        if grown is None:
            grown = self._choices[index] = Growing(index=index, message=Growing())
            self._unfinished += 1
        for key, value in choice.items():
            if key == "delta" and is_object(value):
                grow(grown["message"], value)
            elif value is None:
                if key not in grown:
                    grown[key] = None
            elif key == "finish_reason":
                self._unfinished -= bool(value) and not grown.get(key)
                grown[key] = value or grown.get(key)
            elif key not in ("index", "message", "delta"):
                grow_field(grown, key, value)

    def _finished(self, grown: Growing) -> dict[str, Any]:
        choice = whole(grown)
        message = choice["message"]
        if not message and not self._is_chat:
            del choice["message"]
            return choice
        calls = message.get("tool_calls")
        if is_list(calls):
            message["tool_calls"] = [_without_index(call) for call in calls]
        # Where an answer is nothing but calls or sound, a stream may begin with "" what a body has as null.
        is_elsewhere = any(message.get(key) for key in ("tool_calls", "function_call", "audio"))
        content = message.pop("content", None)
        role = message.pop("role", None) or "assistant"
        choice["message"] = {
            "role": role,
            "content": None if is_elsewhere and not content else content,
        } | message
        return choice


def _without_index(call: Any) -> Any:
    return {key: value for key, value in call.items() if key != "index"} if is_object(call) else call
