"""What travels with the running code: the rollout it works for and the agent that acts.

Both live in the OpenTelemetry context, so they follow asyncio tasks, `contextvars.copy_context()` and every
instrumentation that carries the context across threads. Contexts are swapped, never detached by token: a generator
may be resumed or closed in another thread or task than the one it started in.
"""

import os
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_ROLLOUT = otel.create_key("leyden-rollout")
_AGENT = otel.create_key("leyden-agent")


class Binding(NamedTuple):
    """The rollout and attempt that running code works for; `sampled` False records nothing of it."""

    rollout_id: str
    attempt_id: str
    sampled: bool = True


def bound(context: Context | None = None) -> Binding | None:
    """The rollout of `context` (default: the current one), or None outside every rollout."""
    value = otel.get_value(_ROLLOUT, context)
    return value if isinstance(value, Binding) else None


def bind_rollout(binding: Binding, context: Context | None = None) -> Context:
    """`context` (default: the current one) with the rollout set."""
    return otel.set_value(_ROLLOUT, binding, context)


def acting_agent(context: Context | None = None) -> str | None:
    """Name of the agent that acts in `context`, or None."""
    value = otel.get_value(_AGENT, context)
    return value if isinstance(value, str) else None


def bind_agent(name: str, context: Context) -> Context:
    """`context` with the acting agent set."""
    return otel.set_value(_AGENT, name, context)


def swap(context: Context) -> Context:
    """Make `context` current and return the one it replaces."""
    previous = otel.get_current()
    otel.attach(context)
    return previous


def new_rollout_id() -> str:
    """`ro-` and 12 hex digits, from the operating system's randomness: forked processes never agree."""
    return "ro-" + os.urandom(6).hex()


def new_attempt_id() -> str:
    """`at-` and 8 hex digits."""
    return "at-" + os.urandom(4).hex()


def is_sampled(rollout_id: str, share: float) -> bool:
    """Whether a rollout is among the `share` (0 to 1) that is recorded: a pure function of its id, so processes agree."""
    return share >= 1.0 or zlib.crc32(rollout_id.encode("utf-8", "replace")) < share * 2**32


class RolloutSampler(Sampler):
    """Records a span when its rollout is recorded; outside rollouts, a `share` of traces by their id."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._traces = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        binding = bound(parent_context)
        keep = binding.sampled if binding else self.keeps_trace(trace_id)
        return (
            SamplingResult(Decision.RECORD_AND_SAMPLE, attributes) if keep else SamplingResult(Decision.DROP)
        )

    def keeps_trace(self, trace_id: int) -> bool:
        """Whether a trace that belongs to no rollout is recorded."""
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._traces.bound

    def get_description(self) -> str:
        return f"RolloutSampler{{{self._share}}}"
