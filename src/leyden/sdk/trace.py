"""`leyden.trace`: a span around a function, a generator or a block of code.

Promises: what is traced behaves exactly as it would untraced (signature, results, exceptions, generator protocol), a
recording that goes wrong is counted and never seen by the caller, and before `leyden.init` (or when nothing is sampled) a
traced function costs next to nothing. Arguments and results are kept as JSON of bounded size.
"""

import contextvars
import functools
import inspect
import logging
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from leyden.sdk import config, messages, semconv
from leyden.sdk.capture import bounded_json, bounded_text, safe_str
from leyden.sdk.context import bind_agent, bound, swap
from leyden.sdk.rollout import rollout

log = logging.getLogger("leyden")

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_OPERATIONS = {
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "llm": "chat",
    "chain": "invoke_workflow",
    "retriever": "retrieval",
    "embedding": "embeddings",
}
KINDS = frozenset({*_OPERATIONS, "span"})


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
            harmless(self._set, _input, value)

    def set_output(self, value: Any) -> None:
        """What came out; of a model also a whole OpenAI or Anthropic response, with its usage."""
        if self._live:
            harmless(self._set, _output, value)

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
            harmless(lambda: self._span.set_attributes({k: _scalar(v) for k, v in attributes.items()}))

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Something that happened now."""
        if self._live:
            harmless(
                lambda: self._span.add_event(name, {k: _scalar(v) for k, v in (attributes or {}).items()})
            )

    def set_error(self, error: BaseException | str) -> None:
        """Mark the span as failed, for example with an error that was handled."""
        if self._live:
            harmless(_mark_failed, self._span, error)

    def _set(self, read: Callable[[str, Any], dict[str, Any]], value: Any) -> None:
        self._span.set_attributes(read(self._kind, value))


class Trace:
    """What `trace(...)` returns: a decorator and a context manager. As context manager, use one object at a time."""

    def __init__(
        self,
        *,
        kind: str,
        name: str | None,
        agent: str | None,
        tool: str | None,
        model: str | None,
        provider: str | None,
        capture: bool,
        attributes: Mapping[str, Any] | None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is none of {', '.join(sorted(KINDS))}")
        self.kind = kind
        self.name = name
        self.agent = agent
        self.tool = tool
        self.model = model
        self.provider = provider
        self.capture = capture
        self.attributes = attributes
        self._open: _Call | None = None

    def __call__(self, fn: F) -> F:
        """`fn`, traced. Also takes what `staticmethod` and `classmethod` return."""
        if isinstance(fn, (staticmethod, classmethod)):
            method = cast(Any, fn)
            return type(method)(self(method.__func__))
        return cast(F, _wrap(fn, _Plan(self, fn)))

    def __enter__(self) -> SpanHandle:
        self._open = _start(_Plan(self, None))
        return SpanHandle(self._open.span if self._open else INVALID_SPAN, self.kind)

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
        return SpanHandle(span, _KIND_OF.get(str(attributes.get(semconv.OPERATION)), "span"))

    def _named(self, kind: str, target: Any, options: dict[str, Any]) -> Any:
        if isinstance(target, str):
            target, options = None, {kind: target, **options}
        return self(target, kind=kind, **options)


_KIND_OF = {operation: kind for kind, operation in _OPERATIONS.items()}
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
    return Trace(**options)


trace = _Tracing()


def bind(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn`, carrying the current rollout and span into whatever thread calls it: `pool.submit(bind(work), item)`."""
    context = contextvars.copy_context()

    @functools.wraps(fn)
    def bound_fn(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy per call: one context cannot be entered by two threads at once.
        return context.copy().run(fn, *args, **kwargs)

    return bound_fn


# ── One call ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Plan:
    """What is known about a traced function before it is called, worked out once."""

    def __init__(self, made: Trace, fn: Callable[..., Any] | None) -> None:
        self.kind = made.kind
        self.capture = made.capture
        self.parameters, self.skip = _parameters(fn)
        label = getattr(fn, "__name__", None) if fn is not None else None
        self.agent = made.agent or ((label or made.name) if made.kind == "agent" else None)
        tool = made.tool or ((label or made.name) if made.kind == "tool" else None)
        self.acts = self.agent if made.kind == "agent" else None
        self.span_kind = SpanKind.CLIENT if made.kind == "llm" else SpanKind.INTERNAL
        subject = {"agent": self.agent, "tool": tool, "llm": made.model}.get(made.kind)
        operation = _OPERATIONS.get(made.kind)
        plain = getattr(fn, "__qualname__", None) or made.kind
        self.name = made.name or (
            f"{operation} {subject}".rstrip()
            if made.kind in ("agent", "tool", "llm") and operation and subject
            else plain
        )
        given = {
            semconv.OPERATION: operation,
            semconv.AGENT_NAME: self.agent,
            semconv.TOOL_NAME: tool,
            semconv.REQUEST_MODEL: made.model,
            semconv.PROVIDER: made.provider,
        }
        self.attributes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self.attributes.update({key: _scalar(value) for key, value in (made.attributes or {}).items()})

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name; what fits no parameter is under "args"."""
        taken = dict(zip(self.parameters, args, strict=False))
        if self.skip:
            taken.pop(self.parameters[0], None)
        if len(args) > len(self.parameters):
            taken["args"] = args[len(self.parameters) :]
        taken.update(kwargs)
        return taken


class _Call:
    """One traced call on its way: its span, and the context it runs in."""

    __slots__ = ("context", "plan", "previous", "span", "started")

    def __init__(self, span: Span, context: Context, plan: _Plan) -> None:
        self.span = span
        self.context = context
        self.plan = plan
        self.previous: Context | None = None
        self.started = time.perf_counter()

    def enter(self) -> None:
        self.previous = swap(self.context)

    def leave(self) -> None:
        """Back to the caller's context, keeping the callee's for when it resumes."""
        if self.previous is not None:
            self.context = swap(self.previous)
            self.previous = None

    def end(self, error: BaseException | None = None) -> None:
        harmless(self._end, error)

    def succeed(self, result: Any) -> None:
        if self.plan.capture and self.span.is_recording():
            harmless(self._take_result, result)
        self.end()

    def _take_result(self, result: Any) -> None:
        _write(self.span, _output(self.plan.kind, result))

    def _end(self, error: BaseException | None) -> None:
        # A consumer that stops early ends a generator with GeneratorExit: that is no failure.
        if error is not None and not isinstance(error, GeneratorExit) and self.span.is_recording():
            _mark_failed(self.span, error)
        self.span.end()


class _Idle(_Call):
    """A call that nobody records: it leaves the context alone."""

    __slots__ = ()

    def enter(self) -> None:
        return

    def leave(self) -> None:
        return


def _start(plan: _Plan, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> _Call | None:
    """Start a call's span and make it current; None when nothing is recorded."""
    at_work = config.running
    if at_work is None:
        return None
    try:
        here = get_current()
        binding = bound(here)
        if binding is not None and not binding.sampled:
            return None
        parent = get_current_span(here).get_span_context()
        if parent.is_valid and not parent.trace_flags.sampled:
            return None
        span = at_work.tracer.start_span(plan.name, here, plan.span_kind, plan.attributes)
        context = set_span_in_context(span, here)
        if plan.acts:
            context = bind_agent(plan.acts, context)
        call = _Call(span, context, plan)
        call.enter()
    except Exception:
        _complain()
        return None
    if plan.capture and kwargs is not None and span.is_recording():
        harmless(_take_arguments, span, plan, args, kwargs)
    return call


def _take_arguments(span: Span, plan: _Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    arguments = plan.arguments(args, kwargs)
    if plan.kind == "llm":
        _write(span, messages.request_attributes(arguments))
    elif arguments:
        only = next(iter(arguments.values())) if len(arguments) == 1 and plan.kind == "agent" else arguments
        _write(span, _input(plan.kind, only))


def _write(span: Span, attributes: Mapping[str, Any]) -> None:
    # For the few attributes of a call, one by one is half as dear as set_attributes.
    for name, value in attributes.items():
        span.set_attribute(name, value)


def _input(kind: str, value: Any) -> dict[str, Any]:
    if kind == "tool":
        return {semconv.TOOL_ARGUMENTS: bounded_text(value)}
    if kind in ("agent", "llm"):
        return {semconv.INPUT_MESSAGES: messages.input_messages(value)}
    return {semconv.INPUT_VALUE: bounded_text(value)}


def _output(kind: str, value: Any) -> dict[str, Any]:
    if kind == "tool":
        return {semconv.TOOL_RESULT: bounded_text(value)}
    if kind == "llm":
        return messages.response_attributes(value)
    if kind == "agent":
        return {semconv.OUTPUT_MESSAGES: messages.output_messages(value)}
    return {semconv.OUTPUT_VALUE: bounded_text(value)}


def _mark_failed(span: Span, error: BaseException | str) -> None:
    if isinstance(error, str):
        span.set_status(Status(StatusCode.ERROR, error[:2_000]))
        return
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = safe_str(error)
    span.set_attribute(semconv.ERROR_TYPE, name)
    span.set_status(Status(StatusCode.ERROR, message))
    stack = "".join(traceback.format_exception(kind, error, error.__traceback__, limit=50))
    event = {
        "exception.type": name,
        "exception.message": message,
        "exception.stacktrace": bounded_text(stack),
    }
    span.add_event("exception", event)


def _scalar(value: Any) -> Any:
    return value if isinstance(value, (str, bool, int, float)) else bounded_json(value)


def harmless(act: Callable[..., object], *args: Any) -> None:
    """Do it; a failure of ours is logged once and goes no further."""
    try:
        act(*args)
    except Exception:
        _complain()


_complained = False


def _complain() -> None:
    global _complained
    if not _complained:
        _complained = True
        log.warning("Leyden could not record a span; the traced code is not affected", exc_info=True)


def _parameters(fn: Callable[..., Any] | None) -> tuple[tuple[str, ...], bool]:
    """Names of the positional parameters, and whether the first is the object or class of a method."""
    if fn is None:
        return (), False
    try:
        found = inspect.signature(fn).parameters.values()
    except (ValueError, TypeError):
        return (), False
    names = tuple(p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return names, bool(names) and names[0] in ("self", "cls")


# ── The shapes of functions ──────────────────────────────────────────────────────────────────────────────────────


def _wrap(fn: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    plain = inspect.isroutine(cast(object, fn)) or isinstance(cast(object, fn), functools.partial)
    body: Any = fn if plain else cast(Any, type(cast(object, fn))).__call__
    if inspect.isasyncgenfunction(body):
        return _wrap_async_generator(fn, plan)
    if inspect.isgeneratorfunction(body):
        return _wrap_generator(fn, plan)
    if inspect.iscoroutinefunction(body):
        return _wrap_coroutine(fn, plan)
    return _wrap_function(fn, plan)


def _wrap_function(fn: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        call = _start(plan, args, kwargs)
        if call is None:
            return fn(*args, **kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            call.leave()
            call.end(error)
            raise
        call.leave()
        call.succeed(result)
        return result

    return traced


def _wrap_coroutine(fn: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        call = _start(plan, args, kwargs)
        if call is None:
            return await fn(*args, **kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            call.leave()
            call.end(error)
            raise
        call.leave()
        call.succeed(result)
        return result

    return traced


class _Yielded:
    """What a generator gave out, as far as a span can hold it."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._stream = messages.StreamedResponse() if call.plan.kind == "llm" else None
        self._some: list[Any] = []
        self._count = 0

    def add(self, item: Any) -> None:
        if not self._call.plan.capture or not self._call.span.is_recording():
            return
        self._count += 1
        if self._count == 1 and self._stream is not None:
            self._call.span.set_attribute(semconv.FIRST_CHUNK_S, time.perf_counter() - self._call.started)
        if self._stream is not None:
            self._stream.add(item)
        elif len(self._some) < 100:
            self._some.append(item)

    def finish(self, result: Any, error: BaseException | None = None) -> None:
        if self._count:
            harmless(self._keep)
        if error is None and result is not None and not self._count:
            self._call.succeed(result)
        else:
            self._call.end(error)

    def _keep(self) -> None:
        if self._stream is not None:
            value: Any = self._stream.response()
        else:
            more = self._count - len(self._some)
            value = [*self._some, *([f"…[+{more} items]"] if more else [])]
        self._call.span.set_attributes(_output(self._call.plan.kind, value))


def _wrap_generator(fn: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = _start(plan, args, kwargs)
        if call is None:
            result: Any = yield from cast(Generator[Any, Any, Any], fn(*args, **kwargs))
            return result
        seen = _Yielded(call)
        try:
            source: Generator[Any, Any, Any] = fn(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(next, source)
            while True:
                item = resume()
                # The caller runs while this generator is suspended: it gets its own context back.
                call.leave()
                harmless(seen.add, item)
                try:
                    sent = yield item
                except GeneratorExit:
                    call.enter()
                    source.close()
                    raise
                except BaseException as thrown:
                    resume = functools.partial(source.throw, thrown)
                else:
                    resume = (
                        functools.partial(source.send, sent)
                        if sent is not None
                        else functools.partial(next, source)
                    )
                call.enter()
        except StopIteration as stop:
            call.leave()
            seen.finish(stop.value)
            return stop.value
        except BaseException as error:
            call.leave()
            seen.finish(None, error)
            raise

    return traced


def _wrap_async_generator(fn: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = _start(plan, args, kwargs)
        source = fn(*args, **kwargs)
        if call is None:
            # No `yield from` in async generators: the loop below serves both.
            call = _Idle(INVALID_SPAN, get_current(), plan)
        seen = _Yielded(call)
        try:
            resume: Callable[[], Any] = source.__anext__
            while True:
                item = await resume()
                call.leave()
                harmless(seen.add, item)
                try:
                    sent = yield item
                except GeneratorExit:
                    call.enter()
                    await source.aclose()
                    raise
                except BaseException as thrown:
                    resume = functools.partial(source.athrow, thrown)
                else:
                    resume = functools.partial(source.asend, sent)
                call.enter()
        except StopAsyncIteration:
            call.leave()
            seen.finish(None)
        except BaseException as error:
            call.leave()
            seen.finish(None, error)
            raise

    return traced


__all__ = ["SpanHandle", "Trace", "bind", "rollout", "trace"]
