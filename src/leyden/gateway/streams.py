"""Bytes of a stream on their way to the client: as they came, but for what only we asked for. Pure.

Refuses to know: sockets; what a stream says as a whole (`wires.py`).
"""

import re

import orjson

from leyden.ingest.shapes import is_object

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
# An event longer than this is none that we look for, and is handed on before it is whole.
_LONGEST = 64 * 1024


class WithoutUsage:
    """Leaves the chunk out that carries a chat stream's token counts and nothing else: the client did not ask for it."""

    def __init__(self) -> None:
        self._held = b""
        self._passing = False  # in the middle of an event that is longer than any we look for

    def feed(self, piece: bytes) -> bytes:
        """What the client gets of these bytes now; the rest of an event that is not whole yet is kept back."""
        if self._is_plain(piece):
            return piece
        held = self._held + piece
        out: list[bytes] = []
        start = 0
        for end in _END.finditer(held):
            event = held[start : end.end()]
            if self._passing or not _is_usage(event):
                out.append(event)
            self._passing = False
            start = end.end()
        rest = held[start:]
        if self._passing or len(rest) > _LONGEST:
            # A line end at the very end may be half of an event's end.
            keep = len(rest) - len(rest.rstrip(b"\r\n"))
            out.append(rest[: len(rest) - keep])
            rest, self._passing = rest[len(rest) - keep :], True
        self._held = rest
        return b"".join(out)

    def _is_plain(self, piece: bytes) -> bool:
        """Whether a piece is whole events without counts, as nearly all are: told without looking at each."""
        if self._held or self._passing or piece[-2:] != b"\n\n" or piece[-3:-2] in b"\r\n":
            return False
        return _NO_CHOICES.search(piece) is None

    def end(self) -> bytes:
        """What is left when the upstream is done."""
        rest, self._held = self._held, b""
        return rest if self._passing or not _is_usage(rest) else b""


def _is_usage(event: bytes) -> bool:
    """Whether an event is the chunk that `include_usage` adds: no choices, but counts."""
    if _NO_CHOICES.search(event) is None or b'"usage"' not in event:
        return False
    at = event.find(b"data:")
    try:
        chunk = orjson.loads(event[at + 5 :].strip())
    except orjson.JSONDecodeError:
        return False
    return is_object(chunk) and chunk.get("choices") == [] and bool(chunk.get("usage"))
