"""Functions, coroutines and generators, wrapped in a span that covers exactly their own running.

Promises: signature, results, exceptions and the generator protocol stay what they were. While a generator is suspended its
consumer has its own context back.
"""

import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, NamedTuple, cast

from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, get_current_span, set_span_in_context

from leyden.sdk import config, messages, semconv
from leyden.sdk.content import (
    OPERATIONS,
    complain,
    harmless,
    input_attributes,
    mark_failed,
    output_attributes,
    scalar,
    write,
)
from leyden.sdk.context import bind_agent, bound, swap


class About(NamedTuple):
    """What the caller of `trace(...)` said about a function or block."""

    kind: str
    name: str | None
    agent: str | None
    tool: str | None
    model: str | None
    provider: str | None
    capture: bool
    attributes: Mapping[str, Any] | None


class Plan:
    """What is known about a traced function before it is called, worked out once."""

    def __init__(self, made: About, fn: Callable[..., Any] | None) -> None:
        self.kind = made.kind
        self.capture = made.capture
        self.parameters, self.skip = _parameters(fn)
        label = getattr(fn, "__name__", None) if fn is not None else None
        self.agent = made.agent or ((label or made.name) if made.kind == "agent" else None)
        tool = made.tool or ((label or made.name) if made.kind == "tool" else None)
        self.acts = self.agent if made.kind == "agent" else None
        self.span_kind = SpanKind.CLIENT if made.kind == "llm" else SpanKind.INTERNAL
        subject = {"agent": self.agent, "tool": tool, "llm": made.model}.get(made.kind)
        operation = OPERATIONS.get(made.kind)
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
        self.attributes.update({key: scalar(value) for key, value in (made.attributes or {}).items()})

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name; what fits no parameter is under "args"."""
        taken = dict(zip(self.parameters, args, strict=False))
        if self.skip:
            taken.pop(self.parameters[0], None)
        if len(args) > len(self.parameters):
            taken["args"] = args[len(self.parameters) :]
        taken.update(kwargs)
        return taken


class Call:
    """One traced call on its way: its span, and the context it runs in."""

    __slots__ = ("context", "plan", "previous", "span", "started")

    def __init__(self, span: Span, context: Context, plan: Plan) -> None:
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
        write(self.span, output_attributes(self.plan.kind, result))

    def _end(self, error: BaseException | None) -> None:
        # A consumer that stops early ends a generator with GeneratorExit: that is no failure.
        if error is not None and not isinstance(error, GeneratorExit) and self.span.is_recording():
            mark_failed(self.span, error)
        self.span.end()


class _Idle(Call):
    """A call that nobody records: it leaves the context alone."""

    __slots__ = ()

    def enter(self) -> None:
        return

    def leave(self) -> None:
        return


def start(plan: Plan, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Call | None:
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
        call = Call(span, context, plan)
        call.enter()
    except Exception:
        complain()
        return None
    if plan.capture and kwargs is not None and span.is_recording():
        harmless(_take_arguments, span, plan, args, kwargs)
    return call


def _take_arguments(span: Span, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    arguments = plan.arguments(args, kwargs)
    if plan.kind == "llm":
        write(span, messages.request_attributes(arguments))
    elif arguments:
        only = next(iter(arguments.values())) if len(arguments) == 1 and plan.kind == "agent" else arguments
        write(span, input_attributes(plan.kind, only))


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


def wrap(fn: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    plain = inspect.isroutine(cast(object, fn)) or isinstance(cast(object, fn), functools.partial)
    body: Any = fn if plain else cast(Any, type(cast(object, fn))).__call__
    if inspect.isasyncgenfunction(body):
        return _wrap_async_generator(fn, plan)
    if inspect.isgeneratorfunction(body):
        return _wrap_generator(fn, plan)
    if inspect.iscoroutinefunction(body):
        return _wrap_coroutine(fn, plan)
    return _wrap_function(fn, plan)


def _wrap_function(fn: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        call = start(plan, args, kwargs)
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


def _wrap_coroutine(fn: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        call = start(plan, args, kwargs)
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

    def __init__(self, call: Call) -> None:
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
        self._call.span.set_attributes(output_attributes(self._call.plan.kind, value))


def _wrap_generator(fn: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = start(plan, args, kwargs)
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


def _wrap_async_generator(fn: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = start(plan, args, kwargs)
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
