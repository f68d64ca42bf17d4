"""Recorded bytes back into what they say: content-encodings undone, JSON read.

Promises: never raises, never gives more than the limit however well the bytes were compressed, and of a cut or broken body
everything up to the fault. Refuses to know: HTTP and protocols.
"""

import importlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import zstandard

MAX_BYTES = 64 * 1024 * 1024
"""Most that a body may decode to, in bytes."""

_STEP = 64 * 1024
_ZSTD_STEP = (
    512  # four bytes may stand for 128 KiB, and the library bounds no output: 16 MiB at most come of one step
)
_MAX_WINDOW = 128 * 1024 * 1024  # a zstd frame may ask for gigabytes of memory before its first byte


class Decoded(NamedTuple):
    """A body without its encodings. problem: None when it is whole, else why it stops where it does."""

    data: bytes
    problem: str | None = None


class _Stop(Exception):
    """The rest cannot be decoded. Never leaves this module."""


def decoded(body: Sequence[bytes], encoding: str, *, limit: int = MAX_BYTES) -> Decoded:
    """Undo a Content-Encoding header: gzip, deflate, br, zstd, or several with commas, the last one applied last.

    br needs the package `brotli` of version 1.2 or newer, the first that can bound its output.
    """
    pieces: Iterable[bytes] = body
    problems: list[str] = []
    for name in reversed(encoding.lower().split(",")):
        name = name.strip()
        if name in ("", "identity"):
            continue
        unpack = _UNPACKERS.get(name)
        if unpack is None:
            return Decoded(b"", f"unknown content-encoding {name!r}")
        pieces = _until_fault(unpack(pieces), problems)
    return _joined(pieces, problems, limit=limit)


def read_json(data: bytes | bytearray) -> Any:
    """The value of a JSON text; None when it is none.

    What strict JSON refuses and servers send all the same is read too: broken UTF-8 and lone surrogates become U+FFFD, NaN
    and Infinity null.
    """
    try:
        return orjson.loads(data)
    except ValueError:
        return _read_loosely(data)


def _read_loosely(data: bytes | bytearray) -> Any:
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        return None


def _until_fault(pieces: Iterator[bytes], problems: list[str]) -> Iterator[bytes]:
    try:
        yield from pieces
    except _Stop as stop:
        problems.append(str(stop))


def _joined(pieces: Iterable[bytes], problems: list[str], *, limit: int) -> Decoded:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > limit:
            del data[limit:]
            return Decoded(bytes(data), f"more than {limit} bytes")
    return Decoded(bytes(data), problems[0] if problems else None)


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    return _inflate(pieces, wbits=zlib.MAX_WBITS | 16)


def _inflate_any(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`deflate` means a zlib stream; some servers send one without its two header bytes."""
    source = iter(pieces)
    head = b""
    while len(head) < 2 and (piece := next(source, None)) is not None:
        head += piece
    has_header = len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2]) % 31 == 0
    return _inflate(_chain(head, source), wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _inflate(pieces: Iterable[bytes], *, wbits: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits)
    is_begun = False
    for piece in pieces:
        while piece:
            if decoder.eof:  # a second gzip member may follow the first
                decoder = zlib.decompressobj(wbits)
            is_begun = True
            try:
                out = decoder.decompress(piece, _STEP)
            except zlib.error as error:
                raise _Stop(f"broken: {error}") from error
            yield out
            piece = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if not piece and not decoder.eof and len(out) == _STEP:
                yield from _rest(decoder)
    if is_begun and not decoder.eof:
        raise _Stop("cut")


def _rest(decoder: Any) -> Iterator[bytes]:
    """What the decoder holds back after its last input: zlib buffers up to a window of output."""
    while out := decoder.decompress(b"", _STEP):
        yield out


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    decoder = None
    for piece in pieces:
        at = 0
        while at < len(piece):
            decoder = decoder or decompressor.decompressobj()
            step = piece[at : at + _ZSTD_STEP]
            try:
                yield decoder.decompress(step)
            except zstandard.ZstdError as error:
                raise _Stop(f"broken: {error}") from error
            at += len(step)
            if decoder.eof:  # another frame may follow
                at -= len(decoder.unused_data)
                decoder = None
    if decoder:
        raise _Stop("cut")


def _unbrotli(pieces: Iterable[bytes]) -> Iterator[bytes]:
    try:
        brotli: Any = importlib.import_module("brotli")
        decoder = brotli.Decompressor()
        _ = decoder.can_accept_more_data  # came with the bound
    except (ImportError, AttributeError) as error:
        raise _Stop("content-encoding br needs the package brotli 1.2 or newer") from error
    is_begun = False
    for piece in pieces:
        is_begun = is_begun or bool(piece)
        try:
            out = decoder.process(piece, output_buffer_limit=_STEP)
            while out:
                yield out
                out = decoder.process(b"", output_buffer_limit=_STEP)
        except brotli.error as error:
            raise _Stop(f"broken: {error}") from error
    if is_begun and not decoder.is_finished():
        raise _Stop("cut")


_UNPACKERS = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate_any,
    "zstd": _unzstd,
    "br": _unbrotli,
}
