"""Bytes of a stream on their way to the client: as they came, but for what only we asked for. Pure.

Refuses to know: sockets; what a stream says as a whole (`wires.py`).
"""

import re

import orjson

from leyden.ingest.shapes import is_object

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NO_CHOICES = re.compile(rb'"choices"[ \t]*:[ \t]*\[[ \t]*\]')
# An event longer than this is none that we look for, and is handed on before it is whole.
_LONGEST = 64 * 1024


class WithoutUsage:
    """Leaves the chunk out that carries a chat stream's token counts and nothing else: the client did not ask for it."""

    def __init__(self) -> None:
        self._held = b""
        self._passing = False  # in the middle of an event that is longer than any we look for

    def feed(self, piece: bytes) -> bytes:
        """What the client gets of these bytes now; the rest of an event that is not whole yet is kept back."""
        if not self._held and not self._passing and _is_whole(piece):
            return _without_usage(piece)
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

    def end(self) -> bytes:
        """What is left when the upstream is done."""
        rest, self._held = self._held, b""
        return rest if self._passing or not _is_usage(rest) else b""


def _is_whole(piece: bytes) -> bool:
    """Whether a piece is nothing but whole events with plain line ends between them, as nearly all are."""
    return piece.endswith(b"\n\n") and b"\n\n\n" not in piece and b"\r" not in piece


def _without_usage(piece: bytes) -> bytes:
    """Whole events without those that `include_usage` adds. Only events that look like one are looked at."""
    kept: list[bytes] = []
    start = 0
    found = _NO_CHOICES.search(piece)
    while found is not None:
        before = piece.rfind(b"\n\n", start, found.start())
        begin = start if before < 0 else before + 2
        end = piece.index(b"\n\n", found.end()) + 2
        kept.append(piece[start : begin if _is_usage(piece[begin:end]) else end])
        start = end
        found = _NO_CHOICES.search(piece, start)
    return b"".join([*kept, piece[start:]]) if kept else piece


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
