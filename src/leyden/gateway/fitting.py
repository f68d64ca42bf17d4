"""How much of a request and of an answer is read for the record: the newest messages, the first tools, texts up to a limit. Pure.

Promises: whatever a client or an upstream sends, the work and the memory that its record takes are bounded. What was left out is counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from leyden.ingest.shapes import is_list, is_object

MOST_MESSAGES = 4_096
MOST_TOOLS = 1_024
MOST_VALUES = 32_768
"""Most objects, lists and texts of a conversation that are read; as many again of the tools. Each takes about a kilobyte until it is
stored."""

_SHORT = 64
"""Characters; a text so short (a role, a type, an id) is never cut."""

_MESSAGES = ("messages", "input", "prompt")
_TOOLS = ("tools", "functions")
_ANSWERS = ("choices", "content", "output")


class Fitting(NamedTuple):
    """What is read of a request. messages, tools and other fields: how many of each were left out."""

    asked: dict[str, Any]
    messages: int
    tools: int
    fields: int


def fitting(asked: Mapping[str, Any], body: bytes) -> Fitting:
    """A request with its newest messages and its first tools, as many as fit. Another field that holds too much is left out whole.

    body: the JSON that it was read from, which tells of nearly every request in microseconds that it fits.
    """
    most = body.count(b"{") + body.count(b"[") + body.count(b'"') // 2
    if most <= MOST_VALUES and all(len(value) <= MOST_TOOLS for value in asked.values() if is_list(value)):
        return Fitting(dict(asked), 0, 0, 0)
    found: dict[str, Any] = {}
    messages = tools = 0
    for name, value in asked.items():
        if name in _MESSAGES and is_list(value):
            found[name] = _last(value)
            messages += len(value) - len(found[name])
        elif name in _TOOLS and is_list(value):
            found[name] = _first(value, MOST_TOOLS, MOST_VALUES)
            tools += len(value) - len(found[name])
        elif values_in(value, MOST_VALUES) <= MOST_VALUES:
            found[name] = value
    return Fitting(found, messages, tools, len(asked) - len(found))


def fitting_answer(body: dict[str, Any]) -> dict[str, Any]:
    """An answer with as many choices, blocks or items as any model is known to make."""
    long = [name for name in _ANSWERS if is_list(body.get(name)) and len(body[name]) > MOST_MESSAGES]
    return body | {name: body[name][:MOST_MESSAGES] for name in long}


def values_in(value: Any, most: int) -> int:
    """Objects, lists and texts in a value, itself among them; counting ends past `most`. Numbers cost nothing: token ids are many."""
    count = 0
    ahead = [value]
    while ahead and count <= most:
        one = ahead.pop()
        if is_object(one):
            ahead.extend(one.values())
        elif is_list(one):
            if not _are_numbers(one):
                ahead.extend(one)
        elif not isinstance(one, str):
            continue
        count += 1
    return count


def newest(messages: Sequence[dict[str, Any]], room: int, *, each: int = 0) -> Sequence[dict[str, Any]]:
    """The last messages that fit into `room` bytes, at least one, whose texts are cut if need be. What the system says stays in front.

    each: bytes that a message takes beside its own.
    """
    sizes = [len(orjson.dumps(message)) + each for message in messages]
    if sum(sizes) <= room:
        return messages
    leads = len(messages) > 1 and is_system(messages[0]) and sizes[0] <= room // 2
    left = room - sizes[0] if leads else room
    start = len(messages)
    while start > leads and sizes[start - 1] <= left:
        start -= 1
        left -= sizes[start]
    kept = messages[start:] or [shortened(messages[-1], left)]
    return [messages[0], *kept] if leads else kept


def first_tools(tools: Sequence[dict[str, Any]], room: int) -> Sequence[dict[str, Any]]:
    """The first tools whose definitions fit into `room` bytes."""
    for kept, tool in enumerate(tools):
        room -= len(orjson.dumps(tool))
        if room < 0:
            return tools[:kept]
    return tools


def shortened(value: Any, room: int) -> Any:
    """The value; when its JSON is longer than `room` bytes, with its texts cut to `room` characters together, and a mark where."""
    try:
        return value if len(orjson.dumps(value)) <= room else _Shears(room).cut(value)
    except TypeError:  # it nests deeper than orjson writes, and is written as null
        return value


def is_system(message: Any) -> bool:
    """Whether it is the system that speaks."""
    return is_object(message) and message.get("role") in ("system", "developer")


class _Shears:
    def __init__(self, room: int) -> None:
        self._room = max(0, room)

    def cut(self, value: Any) -> Any:
        if isinstance(value, str):
            kept = value[: max(self._room, _SHORT)]
            self._room = max(0, self._room - len(kept))
            return value if len(kept) == len(value) else f"{kept}…[+{len(value) - len(kept)} characters]"
        if is_list(value):
            return [self.cut(entry) for entry in value]
        return {key: self.cut(entry) for key, entry in value.items()} if is_object(value) else value


def _are_numbers(entries: list[Any]) -> bool:
    """Whether a list is one of token ids, which may be long and is one text."""
    return set(map(type, entries)) == {int}


def _last(entries: list[Any]) -> list[Any]:
    """The newest entries. What the system says stays in front; of a newest one that holds too much, the first blocks stay."""
    if _are_numbers(entries):
        return entries
    left = MOST_VALUES
    front: list[Any] = []
    if entries and is_system(entries[0]) and (size := values_in(entries[0], left // 2)) <= left // 2:
        front, left = [entries[0]], left - size
    start = len(entries)
    while start > max(len(front), len(entries) - MOST_MESSAGES):
        left -= values_in(entries[start - 1], left)
        if left < 0:
            break
        start -= 1
    kept = entries[start:]
    if not kept and len(entries) > len(front):
        kept = _trimmed(entries[-1])
    return front + kept


def _trimmed(entry: Any) -> list[Any]:
    """A message with its first blocks, and nothing of one that is too much in another way."""
    if not is_object(entry) or not is_list(entry.get("content")):
        return []
    trimmed = {**entry, "content": _first(entry["content"], MOST_MESSAGES, MOST_VALUES // 2)}
    return [trimmed] if values_in(trimmed, MOST_VALUES) <= MOST_VALUES else []


def _first(entries: list[Any], most: int, left: int) -> list[Any]:
    """The first entries: `most` of them, which hold `left` values."""
    for kept, entry in enumerate(entries[:most]):
        left -= values_in(entry, left)
        if left < 0:
            return entries[:kept]
    return entries[:most]
