"""One filter language for spans and rollouts: text in, SQLAlchemy conditions out. docs/how-to/filter.md describes it.

`grammar` reads the text, `fields` knows what may be named, `spans` and `rollouts` make conditions; values are parameters.
"""

from leyden.store.filters.fields import ROLLOUT_FIELDS, SPAN_FIELDS, Every, Tests, bind
from leyden.store.filters.grammar import parse

EVERYTHING = Every(())


def span_tests(text: str, *, now: float) -> Tests:
    """What a filter of spans asks. now: unix seconds. Raises BadInput that points at the column."""
    return bind(parse(text), SPAN_FIELDS, text, now=now)


def rollout_tests(text: str, *, now: float) -> Tests:
    """What a filter of rollouts asks. now: unix seconds. Raises BadInput that points at the column."""
    return bind(parse(text), ROLLOUT_FIELDS, text, now=now)


__all__ = ["EVERYTHING", "rollout_tests", "span_tests"]
