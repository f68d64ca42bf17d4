"""Streams of OpenAI's Responses API, put together. Pure.

The last event carries the whole response, which is then the body. A stream that breaks before it is put together from its
items; so is the output of a last event that leaves it empty, as some servers do.
"""

from typing import Any, NamedTuple

from leyden.gateway.deltas import Growing, Pieces, whole
from leyden.gateway.sse import MAX_EVENT_BYTES, JsonStream
from leyden.ingest.shapes import is_list, is_object, list_or_empty

_LAST = frozenset(f"response.{status}" for status in ("completed", "incomplete", "failed", "cancelled"))


class _Place(NamedTuple):
    """Where in an item a text is: its field, or the field of an entry of one of its lists."""

    field: str
    entries: str | None = None  # the list
    position: str = ""  # the event's field that says which entry
    kind: str = ""  # the type of that entry


_PLACES = {
    "response.output_text": _Place("text", "content", "content_index", "output_text"),
    "response.refusal": _Place("refusal", "content", "content_index", "refusal"),
    "response.reasoning_text": _Place("text", "content", "content_index", "reasoning_text"),
    "response.reasoning_summary_text": _Place("text", "summary", "summary_index", "summary_text"),
    "response.function_call_arguments": _Place("arguments"),
    "response.mcp_call_arguments": _Place("arguments"),
    "response.custom_tool_call_input": _Place("input"),
    "response.code_interpreter_call_code": _Place("code"),
}
_PARTS = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}


class ResponseAssembler(JsonStream):
    """Events into one response. Complete with response.completed, .incomplete, .failed or .cancelled."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        super().__init__(max_event_bytes=max_event_bytes)
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._entries: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}  # of an item's list, by position
        self._error: Any = None

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Take one event; kinds that nobody knows are passed over."""
        kind = value["type"] if isinstance(value.get("type"), str) else kind
        about, _, step = kind.rpartition(".")
        if place := _PLACES.get(about):
            self._take_text(place, step, value)
        elif about in _PARTS and is_object(value.get("part")):
            name, index = _PARTS[about]
            self._list(value, name)[_index(value, index)] = dict(value["part"])
        elif about == "response.output_item" and is_object(value.get("item")):
            self._begin(_index(value, "output_index"), value["item"])
        elif kind == "response.output_text.annotation.added":
            part = self._entry(value, _PLACES["response.output_text"])
            part["annotations"] = [*list_or_empty(part.get("annotations")), value.get("annotation")]
        elif is_object(value.get("response")):
            self._response = value["response"]
            self.is_complete = self.is_complete or kind in _LAST
        elif kind == "error":
            error = value.get("error")
            self._error = (
                error if is_object(error) else {k: v for k, v in value.items() if k != "sequence_number"}
            )

    def done(self) -> None:
        """`[DONE]` says nothing here: what counts is the event with the response."""
        self.is_complete = self._response.get("status") in ("completed", "incomplete", "failed", "cancelled")

    def body(self) -> dict[str, Any]:
        """The answer so far, as one body; {} before the first event."""
        body = dict(self._response)
        if self._items and not (self.is_complete and body.get("output")):
            body["output"] = [self._whole(index) for index in sorted(self._items)]
        if self._error is not None and not body.get("error"):
            body["error"] = self._error
        return body

    def _begin(self, index: int, item: dict[str, Any]) -> None:
        self._items[index] = dict(item)
        for name in ("content", "summary"):
            self._entries.pop((index, name), None)

    def _item(self, value: dict[str, Any]) -> dict[str, Any]:
        return self._items.setdefault(_index(value, "output_index"), {})

    def _list(self, value: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
        """The entries of one of an item's lists, from those that the item came with on."""
        key = _index(value, "output_index"), name
        if key not in self._entries:
            came = enumerate(list_or_empty(self._item(value).get(name)))
            self._entries[key] = {i: dict(entry) for i, entry in came if is_object(entry)}
        return self._entries[key]

    def _entry(self, value: dict[str, Any], place: _Place) -> dict[str, Any]:
        """The entry that an event is about, made when the event that begins it is missing."""
        entries = self._list(value, place.entries or "content")
        return entries.setdefault(_index(value, place.position), {"type": place.kind})

    def _whole(self, index: int) -> dict[str, Any]:
        """The item with its lists and texts joined."""
        item = whole(Growing(self._items[index]))
        for name in ("content", "summary"):
            if entries := self._entries.get((index, name)):
                item[name] = [whole(Growing(entries[i])) for i in sorted(entries)]
        return item

    def _take_text(self, place: _Place, step: str, value: dict[str, Any]) -> None:
        holder = self._entry(value, place) if place.entries else self._item(value)
        if step == "done" and isinstance(value.get(place.field), str):
            holder[place.field] = value[place.field]
        elif step == "delta" and isinstance(value.get("delta"), str):
            old = holder.get(place.field)
            if not isinstance(old, Pieces):
                old = holder[place.field] = Pieces((old,) if isinstance(old, str) else ())
            old.append(value["delta"])
            if logprobs := list_or_empty(value.get("logprobs")):
                kept = holder.get("logprobs")
                holder["logprobs"] = kept = kept if is_list(kept) else []
                kept += logprobs


def _index(value: dict[str, Any], name: str) -> int:
    index = value.get(name)
    return index if type(index) is int and index >= 0 else 0
