"""Quantiles of a stream in bounded memory, with a guaranteed relative error: in one process, and stored as bytes.

Values fall into buckets whose bounds grow by a constant factor, so any two values in one bucket differ by at most 2 %
and its middle is within 1 % of each. Sketches with the same accuracy merge, and subtract, without loss: a sketch is counts.
Source: DDSketch, Masson, Rim and Lee, VLDB 2019, arXiv:1908.10693; here the range is clamped, which bounds the buckets
without collapsing them, and the bounds are made by multiplication alone, so every machine puts a value into the same bucket.

As bytes, little-endian, nothing for an empty sketch: the width of a count (0, 1, 2, 4 or 8 bytes), the first bucket and the
number of buckets of a dense block (2 bytes each), the block, then pairs of a bucket and what to add to its count (2 bytes
each, signed). Adding appends pairs; now and then they are worked into the block. Blocks merge without a loop over buckets.
"""

import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain, repeat
from operator import mul

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_SMALLEST, _LARGEST = 1e-6, 1e9
_BUCKETS = 1728
_BOUNDS = list(accumulate(repeat(_GAMMA, _BUCKETS - 1), mul, initial=_SMALLEST))
# Bucket b holds what lies between bounds b − 1 and b; its middle is as far from both, relatively.
_MIDDLE = 2 / (_GAMMA + 1)

_HEAD = struct.Struct("<BHH")
_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_NO_BLOCK = _HEAD.pack(0, 0, 0)
# A sketch of few buckets is pairs alone. More pairs than these are worked into a block: reading them costs a loop.
_FEW, _PAIRS = 24, 40
# While sketches are merged a count has eight bytes: it never runs into its neighbour.
_SLOT = 8


def bucket_of(value: float) -> int:
    """The bucket of a number: 0 up to 1e-6, the last from about 1e9 on."""
    return bisect_left(_BOUNDS, value, 0, _BUCKETS - 1)


class Sketch:
    """Counts of positive numbers in logarithmic buckets: at most 1 728 of them, whatever comes in.

    Values below 1e-6 count as 1e-6 and above 1e9 as 1e9 (in seconds: one microsecond to thirty years).
    """

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.count = 0
        self.buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count one value; it must be a number, not NaN."""
        bucket = bucket_of(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: "Sketch") -> None:
        """Count everything `other` counted; the result is that of one sketch that saw both streams."""
        for bucket, n in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + n
        self.count += other.count

    def quantile(self, q: float) -> float | None:
        """The value at rank q·(n−1), 0 ≤ q ≤ 1, within 1 %; None when nothing was counted."""
        return self.quantiles(q)[0]

    def quantiles(self, *wanted: float) -> list[float | None]:
        """Several quantiles at once."""
        if not self.count:
            return [None] * len(wanted)
        order = sorted(self.buckets)
        seen = list(accumulate(self.buckets[bucket] for bucket in order))
        return [_BOUNDS[order[bisect_right(seen, q * (self.count - 1))]] * _MIDDLE for q in wanted]


def added(data: bytes, counts: Mapping[int, int]) -> bytes:
    """The bytes of a sketch after adding counts per bucket; negative ones take away what was added before."""
    try:
        more = struct.pack(f"<{2 * len(counts)}h", *chain.from_iterable(counts.items()))
    except struct.error:  # a count beyond 32 767
        return to_bytes(_sum(counts_in(data), counts.items()))
    longer = (data or _NO_BLOCK) + more
    return longer if len(longer) - _block_end(longer) <= 4 * _PAIRS else _settled(longer)


def _settled(data: bytes) -> bytes:
    """The same sketch with its pairs worked into its block."""
    width, first, _ = _HEAD.unpack_from(data)
    if not width:
        return to_bytes(counts_in(data))
    end = _block_end(data)
    try:
        numbers = list(_numbers(data[_HEAD.size : end], width))
        for bucket, n in struct.iter_unpack("<2h", data[end:]):
            numbers[bucket - first if bucket >= first else end] += n
        return data[: _HEAD.size] + struct.pack(f"<{len(numbers)}{_LETTERS[width]}", *numbers)
    except (IndexError, struct.error):  # the block is too short or too narrow
        return to_bytes(counts_in(data))


def to_bytes(counts: Mapping[int, int]) -> bytes:
    """Counts per bucket as bytes. Counts of 0 or less are left out: a bucket cannot hold less than nothing."""
    kept = {bucket: n for bucket, n in counts.items() if n > 0}
    most = max(kept.values(), default=0)
    if len(kept) <= _FEW and most < 2**15:
        return _NO_BLOCK + struct.pack(f"<{2 * len(kept)}h", *chain(*sorted(kept.items()))) if kept else b""
    width = next(width for width in _LETTERS if most.bit_length() <= 8 * width)
    first, last = min(kept), max(kept)
    block = map(kept.get, range(first, last + 1), repeat(0))
    length = last + 1 - first
    return _HEAD.pack(width, first, length) + struct.pack(f"<{length}{_LETTERS[width]}", *block)


def counts_in(data: bytes) -> dict[int, int]:
    """The counts per bucket that bytes hold, without empty buckets."""
    if not data:
        return {}
    width, first, _ = _HEAD.unpack_from(data)
    end = _block_end(data)
    found = dict(enumerate(_numbers(data[_HEAD.size : end], width), first)) if width else {}
    _sum(found, struct.iter_unpack("<2h", data[end:]))
    return {bucket: n for bucket, n in found.items() if n}


def merged(sketches: Iterable[bytes]) -> Sketch:
    """One sketch of everything the sketches counted.

    All counts of a block are added at once, as one large number with eight bytes for each of them.
    """
    total, pairs = 0, list[bytes]()
    for data in sketches:
        if not data:
            continue
        width, first, length = _HEAD.unpack_from(data)
        end = _HEAD.size + width * length
        pairs.append(data[end:])
        if width:
            slots = bytearray(length * _SLOT)
            for i in range(width):
                slots[i::_SLOT] = data[_HEAD.size + i : end : width]
            total += int.from_bytes(slots, "little") << (8 * _SLOT * first)
    found = Sketch()
    counts = _sum(_slots(total), _counted(b"".join(pairs)))
    found.buckets = {bucket: n for bucket, n in counts.items() if n > 0}
    found.count = sum(found.buckets.values())
    return found


def _slots(total: int) -> dict[int, int]:
    """The counts in a large number, from the first that is not 0 on."""
    if not total:
        return {}
    first = ((total & -total).bit_length() - 1) // (8 * _SLOT)
    total >>= 8 * _SLOT * first
    size = (total.bit_length() // (8 * _SLOT) + 1) * _SLOT
    return dict(enumerate(_numbers(total.to_bytes(size, "little"), _SLOT), first))


def _counted(pairs: bytes) -> Iterator[tuple[int, int]]:
    """Pairs, equal ones once with their sum: most say that one bucket got one more."""
    times = Counter(struct.unpack(f"<{len(pairs) // 4}I", pairs))
    for pair, n in times.items():
        bucket, change = struct.unpack("<2h", pair.to_bytes(4, "little"))
        yield bucket, change * n


def _block_end(data: bytes) -> int:
    width, _, length = _HEAD.unpack_from(data)
    return _HEAD.size + width * length


def _numbers(data: bytes, width: int) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // width}{_LETTERS[width]}", data)


def _sum(counts: dict[int, int], pairs: Iterable[tuple[int, ...]]) -> dict[int, int]:
    for bucket, n in pairs:
        counts[bucket] = counts.get(bucket, 0) + n
    return counts
