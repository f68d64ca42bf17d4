"""Server-sent events with JSON in them, as all protocols send them: read from an upstream, told to a client, ended once."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from leyden.gateway.decoding import read_json
from leyden.gateway.sse import Event, Parser
from leyden.ingest.shapes import is_object

DONE_EVENT = b"data: [DONE]\n\n"
INCOMPLETE = "The upstream's stream ended before its answer was complete."


class ToldStream(ABC):
    """A StreamTranslator: one object of the upstream's after the other is told, until the stream has ended, which happens once.

    A protocol adds what it tells. It sets `_is_complete` once the upstream has said how its answer ended, and `_has_ended` by its end.
    """

    def __init__(self) -> None:
        self._parser = Parser()
        self._is_complete = False
        self._has_ended = False

    def feed(self, piece: bytes) -> bytes:
        """Events for what these bytes complete."""
        return b"".join(self._told(self._parser.feed(piece)))

    def end(self, *, error: str | None = None) -> bytes:
        """What is missing: the rest of a complete answer, or an error."""
        told = list(self._told(self._parser.flush()))
        if not self._has_ended:
            told += self._fail(error) if error is not None else self._close()
        return b"".join(told)

    def _told(self, events: list[Event]) -> Iterator[bytes]:
        for value in _objects(events):
            if self._has_ended:
                return
            yield from self._close() if value is None else self._tell(value)

    def _close(self) -> Iterator[bytes]:
        return self._finish() if self._is_complete else self._fail(INCOMPLETE)

    @abstractmethod
    def _tell(self, value: dict[str, Any], /) -> Iterator[bytes]:
        """Of one object that the upstream sent."""

    @abstractmethod
    def _finish(self) -> Iterator[bytes]:
        """The end of a complete answer."""

    @abstractmethod
    def _fail(self, error: Any) -> Iterator[bytes]:
        """The end of one that failed. error: a message, or the object in which the upstream says it."""


def _objects(events: list[Event]) -> Iterator[dict[str, Any] | None]:
    """The JSON object of each event, and None where the upstream says `[DONE]`. What is no object is left out."""
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
