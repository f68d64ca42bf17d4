"""A sketch as bytes holds the same counts, however it came about."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from leyden.analysis.sketch import Sketch, added, bucket_of, counts_in, merged, to_bytes

COUNTS = st.dictionaries(st.integers(0, 1727), st.integers(1, 2**40), max_size=60)
NEAR = st.dictionaries(st.integers(700, 760), st.integers(1, 40), max_size=60)


@given(COUNTS | NEAR)
def test_bytes_hold_the_counts_they_were_made_of(counts: dict[int, int]) -> None:
    assert counts_in(to_bytes(counts)) == counts


@given(st.lists(COUNTS | NEAR, max_size=12))
def test_adding_and_merging_bytes_is_adding_and_merging_counts(parts: list[dict[int, int]]) -> None:
    data, total = b"", Counter[int]()
    for part in parts:
        data = added(data, part)
        total.update(part)
    assert counts_in(data) == dict(total)
    assert merged(map(to_bytes, parts)).buckets == dict(total) == merged([data]).buckets


@given(st.lists(NEAR, max_size=12), st.randoms(use_true_random=False))
def test_taking_away_everything_that_was_added_leaves_nothing(
    parts: list[dict[int, int]], rng: Random
) -> None:
    data = b""
    for part, sign in [(part, 1) for part in parts] + [(part, -1) for part in rng.sample(parts, len(parts))]:
        data = added(data, {bucket: sign * n for bucket, n in part.items()})
    assert counts_in(data) == {}


def test_a_sketch_of_a_busy_hour_takes_a_few_hundred_bytes() -> None:
    sketch, data = Sketch(), b""
    for i in range(2000):
        value = 1.002**i  # 1 s to 54 s
        sketch.add(value)
        data = added(data, {bucket_of(value): 1})
    assert merged([data]).quantiles(0.5, 0.99) == sketch.quantiles(0.5, 0.99)
    assert len(data) < 400
