"""Quantiles of a stream in bounded memory, with a guaranteed relative error.

Values fall into buckets whose bounds grow by a constant factor, so any two values in one bucket differ by at most 2 %
and its middle is within 1 % of each. Sketches with the same accuracy merge without loss. Source: DDSketch, Masson, Rim
and Lee, VLDB 2019, arXiv:1908.10693; here the range is clamped, which bounds the buckets without collapsing them.
"""

import math

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST, _LARGEST = 1e-6, 1e9


class Sketch:
    """Counts of positive numbers in logarithmic buckets: at most about 1 730 of them, whatever comes in.

    Values below 1e-6 count as 1e-6 and above 1e9 as 1e9 (in seconds: one microsecond to thirty years).
    """

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.count = 0
        self.buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count one value; it must be a number, not NaN."""
        clamped = _SMALLEST if value < _SMALLEST else _LARGEST if value > _LARGEST else value
        bucket = math.ceil(math.log(clamped) / _LOG_GAMMA)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: "Sketch") -> None:
        """Count everything `other` counted; the result is that of one sketch that saw both streams."""
        for bucket, n in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + n
        self.count += other.count

    def quantile(self, q: float) -> float | None:
        """The value at rank q·(n−1), 0 ≤ q ≤ 1, within 1 %; None when nothing was counted."""
        if not self.count:
            return None
        rank, seen = q * (self.count - 1), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                return 2 * _GAMMA**bucket / (_GAMMA + 1)
        raise AssertionError("bucket counts add up to count")
