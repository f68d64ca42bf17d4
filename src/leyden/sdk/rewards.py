"""`leyden.reward`: how good a run was, as an annotation span in Agent Lightning's form."""

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat, cast

from opentelemetry.trace import Link, Span

from leyden.sdk import config, semconv
from leyden.sdk.content import harmless
from leyden.sdk.context import bind_rollout, bound
from leyden.sdk.rollout import RolloutScope
from leyden.sdk.trace import SpanHandle


def reward(
    value: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    primary: str | None = None,
    rollout: RolloutScope | None = None,
    span: SpanHandle | Span | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Record a reward: `reward(0.9)`, or `reward({"quality": 0.9, "speed": 0.5}, primary="quality")`.

    It belongs to the rollout around the call, or to `rollout`; `span` links it to one step. A dict needs `primary`, the
    dimension that counts as the rollout's score.

    Raises TypeError for something that is no number, ValueError for NaN, infinity, a missing or unknown `primary`, and a
    number that is none inside a dict. Nothing else: without `init` it does nothing.
    """
    scores = scores_of(value, primary=primary)
    at_work = config.running
    if at_work is None:
        return
    binding = rollout.binding if rollout is not None else bound()
    if binding is not None and not binding.sampled:
        return

    def record() -> None:
        named: dict[str, Any] = dict(attributes or {})
        for index, (name, number) in enumerate(scores):
            named[f"{semconv.REWARD}.{index}.name"] = name
            named[f"{semconv.REWARD}.{index}.value"] = number
        target = span.otel if isinstance(span, SpanHandle) else span
        links: list[Link] = []
        if target is not None and target.get_span_context().is_valid:
            linked = target.get_span_context()
            links.append(Link(linked))
            for index, (key, text) in enumerate(
                (("trace_id", f"{linked.trace_id:032x}"), ("span_id", f"{linked.span_id:016x}"))
            ):
                named[f"{semconv.LINK}.{index}.key_match"] = key
                named[f"{semconv.LINK}.{index}.value_match"] = text
        context = bind_rollout(binding) if binding is not None else None
        at_work.tracer.start_span(semconv.ANNOTATION, context, attributes=named, links=links).end()

    harmless(record)


def scores_of(value: Any, *, primary: str | None) -> list[tuple[str, float]]:
    """(name, number) pairs, the primary one first; a lone number is named "primary"."""
    if not isinstance(value, Mapping):
        if primary is not None:
            raise ValueError("primary names a dimension of a dict; a single number has none")
        return [("primary", _number(value, error=TypeError))]
    named: dict[str, Any] = {str(key): item for key, item in cast(Mapping[Any, Any], value).items()}
    if primary is None or primary not in named:
        raise ValueError(
            f"primary={primary!r} must name one of the rewards: {', '.join(named) or 'there are none'}"
        )
    ordered = [primary, *(name for name in named if name != primary)]
    return [(name, _number(named[name], error=ValueError)) for name in ordered]


def _number(value: Any, *, error: type[Exception]) -> float:
    if not isinstance(value, SupportsFloat):
        raise error(f"A reward is a number, not {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"A reward is a finite number, not {number}")
    return number
