"""Server-sent events with JSON in them, as both protocols send them: read from an upstream, written for a client."""

import json
from collections.abc import Iterator
from typing import Any

from leyden.gateway.decoding import read_json
from leyden.gateway.sse import Event, Parser
from leyden.ingest.shapes import is_object

DONE_EVENT = b"data: [DONE]\n\n"
INCOMPLETE = "The upstream's stream ended before its answer was complete."


class Objects:
    """The JSON object of each event, and None where the upstream says `[DONE]`. What is no object is left out."""

    def __init__(self) -> None:
        self._parser = Parser()

    def feed(self, piece: bytes) -> Iterator[dict[str, Any] | None]:
        """Of the events that end in these bytes."""
        return _objects(self._parser.feed(piece))

    def end(self) -> Iterator[dict[str, Any] | None]:
        """Of the last event, when the upstream left out the blank line behind it."""
        return _objects(self._parser.flush())


def _objects(events: list[Event]) -> Iterator[dict[str, Any] | None]:
    for event in events:
        if event.data.strip() == b"[DONE]":
            yield None
        elif is_object(value := read_json(event.data)):
            yield value


def named_event(name: str, fields: dict[str, Any]) -> bytes:
    """An event of Anthropic's kind: its name stands before the data and in it."""
    return b"event: %s\n%s" % (name.encode(), data_event({"type": name, **fields}))


def data_event(fields: dict[str, Any]) -> bytes:
    """An event of OpenAI's kind."""
    # Escaped: half a character that an upstream cut in two is no UTF-8 and would end the client's stream.
    return b"data: %s\n\n" % json.dumps(fields, separators=(",", ":")).encode()
