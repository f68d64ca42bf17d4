import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.analysis.sketch import ACCURACY, Sketch

VALUES = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=200)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(VALUES, st.floats(0, 1))
def test_every_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float):
    exact = sorted(values)[int(q * (len(values) - 1))]
    assert sketch_of(values).quantile(q) == pytest.approx(exact, rel=ACCURACY * 1.0001)


@given(VALUES, VALUES)
def test_merged_sketches_equal_one_that_saw_everything(a: list[float], b: list[float]):
    merged = sketch_of(a)
    merged.merge(sketch_of(b))
    whole = sketch_of(a + b)
    assert (merged.count, merged.buckets) == (whole.count, whole.buckets)


def test_memory_is_bounded_whatever_comes_in():
    sketch = sketch_of([1.01**i for i in range(-5000, 5000)] + [0.0, -1.0, 1e300])
    assert len(sketch.buckets) <= 1730


def test_an_empty_sketch_knows_no_quantile():
    assert Sketch().quantile(0.5) is None
