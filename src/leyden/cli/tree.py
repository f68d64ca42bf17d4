"""Spans as a tree: each after its parent, also when the record is damaged. Linear in the number of spans."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from leyden.types import SpanSummary

ORPHANS = "parent not recorded"
CIRCLE = "parents form a circle"
# Deeper levels are drawn at this one, so that a chain of thousands stays readable and linear.
DEEPEST = 10


class Branch(NamedTuple):
    """One line of the tree. `lead` draws the branches before it, `below` those before what hangs under it.

    span None: a node that stands for damage, named by `note`.
    """

    lead: str
    below: str
    span: SpanSummary | None
    note: str = ""


def branches(spans: Sequence[SpanSummary]) -> Iterator[Branch]:
    """Every span exactly once, parents first, siblings in the order given.

    Spans whose parent is not among them hang under a node of their own; so do those that are their own ancestors.
    """
    children, roots, orphans = _families(spans)
    seen = [False] * len(spans)
    for root in roots:
        yield from _walk(spans, children, root, seen)
    yield from _under(ORPHANS, spans, children, orphans, seen)
    yield from _under(CIRCLE, spans, children, (i for i in range(len(spans)) if not seen[i]), seen)


def _families(spans: Sequence[SpanSummary]) -> tuple[list[list[int]], list[int], list[int]]:
    place: dict[str, int] = {}
    for i, span in enumerate(spans):
        place.setdefault(span.span_id, i)
    children: list[list[int]] = [[] for _ in spans]
    roots: list[int] = []
    orphans: list[int] = []
    for i, span in enumerate(spans):
        parent = place.get(span.parent_id) if span.parent_id else None
        if parent is not None:
            children[parent].append(i)
        else:
            (orphans if span.parent_id else roots).append(i)
    return children, roots, orphans


def _under(
    note: str, spans: Sequence[SpanSummary], children: list[list[int]], tops: Iterable[int], seen: list[bool]
) -> Iterator[Branch]:
    named = False
    for top in tops:
        if seen[top]:
            continue
        if not named:
            yield Branch("", "", None, note)
            named = True
        yield from _walk(spans, children, top, seen, lead="   ", below="   ", depth=1)


def _walk(
    spans: Sequence[SpanSummary],
    children: list[list[int]],
    top: int,
    seen: list[bool],
    *,
    lead: str = "",
    below: str = "",
    depth: int = 0,
) -> Iterator[Branch]:
    stack = [(top, lead, below, depth)]
    while stack:
        at, lead, below, depth = stack.pop()
        if seen[at]:
            continue
        seen[at] = True
        yield Branch(lead, below, spans[at])
        ahead = children[at]
        for i in reversed(range(len(ahead))):
            last = i == len(ahead) - 1
            if depth >= DEEPEST:
                stack.append((ahead[i], below[:-3] + "⋯  ", below, depth))
            else:
                stack.append(
                    (
                        ahead[i],
                        below + ("└─ " if last else "├─ "),
                        below + ("   " if last else "│  "),
                        depth + 1,
                    )
                )
