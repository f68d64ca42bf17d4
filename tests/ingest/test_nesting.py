import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.errors import TooLarge
from leyden.ingest.nesting import is_deeper, refuse_deeper

JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab"\\[]{}é,:', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet='"\\[{', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 6))
def test_depth_is_that_of_the_parsed_value(value, limit):
    assert is_deeper(json.dumps(value).encode(), limit) == (depth(value) > limit)


@pytest.mark.parametrize("text", [b"[" * 10**6, b"[" * 500_000 + b"]" * 500_000, b'{"a":' * 200_000])
def test_hostile_nesting_is_refused_fast(text):
    start = time.process_time()
    with pytest.raises(TooLarge, match="64 levels"):
        refuse_deeper(text, 64)
    assert time.process_time() - start < 0.5
