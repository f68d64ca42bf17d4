"""What the chunks of chat completions say: the first choice, and pieces of its tool calls. Raises on nothing."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty


class CallPiece(NamedTuple):
    """A piece of a tool call. at: the number by which the upstream tells its calls apart; "" stands for what it does not say."""

    at: int
    id: str
    name: str
    arguments: str

    def begins_other(self, known_id: str) -> bool:
        """Whether this is no more of the call with that id: Gemini's surface numbers every call 0, and a new id with a name is a new call."""
        return bool(self.name and self.id and self.id != known_id)


def first_choice(chunk: dict[str, Any]) -> dict[str, Any]:
    """What a chunk says of the first choice; {} where that is nothing. Other protocols have one answer."""
    choice = object_or_empty(next(iter(list_or_empty(chunk.get("choices"))), None))
    return choice if choice.get("index", 0) == 0 else {}


def call_pieces(delta: dict[str, Any]) -> Iterator[CallPiece]:
    """All of a chunk's delta."""
    for call in filter(is_object, list_or_empty(delta.get("tool_calls"))):
        at, function = call.get("index", 0), object_or_empty(call.get("function"))
        said = (call.get("id"), function.get("name"), function.get("arguments"))
        yield CallPiece(
            at if isinstance(at, int) else 0, *(text if isinstance(text, str) else "" for text in said)
        )
