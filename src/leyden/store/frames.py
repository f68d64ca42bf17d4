"""The format of a pack: many payloads in one zstd frame, and a directory that says which lies where.

Owns: bytes in, bytes out. Promises: what is read back is what was packed, byte for byte, and damage is one StoreError that
names the pack; a frame never grows past the size that two other places declare. Refuses to know: rows, files, networks.

The frame is the payloads one after the other: agents repeat themselves with every call, and a window as long as the part
finds it. The directory is a zstd frame too, of: version, count, encodings, digest of the payloads, and per span its row id
(difference to the one before), length and encoding.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import zstandard

from leyden.errors import StoreError

PART_BYTES = 16 * 2**20
PART_SPANS = 6000  # checking and deleting their rows takes the writer about 10 ms
VERSION = 1
_HEAD = struct.Struct("<BIH16s")
_LONG_FROM = 2**20  # below this the long window finds nothing that the short one does not
_NAMES_BYTES = 2**12


class Entry(NamedTuple):
    """One payload in a pack: the row id of its span, how it is encoded, its bytes."""

    span_row: int
    encoding: str
    payload: bytes


class Directory(NamedTuple):
    """What a pack holds: row ids, encodings, and where each payload begins (one more: where the last ends)."""

    span_rows: Sequence[int]
    encodings: list[str]
    offsets: list[int]
    digest: bytes


class Packed(NamedTuple):
    """A pack about to be stored."""

    directory: bytes
    frame: bytes
    spans: int
    raw_bytes: int


def pack(entries: Sequence[Entry]) -> Packed:
    """Payloads into a frame and its directory. The interpreter is free for others meanwhile."""
    raw = b"".join([entry.payload for entry in entries])
    names = sorted({entry.encoding for entry in entries})
    rows = [entry.span_row for entry in entries]
    joined = "\n".join(names).encode()
    plain = b"".join((
        _HEAD.pack(VERSION, len(rows), len(joined), _digest(raw)), joined,
        struct.pack(f"<{len(rows)}q", *(row - before for before, row in pairwise([0, *rows]))),
        struct.pack(f"<{len(rows)}I", *(len(entry.payload) for entry in entries)),
        bytes(names.index(entry.encoding) for entry in entries),
    ))  # fmt: skip
    long = {"window_log": 25, "enable_ldm": True} if len(raw) >= _LONG_FROM else {}
    return Packed(_compressed(plain), _compressed(raw, **long), len(rows), len(raw))


def _compressed(plain: bytes, **more: int) -> bytes:
    settings: Any = zstandard.ZstdCompressionParameters  # its stub leaves the keywords without types
    wanted = settings.from_level(6, write_checksum=True, write_content_size=True, **more)
    return zstandard.ZstdCompressor(compression_params=wanted).compress(plain)


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def read_directory(blob: bytes, *, spans: int, raw_bytes: int, label: str) -> Directory:
    """What a pack holds, checked against the number of spans and bytes that its row declares.

    label: names the pack in the error. Raises StoreError when the directory is damaged.
    """
    plain = _decompressed(blob, _HEAD.size + _NAMES_BYTES + 13 * spans, label, exactly=False)
    try:
        version, count, names_bytes, digest = _HEAD.unpack_from(plain)
        if version != VERSION:
            raise damaged(label, f"its directory is of version {version}, and this program reads {VERSION}")
        at = _HEAD.size + names_bytes
        names = plain[_HEAD.size : at].decode().split("\n")
        steps = struct.unpack_from(f"<{count}q", plain, at)
        lengths = struct.unpack_from(f"<{count}I", plain, at + 8 * count)
        encodings = [names[code] for code in plain[at + 12 * count :]]
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise damaged(label, f"its directory does not parse ({error})") from error
    offsets = [0, *accumulate(lengths)]
    if not (count == spans == len(encodings) and offsets[-1] == raw_bytes):
        raise damaged(
            label,
            f"its row declares {spans} spans of {raw_bytes} bytes, its directory {count} of {offsets[-1]}",
        )
    return Directory(list(accumulate(steps)), encodings, offsets, digest)


def unpack(frame: bytes, directory: Directory, *, label: str) -> bytes:
    """The payloads one after the other. Raises StoreError when the frame is damaged or not the directory's."""
    return _decompressed(frame, directory.offsets[-1], label, exactly=True)


def verify(raw: bytes, directory: Directory, *, label: str) -> None:
    """Compare every byte with what was packed. Raises StoreError."""
    if _digest(raw) != directory.digest:
        raise damaged(label, "its payloads are not the ones that its directory describes")


def _decompressed(frame: bytes, size: int, label: str, *, exactly: bool) -> bytes:
    try:
        # The library allocates what the frame declares: that has to be believed before.
        declared = zstandard.frame_content_size(frame)
        if declared < 0 or declared > size or (exactly and declared != size):
            raise damaged(label, f"its frame declares {declared} bytes where {size} were packed")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise damaged(label, str(error)) from error


def damaged(label: str, why: str) -> StoreError:
    """The one error of a pack that cannot be read."""
    return StoreError(
        f"{label} is damaged: {why}",
        hint="run `leyden db check` to see what else is; restore the pack or its rollout from a backup",
    )
