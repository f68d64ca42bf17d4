"""`leyden.trace`: a span around a function, a generator or a block of code.

Promises: what is traced behaves exactly as it would untraced (signature, results, exceptions, generator protocol), a
recording that goes wrong is counted and never seen by the caller, and before `leyden.init` (or when nothing is sampled) a
traced function costs next to nothing. Arguments and results are kept as JSON of bounded size.
"""

import contextvars
import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry.trace import INVALID_SPAN, Span, get_current_span

from leyden.sdk import semconv
from leyden.sdk.content import (
    KIND_OF,
    KINDS,
    harmless,
    input_attributes,
    mark_failed,
    output_attributes,
    scalar,
)
from leyden.sdk.functions import About, Call, Plan, start, wrap
from leyden.sdk.rollout import rollout

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class SpanHandle:
    """The span of a `with trace(...)` block. Every method is harmless: it works on a span nobody records, and never raises."""

    def __init__(self, span: Span, kind: str) -> None:
        self._span = span
        self._kind = kind
        self._live = span.is_recording()

    @property
    def recording(self) -> bool:
        """Whether anything said here is kept."""
        return self._live

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return f"{self._span.get_span_context().span_id:016x}"

    @property
    def otel(self) -> Span:
        """The OpenTelemetry span itself."""
        return self._span

    def set_input(self, value: Any) -> None:
        """What went in: a tool's arguments, a model's messages, an agent's task."""
        if self._live:
            harmless(self._set, input_attributes, value)

    def set_output(self, value: Any) -> None:
        """What came out; of a model also a whole OpenAI or Anthropic response, with its usage."""
        if self._live:
            harmless(self._set, output_attributes, value)

    def set_usage(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        *,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        """Token counts; `input_tokens` includes the cached ones, `output_tokens` the reasoning."""
        counts = {
            semconv.INPUT_TOKENS: input_tokens,
            semconv.OUTPUT_TOKENS: output_tokens,
            semconv.CACHE_READ_TOKENS: cache_read_tokens,
            semconv.CACHE_WRITE_TOKENS: cache_write_tokens,
            semconv.REASONING_TOKENS: reasoning_tokens,
        }
        self.set_attributes({name: count for name, count in counts.items() if count is not None})

    def set_model(self, model: str, *, provider: str | None = None) -> None:
        """The model that was asked, and who serves it."""
        self.set_attributes(
            {semconv.REQUEST_MODEL: model, **({semconv.PROVIDER: provider} if provider else {})}
        )

    def set_attribute(self, name: str, value: Any) -> None:
        """Any attribute of your own; what is no scalar is kept as JSON."""
        self.set_attributes({name: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Several attributes at once."""
        if self._live:
            harmless(lambda: self._span.set_attributes({k: scalar(v) for k, v in attributes.items()}))

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Something that happened now."""
        if self._live:
            harmless(
                lambda: self._span.add_event(name, {k: scalar(v) for k, v in (attributes or {}).items()})
            )

    def set_error(self, error: BaseException | str) -> None:
        """Mark the span as failed, for example with an error that was handled."""
        if self._live:
            harmless(mark_failed, self._span, error)

    def _set(self, read: Callable[[str, Any], dict[str, Any]], value: Any) -> None:
        self._span.set_attributes(read(self._kind, value))


class Trace:
    """What `trace(...)` returns: a decorator and a context manager. As context manager, use one object at a time."""

    def __init__(self, about: About) -> None:
        if about.kind not in KINDS:
            raise ValueError(f"kind={about.kind!r} is none of {', '.join(sorted(KINDS))}")
        self.about = about
        self._open: Call | None = None

    def __call__(self, fn: F) -> F:
        """`fn`, traced. Also takes what `staticmethod` and `classmethod` return."""
        if isinstance(fn, (staticmethod, classmethod)):
            method = cast(Any, fn)
            return type(method)(self(method.__func__))
        return cast(F, wrap(fn, Plan(self.about, fn)))

    def __enter__(self) -> SpanHandle:
        self._open = start(Plan(self.about, None))
        return SpanHandle(self._open.span if self._open else INVALID_SPAN, self.about.kind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call, self._open = self._open, None
        if call is None:
            return
        call.leave()
        call.end(error)

    async def __aenter__(self) -> SpanHandle:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class _Tracing:
    """The type of `trace`; its instance is the public name."""

    @overload
    def __call__(self, target: F) -> F: ...
    @overload
    def __call__(
        self,
        target: str | None = None,
        *,
        kind: str = "span",
        name: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        capture: bool = True,
        attributes: Mapping[str, Any] | None = None,
    ) -> Trace: ...
    def __call__(self, target: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """`@trace`, `@trace(kind="tool")`, or `with trace("step") as span:`.

        kind: span, agent, tool, llm, chain, retriever or embedding.
        name: of the span; default what the conventions say for the kind, else the function's name.
        agent, tool, model, provider: what the span is about; an agent's name also marks every span inside it.
        capture: False keeps arguments and results out.
        attributes: more attributes for the span.

        Raises TypeError or ValueError for a kind or option that does not exist; a traced call itself never raises anything of ours.
        """
        if isinstance(target, str):
            name, target = name or target, None
        made = _make({**_DEFAULTS, **options, "name": name})
        return made if target is None else made(target)

    def agent(self, target: Any = None, **options: Any) -> Any:
        """An agent at work: `@trace.agent("router")` or `@trace.agent`; the text is the agent's name."""
        return self._named("agent", target, options)

    def tool(self, target: Any = None, **options: Any) -> Any:
        """A tool call: `@trace.tool("search")` or `@trace.tool`; the text is the tool's name."""
        return self._named("tool", target, options)

    def llm(self, target: Any = None, **options: Any) -> Any:
        """A model call: `@trace.llm("gpt-5", provider="openai")` or `@trace.llm`; the text is the model.

        The function's OpenAI or Anthropic response gives model, tokens, finish reasons and content.
        """
        if isinstance(target, str):
            target, options = None, {"model": target, **options}
        return self(target, kind="llm", **options)

    def current(self) -> SpanHandle:
        """The span around the running code, to say more about it from inside a decorated function."""
        span = get_current_span()
        attributes = cast(Mapping[str, Any], getattr(span, "attributes", None) or {})
        return SpanHandle(span, KIND_OF.get(str(attributes.get(semconv.OPERATION)), "span"))

    def _named(self, kind: str, target: Any, options: dict[str, Any]) -> Any:
        if isinstance(target, str):
            target, options = None, {kind: target, **options}
        return self(target, kind=kind, **options)


_DEFAULTS: dict[str, Any] = {
    "kind": "span",
    "name": None,
    "agent": None,
    "tool": None,
    "model": None,
    "provider": None,
    "capture": True,
    "attributes": None,
}


def _make(options: dict[str, Any]) -> Trace:
    unknown = set(options) - set(_DEFAULTS)
    if unknown:
        raise TypeError(f"trace() knows no {', '.join(sorted(unknown))}; it takes {', '.join(_DEFAULTS)}")
    return Trace(About(**options))


trace = _Tracing()


def bind(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn`, carrying the current rollout and span into whatever thread calls it: `pool.submit(bind(work), item)`."""
    context = contextvars.copy_context()

    @functools.wraps(fn)
    def bound_fn(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy per call: one context cannot be entered by two threads at once.
        return context.copy().run(fn, *args, **kwargs)

    return bound_fn


__all__ = ["SpanHandle", "Trace", "bind", "rollout", "trace"]
