"""The soak of `make soak`, for seconds instead of half an hour: load, packing, indexing, pruning and questions at once."""

import os

from bench import soak

SECONDS = 15.0


def test_half_of_the_sustainable_load_leaves_nothing_lost_and_nothing_wrong() -> None:
    cores = os.sched_getaffinity(0)
    try:
        done = soak.run(SECONDS, warm=8_000)
    finally:
        os.sched_setaffinity(0, cores)  # the soak keeps its load generator on one core
    assert done.problems == []
    assert done.rollouts > 10
