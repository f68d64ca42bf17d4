"""The spans of our own provider: OpenTelemetry's span without what makes the SDK's slow.

Promises: to every reader (processors, exporters, `trace.current()`) it is a ReadableSpan, to whoever traces it is a Span
of OpenTelemetry's API. A scalar attribute is one dict entry; anything else goes through OpenTelemetry's own cleaning. The
SDK's limits (`OTEL_SPAN_*_LIMIT`) hold. Starting and ending one costs about a third of the SDK's, which locks, cleans and
copies on every step.

Refuses to know: rollouts, what is captured. An application's own provider, and ours once it is made global, keep the SDK's tracer,
because other people's processors may look behind the interface.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, Sequence
from time import time_ns
from types import TracebackType
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
)
from opentelemetry.util.types import Attributes

log = logging.getLogger("leyden")


_SCALARS = frozenset({str, int, bool, float})
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)


class OwnSpan(ReadableSpan, Span):
    """One span, from its start to its end; afterwards it only answers."""

    def __init__(
        self,
        name: str,
        *,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, Any],
        links: Sequence[Link],
        tracer: "OwnTracer",
    ) -> None:
        ReadableSpan.__init__(
            self,
            name,
            context,
            parent,
            tracer.resource,
            attributes,
            (),
            links,
            kind,
            None,
            _UNSET,
            time_ns(),
            None,
            tracer.scope,
        )
        self._tracer = tracer
        self._values = attributes
        self._dropped = 0
        # Whoever pops it ends the span: one operation that no second thread can repeat, and no lock.
        self._open = [True]

    @property
    def dropped_attributes(self) -> int:
        """How many attributes were one too many."""
        return self._dropped

    def get_span_context(self) -> SpanContext:
        context = self._context
        assert context is not None
        return context

    def is_recording(self) -> bool:
        return bool(self._open)

    def set_attribute(self, key: str, value: Any) -> None:
        if not self._open:
            log.debug("An attribute was set on span %r, which has ended", self._name)
            return
        if type(value) in _SCALARS and type(key) is str and key:
            cleaned: Mapping[str, Any] = {key: value}
        else:
            cleaned = BoundedAttributes(None, {key: value})
        for name, kept in cleaned.items():
            if len(self._values) >= self._tracer.most_attributes and name not in self._values:
                self._values.pop(next(iter(self._values)), None)
                self._dropped += 1
            self._values[name] = kept

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def write(self, attributes: dict[str, Any]) -> None:
        """Set attributes whose values are scalars or tuples of strings, without looking at them."""
        if self._open and len(self._values) + len(attributes) <= self._tracer.most_attributes:
            self._values.update(attributes)
        else:
            self.set_attributes(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if not self._open:
            return
        limits = self._tracer.limits
        event = Event(name, BoundedAttributes(limits.max_event_attributes, attributes), timestamp)
        self._events = (*self._events, event)[-self._tracer.most_events :]

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if self._open and context.is_valid:
            self._links = (*self._links, Link(context, attributes))[-self._tracer.most_links :]

    def update_name(self, name: str) -> None:
        if self._open:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        given = Status(status, description) if isinstance(status, StatusCode) else status
        final = self._status.status_code is StatusCode.OK
        if self._open and not final and given.status_code is not StatusCode.UNSET:
            self._status = given

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        told = {
            "exception.type": name,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        try:
            self._open.pop()
        except IndexError:
            log.debug("Span %r was ended twice", self._name)
            return
        self._end_time = time_ns() if end_time is None else end_time
        self._tracer.sdk.span_processor.on_end(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.is_recording():
            self.record_exception(error, escaped=True)
            self.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self.end()


class OwnTracer:
    """Starts spans of one provider as `Tracer.start_span` does: same sampler, same ids, same processors."""

    def __init__(self, provider: TracerProvider, name: str) -> None:
        sdk = provider.get_tracer(name)
        assert isinstance(sdk, SdkTracer)
        self.sdk = sdk
        self.resource = sdk.resource
        self.scope = InstrumentationScope(name)
        self.limits = SpanLimits()
        self.most_attributes = _limit(self.limits.max_span_attributes)
        self.most_events = _limit(self.limits.max_events)
        self.most_links = _limit(self.limits.max_links)

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        """A started span below the one in `context`; one that records nothing when the sampler leaves it out."""
        sdk = self.sdk
        above = get_current_span(context)
        parent = above.get_span_context() if above is not INVALID_SPAN else None
        if parent is not None and not parent.is_valid:
            parent = None
        ids = sdk.id_generator
        trace_id = ids.generate_trace_id() if parent is None else parent.trace_id
        decision = sdk.sampler.should_sample(context, trace_id, name).decision
        flags = _SAMPLED if decision.is_sampled() else TraceFlags.get_default()
        own = SpanContext(trace_id, ids.generate_span_id(), False, flags)
        if not decision.is_recording():
            return NonRecordingSpan(own)
        span = OwnSpan(
            name,
            context=own,
            parent=parent,
            kind=kind,
            attributes=dict(attributes or {}),
            links=links,
            tracer=self,
        )
        sdk.span_processor.on_start(span, context)  # pyright: ignore[reportArgumentType]
        return span


def cuts_values() -> bool:
    """Whether the environment sets a length limit for attribute values, which only the SDK's own spans apply."""
    return SpanLimits().max_span_attribute_length is not None


def _limit(given: int | None) -> int:
    """A limit of the SDK as a number from 1 on; it has None for "no limit"."""
    return sys.maxsize if given is None else max(1, given)
