"""Files of an export, plain or compressed: written and read in pieces.

`.gz` and `.zst` are compressed by their names. What cannot be unpacked to its end counts as cut short there: whoever reads the
lines says so, with the number of the line.
"""

import gzip
import shutil
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import zstandard

PIECE_BYTES = 256 * 1024


@contextmanager
def writing(path: Path, suffix: str) -> Generator[IO[bytes]]:
    """A file to write into, compressed as the suffix says."""
    with path.open("wb") as file:
        if suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
                yield packed  # pyright: ignore[reportReturnType]
        elif suffix == ".zst":
            with zstandard.ZstdCompressor(level=6).stream_writer(file, closefd=False) as packed:
                yield packed  # pyright: ignore[reportReturnType]
        else:
            yield file


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, or of standard input for "-", unpacked."""
    if str(path) == "-":
        yield from _read(sys.stdin.buffer)
        return
    with path.open("rb") as file:
        if path.suffix == ".gz":
            yield from _read(gzip.GzipFile(fileobj=file))
        elif path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as unpacked:
                yield from _read(unpacked)
        else:
            yield from _read(file)


def _read(file: Any) -> Iterator[bytes]:
    # `read1` hands on what is there: a pipe is not waited for.
    read = getattr(file, "read1", file.read)
    with suppress(EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError):
        while piece := read(PIECE_BYTES):
            yield piece


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
