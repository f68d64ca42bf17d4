"""The tree shows every span once, whatever was recorded."""

import time

from hypothesis import given
from hypothesis import strategies as st

from leyden.cli.tree import CIRCLE, ORPHANS, branches
from leyden.types import SpanSummary


def summary(span_id: str, parent_id: str | None = None) -> SpanSummary:
    return SpanSummary("ro-1", "at-1", 1, "t", span_id, parent_id, span_id, "span", "ok", 0, 1)


def drawn(*spans: SpanSummary) -> list[str]:
    return [b.lead + (b.span.span_id if b.span else b.note) for b in branches(spans)]


def test_children_stand_under_their_parent_in_the_order_given() -> None:
    spans = [summary("a"), summary("b", "a"), summary("c", "a"), summary("d", "b"), summary("e")]
    assert drawn(*spans) == ["a", "├─ b", "│  └─ d", "└─ c", "e"]


def test_a_child_that_was_recorded_before_its_parent_stands_under_it() -> None:
    assert drawn(summary("b", "a"), summary("a")) == ["a", "└─ b"]


def test_spans_whose_parent_is_missing_stand_under_a_node_that_says_so() -> None:
    spans = [summary("a"), summary("x", "gone"), summary("y", "x")]
    assert drawn(*spans) == ["a", ORPHANS, "   x", "   └─ y"]


def test_spans_that_are_their_own_ancestors_stand_under_a_node_that_says_so() -> None:
    assert drawn(summary("a", "b"), summary("b", "a"), summary("s", "s")) == [
        CIRCLE,
        "   a",
        "   └─ b",
        "   s",
    ]


@given(st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 12)), max_size=40))
def test_every_span_is_shown_exactly_once(links: list[tuple[int, int | None]]) -> None:
    spans = [summary(str(i), None if p is None else str(p)) for i, p in links]
    shown = [id(b.span) for b in branches(spans) if b.span]
    assert sorted(shown) == sorted(map(id, spans))


def test_a_chain_of_fifty_thousand_spans_is_drawn_at_once_and_stays_narrow() -> None:
    chain = [summary(str(i), str(i - 1) if i else None) for i in range(50_000)]
    began = time.perf_counter()
    leads = [b.lead for b in branches(chain)]
    assert time.perf_counter() - began < 2
    assert len(leads) == 50_000
    assert max(map(len, leads)) <= 33
