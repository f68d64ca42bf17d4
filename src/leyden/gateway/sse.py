"""Server-sent events out of bytes that arrive in pieces, by the rules of the WHATWG HTML standard (§9.2).

Owns: where an event begins and ends. Promises: the events never depend on where the bytes were cut, work grows with the
bytes alone, and no event over the limit is kept. Refuses to know: what an event's data means.
"""

from typing import Any, NamedTuple

from leyden.gateway.decoding import read_json
from leyden.ingest.shapes import is_object

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""Longest event that is read, in bytes between its blank lines."""

_BOM = b"\xef\xbb\xbf"
_LF = 10


class Event(NamedTuple):
    """One event. type is "message" when the stream names none; data lines are joined with a line feed."""

    type: str
    data: bytes


class Parser:
    """Reads one stream.

    dropped: events over the limit, left out. last_id: the newest `id` field, which outlives its event as the standard asks.
    """

    __slots__ = ("_after_cr", "_begun", "_is_skipping", "_limit", "_tail", "dropped", "last_id")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.dropped = 0
        self.last_id = ""
        self._limit = max_event_bytes
        self._begun: bytes | None = b""  # the first bytes, while they may be half a byte order mark
        self._after_cr = False
        self._is_skipping = False
        self._tail = bytearray()  # what came since the last blank line; of a dropped event its last byte

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in `piece`."""
        return self._take(self._plain(piece))

    def _take(self, piece: bytes) -> list[Event]:
        """The events that end in bytes whose line ends are plain."""
        if not piece:
            return []
        if self._is_skipping:
            return self._skip(piece)
        tail = self._tail
        if tail:
            ends = b"\n\n" in piece or (piece[0] == _LF and tail[-1] == _LF)
            tail += piece
            if not ends:
                self._bound()
                return []
            piece = bytes(tail)
            tail.clear()
        blocks = piece.split(b"\n\n")
        tail += blocks.pop()
        self._bound()
        return [event for block in blocks if (event := self._event(block)) is not None]

    def flush(self) -> list[Event]:
        """The event at the end of a stream that stopped without its blank line. The standard drops it; ask only to keep it."""
        block = bytes(self._tail).removesuffix(b"\n")
        skipped, self._is_skipping = self._is_skipping, False
        self._tail.clear()
        event = None if skipped else self._event(block)
        return [] if event is None else [event]

    def skip(self) -> None:
        """What comes next does not follow what came before: the event that is open is left out, and so is the one that it begins in."""
        self._tail.clear()
        self._begun, self._after_cr, self._is_skipping = None, False, True

    def _plain(self, piece: bytes) -> bytes:
        """The bytes with LF as the only line end, and without the byte order mark."""
        if self._begun is not None:
            piece = self._begun + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._begun = piece
                return b""
            self._begun = None
            piece = piece.removeprefix(_BOM)
        if self._after_cr and piece:
            # The line end was taken with its CR; the LF of a CRLF cut in two is no second one.
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece

    def _bound(self) -> None:
        # One byte more may be the first half of the blank line, which is no part of the event.
        if len(self._tail) > self._limit + 1:
            self.dropped += 1
            self._is_skipping = True
            del self._tail[:-1]

    def _skip(self, piece: bytes) -> list[Event]:
        piece = bytes(self._tail) + piece
        end = piece.find(b"\n\n")
        if end < 0:
            self._tail[:] = piece[-1:]
            return []
        self._is_skipping = False
        self._tail.clear()
        return self._take(piece[end + 2 :])

    def _event(self, block: bytes) -> Event | None:
        if len(block) > self._limit:
            self.dropped += 1
            return None
        if block.startswith(b"data: ") and b"\n" not in block:
            return Event("message", block[6:])
        if block.startswith(b"event: ") and block.count(b"\n") == 1:
            kind, found, value = block.partition(b"\ndata: ")
            if found:
                return Event(kind[7:].decode("utf-8", "replace") or "message", value)
        kind, data = b"", list[bytes]()
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                kind = value
            elif name == b"id" and b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace")
        return Event(kind.decode("utf-8", "replace") or "message", b"\n".join(data)) if data else None


class JsonStream:
    """What the streams of all protocols share: events whose data is a JSON object, and OpenAI's `[DONE]`.

    A protocol adds `take`, which gets each object. broken counts data that is no JSON object, and events over the limit.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.broken = 0
        self.is_complete = False
        self._parser = Parser(max_event_bytes=max_event_bytes)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        dropped = self._parser.dropped
        self._take(self._parser.feed(piece))
        self.broken += self._parser.dropped - dropped

    def skip(self) -> None:
        """What comes next does not follow what came before."""
        self._parser.skip()

    def end(self) -> None:
        """Nothing comes any more: a last event may lack its blank line."""
        self._take(self._parser.flush())

    def _take(self, events: list[Event]) -> None:
        for kind, data in events:
            if data.startswith(b"[DONE]"):
                self.is_complete = True
                self.done()
                continue
            value = read_json(data)
            if is_object(value):
                self.take(kind, value)
            else:
                self.broken += 1

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Take one event's object; kind is the event's type."""
        raise NotImplementedError

    def done(self) -> None:
        """The stream said that it is over."""
