"""Bytes back into what they say: content-encodings undone, of a whole body or as it comes, and JSON read.

Promises: never gives more than the limit however well the bytes were compressed, and of a cut or broken body everything up to the
fault. Refuses to know: HTTP and protocols.
"""

import importlib
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
import zstandard

from leyden.errors import BadFormat

MAX_BYTES = 64 * 1024 * 1024
"""Most that a body may decode to, in bytes."""

_STEP = 64 * 1024
_ZSTD_STEP = (
    512  # four bytes may stand for 128 KiB, and the library bounds no output: 16 MiB at most come of one step
)
_BROTLI_STEP = 512  # a fault takes what the library has undone of the same input and not handed out yet
_MAX_WINDOW = 128 * 1024 * 1024  # a zstd frame may ask for gigabytes of memory before its first byte


class Decoded(NamedTuple):
    """A body without its encodings. problem: None when it is whole, else why it stops where it does."""

    data: bytes
    problem: str | None = None


class _Unpacker(Protocol):
    """Undoes one encoding."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What these bytes complete, in steps that are bounded. Raises BadFormat where they are broken."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing; true before the first byte."""
        ...


class Decoder:
    """Undoes the Content-Encoding of one body while it comes: gzip, deflate, br, zstd, or several with commas, the last one applied last.

    br needs the package `brotli` of version 1.2 or newer, the first that can bound its output. Raises BadFormat for an encoding that
    nobody knows.
    """

    def __init__(self, encoding: str) -> None:
        names = [name.strip() for name in encoding.lower().split(",")]
        self._unpackers = [_unpacker(name) for name in reversed(names) if name not in ("", "identity")]

    def feed(self, piece: bytes, *, limit: int = MAX_BYTES) -> Iterator[bytes]:
        """What this piece completes, in steps of 16 MiB at most.

        Raises BadFormat, after all that came before, where the bytes are broken or become more than `limit`.
        """
        steps: Iterator[bytes] = iter((piece,))
        for unpacker in self._unpackers:
            steps = _each(unpacker, steps)
        made = 0
        for step in steps:
            yield step
            made += len(step)
            if made > limit:
                raise BadFormat(f"more than {limit} bytes")

    @property
    def is_whole(self) -> bool:
        """Whether the encoding says that nothing is missing."""
        return all(unpacker.is_whole for unpacker in self._unpackers)


def decoded(body: Sequence[bytes], encoding: str, *, limit: int = MAX_BYTES) -> Decoded:
    """Undo the Content-Encoding of a body that is there (see Decoder). Never raises."""
    data = bytearray()
    try:
        decoder = Decoder(encoding)
        for piece in body:
            for step in decoder.feed(piece, limit=limit) if encoding else (piece,):
                data += step
                if len(data) > limit:
                    del data[limit:]
                    return Decoded(bytes(data), f"more than {limit} bytes")
    except BadFormat as fault:
        return Decoded(bytes(data), fault.message)
    return Decoded(bytes(data), None if decoder.is_whole else "cut")


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


def _each(unpacker: _Unpacker, steps: Iterator[bytes]) -> Iterator[bytes]:
    for step in steps:
        yield from unpacker.feed(step)


def _unpacker(name: str) -> _Unpacker:
    match name:
        case "gzip" | "x-gzip":
            return _Inflate(zlib.MAX_WBITS | 16)
        case "deflate":
            return _InflateAny()
        case "zstd":
            return _Zstd()
        case "br":
            return _Brotli()
        case _:
            raise BadFormat(f"unknown content-encoding {name!r}")


class _Inflate:
    """gzip, and deflate with or without its header, as `wbits` says."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._decoder: Any = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._decoder is None or self._decoder.eof:  # a second gzip member may follow the first
                self._decoder = zlib.decompressobj(self._wbits)
            yield (step := self._step(piece))
            decoder = self._decoder
            piece = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if not piece and not decoder.eof and len(step) == _STEP:
                # What the decoder holds back after its last input: zlib buffers up to a window of output.
                while step := self._step(b""):
                    yield step

    @property
    def is_whole(self) -> bool:
        return self._decoder is None or self._decoder.eof

    def _step(self, piece: bytes) -> bytes:
        try:
            return self._decoder.decompress(piece, _STEP)
        except zlib.error as error:
            raise BadFormat(f"broken: {error}") from error


class _InflateAny:
    """`deflate` means a zlib stream; some servers send one without its two header bytes."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: _Inflate | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            piece = self._head = self._head + piece
            if len(piece) < 2:
                return
            has_header = piece[0] & 15 == 8 and int.from_bytes(piece[:2]) % 31 == 0
            self._inflate = _Inflate(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        yield from self._inflate.feed(piece)

    @property
    def is_whole(self) -> bool:
        return not self._head if self._inflate is None else self._inflate.is_whole


class _Zstd:
    """One zstd frame after the other."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._decoder: Any = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(piece):
            self._decoder = self._decoder or self._decompressor.decompressobj()
            step = piece[at : at + _ZSTD_STEP]
            try:
                yield self._decoder.decompress(step)
            except zstandard.ZstdError as error:
                raise BadFormat(f"broken: {error}") from error
            at += len(step)
            if self._decoder.eof:  # another frame may follow
                at -= len(self._decoder.unused_data)
                self._decoder = None

    @property
    def is_whole(self) -> bool:
        return self._decoder is None


class _Brotli:
    """br."""

    def __init__(self) -> None:
        try:
            self._brotli: Any = importlib.import_module("brotli")
            self._decoder = self._brotli.Decompressor()
            _ = self._decoder.can_accept_more_data  # came with the bound
        except (ImportError, AttributeError) as error:
            raise BadFormat("content-encoding br needs the package brotli 1.2 or newer") from error
        self._is_begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._is_begun = self._is_begun or bool(piece)
        for at in range(0, len(piece), _BROTLI_STEP):
            step = self._step(piece[at : at + _BROTLI_STEP])
            while step:
                yield step
                step = self._step(b"")

    @property
    def is_whole(self) -> bool:
        return not self._is_begun or self._decoder.is_finished()

    def _step(self, piece: bytes) -> bytes:
        try:
            return self._decoder.process(piece, output_buffer_limit=_STEP)
        except self._brotli.error as error:
            raise BadFormat(f"broken: {error}") from error
