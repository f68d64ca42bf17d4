import asyncio
import contextlib
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

import leyden
from fakes.sink import Sink
from leyden.sdk import capture, config, messages
from leyden.sdk import trace as sdk_trace
from leyden.sdk.spans import OwnTracer

Start = Callable[..., Any]


def test_a_traced_function_keeps_its_signature_result_and_name(start: Start) -> None:
    start()

    @leyden.trace
    def add(a: int, b: int = 2, *rest: int, scale: int = 1, **more: Any) -> int:
        "Adds."
        return (a + b + sum(rest)) * scale

    assert add(1) == 3
    assert add(1, 2, 3, scale=2, other=1) == 12
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b", "rest", "scale", "more"]


def test_arguments_and_result_are_kept_as_json(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace.tool("search")
    def find(query: str, *, limit: int) -> dict[str, Any]:
        return {"hits": [query] * limit}

    find("x", limit=2)
    assert leyden.flush()
    span = sink.span("execute_tool search")
    assert span["attributes"]["gen_ai.operation.name"] == "execute_tool"
    assert span["attributes"]["gen_ai.tool.name"] == "search"
    assert json.loads(span["attributes"]["gen_ai.tool.call.arguments"]) == {"query": "x", "limit": 2}
    assert json.loads(span["attributes"]["gen_ai.tool.call.result"]) == {"hits": ["x", "x"]}


def test_capture_false_keeps_content_out(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace.tool(capture=False)
    def secret(password: str) -> str:
        return password

    assert secret("hunter2") == "hunter2"
    assert leyden.flush()
    assert "hunter2" not in json.dumps(sink.spans)


def test_methods_class_methods_and_static_methods_are_traced_without_their_object(
    start: Start, sink: Sink
) -> None:
    start()

    class Agent:
        @leyden.trace(name="plain")
        def plain(self, x: int) -> int:
            return x

        @leyden.trace(name="of class")
        @classmethod
        def of_class(cls, x: int) -> str:
            return f"{cls.__name__}{x}"

        @leyden.trace(name="static")
        @staticmethod
        def static(x: int) -> int:
            return x

        @classmethod
        @leyden.trace(name="inner")
        def inner(cls, x: int) -> str:
            return cls.__name__

    agent = Agent()
    assert (agent.plain(1), Agent.of_class(2), Agent.static(3), agent.static(3), Agent.inner(4)) == (
        1,
        "Agent2",
        3,
        3,
        "Agent",
    )
    assert leyden.flush()
    inputs = {s["name"]: json.loads(s["attributes"]["input.value"]) for s in sink.spans}
    assert inputs == {"plain": {"x": 1}, "of class": {"x": 2}, "static": {"x": 3}, "inner": {"x": 4}}


class Odd(Exception):
    pass


def test_an_exception_passes_through_untouched_and_marks_the_span(start: Start, sink: Sink) -> None:
    start()
    raised = Odd("no such table")

    @leyden.trace(name="query")
    def query() -> None:
        raise raised

    with pytest.raises(Odd) as caught:
        query()
    assert caught.value is raised
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert leyden.flush()
    span = sink.span("query")
    assert span["status"] == {"code": 2, "message": "no such table"}
    assert span["attributes"]["error.type"].endswith("Odd")
    event = {a["key"]: a["value"]["stringValue"] for a in span["events"][0]["attributes"]}
    assert event["exception.message"] == "no such table"
    assert "in query" in event["exception.stacktrace"]


def test_objects_that_refuse_to_be_read_never_disturb_the_call(start: Start, sink: Sink) -> None:
    start()

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

        def __str__(self) -> str:
            raise RuntimeError("no str")

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no attributes")

    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no str")

    hostile = Hostile()
    for make in (leyden.trace, leyden.trace.tool, leyden.trace.agent, leyden.trace.llm):

        @make
        def echo(x: Any) -> Any:
            return x

        assert echo(hostile) is hostile

    @leyden.trace
    def fail() -> None:
        raise HostileError

    with pytest.raises(HostileError):
        fail()
    loop: list[Any] = []
    loop.append(loop)
    assert leyden.trace(lambda x: x)(loop) is loop
    assert leyden.flush()
    assert len(sink.spans) == 6


def test_large_values_are_cut_and_say_so(start: Start, sink: Sink) -> None:
    start()
    leyden.trace.tool("big")(lambda text, many: None)("a" * 10_000_000, list(range(1_000_000)))
    assert leyden.flush()
    kept = sink.span("execute_tool big")["attributes"]["gen_ai.tool.call.arguments"]
    assert len(kept) < 50_000
    assert "chars]" in kept


def test_a_coroutine_is_traced_across_its_awaits(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace(name="child")
    async def child() -> int:
        await asyncio.sleep(0)
        return 1

    @leyden.trace(name="parent")
    async def parent() -> int:
        return sum(await asyncio.gather(child(), child()))

    assert inspect.iscoroutinefunction(parent)
    assert asyncio.run(parent()) == 2
    assert leyden.flush()
    parent_id = sink.span("parent")["spanId"]
    assert [s["parentSpanId"] for s in sink.spans if s["name"] == "child"] == [parent_id] * 2


def test_a_cancelled_coroutine_ends_its_span_as_failed(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace(name="slow")
    async def slow() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert leyden.flush()
    assert sink.span("slow")["attributes"]["error.type"] == "asyncio.exceptions.CancelledError"


def test_a_generator_keeps_send_throw_close_and_return(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace(name="talk")
    def talk() -> Any:
        heard = []
        try:
            while len(heard) < 3:
                try:
                    heard.append((yield len(heard)))
                except KeyError as error:
                    heard.append(error)
            return heard
        finally:
            heard.append("closed")

    assert inspect.isgeneratorfunction(talk)
    it = talk()
    assert next(it) == 0
    assert it.send("a") == 1
    thrown = KeyError("b")
    assert it.throw(thrown) == 2
    with pytest.raises(StopIteration) as stop:
        it.send("c")
    assert stop.value.value == ["a", thrown, "c", "closed"]
    early = talk()
    next(early)
    early.close()
    with pytest.raises(StopIteration):
        next(early)
    assert leyden.flush()
    assert [s.get("status") for s in sink.spans] == [None, None]


def test_a_generator_span_covers_the_iteration_and_parents_only_its_own_work(
    start: Start, sink: Sink
) -> None:
    start()
    step = leyden.trace(lambda label: label)

    @leyden.trace(name="source")
    def source() -> Iterator[int]:
        with leyden.trace("held open"):
            for i in range(2):
                step("inside")
                yield i

    with leyden.trace("consumer"):
        for _ in source():
            step("outside")
    assert leyden.flush()
    by_id = {s["spanId"]: s for s in sink.spans}
    parents = [
        (json.loads(s["attributes"]["input.value"])["label"], by_id[s["parentSpanId"]]["name"])
        for s in sink.spans
        if "lambda" in s["name"]
    ]
    assert parents == [("inside", "held open"), ("outside", "consumer")] * 2
    assert by_id[sink.span("held open")["parentSpanId"]]["name"] == "source"
    assert json.loads(sink.span("source")["attributes"]["output.value"]) == [0, 1]


def test_an_exception_in_a_generator_passes_through(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace(name="breaks")
    def breaks() -> Iterator[int]:
        yield 1
        raise Odd("late")

    with pytest.raises(Odd, match="late"):
        list(breaks())
    assert leyden.flush()
    assert sink.span("breaks")["status"]["code"] == 2


@pytest.mark.parametrize("sample", [1.0, 0.0])
def test_an_async_generator_keeps_asend_athrow_and_aclose(start: Start, sink: Sink, sample: float) -> None:
    start(sample=sample)
    closed = []

    @leyden.trace(name="stream")
    async def stream() -> AsyncIterator[Any]:
        got = None
        try:
            while True:
                try:
                    got = yield got
                except KeyError:
                    got = "caught"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def main() -> None:
        it: Any = stream()
        assert await it.__anext__() is None
        assert await it.asend("x") == "x"
        assert await it.athrow(KeyError("k")) == "caught"
        await it.aclose()
        with pytest.raises(StopAsyncIteration):
            await it.__anext__()
        broken: Any = stream()
        await broken.__anext__()
        with pytest.raises(Odd):
            await broken.athrow(Odd())

    assert inspect.isasyncgenfunction(stream)
    asyncio.run(main())
    assert closed == [True, True]
    assert leyden.flush()
    assert [s.get("status", {}).get("code") for s in sink.spans] == ([None, 2] if sample else [])


def test_a_block_is_traced_with_what_it_says(start: Start, sink: Sink) -> None:
    start()
    with leyden.trace("step", kind="llm", model="m-1") as span:
        span.set_input([{"role": "user", "content": "hi"}])
        span.set_output("hello")
        span.set_usage(10, 5, cache_read_tokens=4)
        span.set_attribute("mine", {"a": [1]})
        span.add_event("retry", {"n": 1})
        assert leyden.trace.current().span_id == span.span_id
    assert leyden.flush()
    attributes = sink.span("step")["attributes"]
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert attributes["mine"] == '{"a":[1]}'
    assert json.loads(attributes["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "hi"}]


def test_an_agents_name_marks_the_spans_inside_it(start: Start, sink: Sink) -> None:
    start(agent="house")
    tool = leyden.trace.tool("look")(lambda: None)
    leyden.trace.agent("router")(tool)()
    tool()
    assert leyden.flush()
    agents = [s["attributes"]["gen_ai.agent.name"] for s in sink.spans if s["name"] == "execute_tool look"]
    assert agents == ["router", "house"]


OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-x-2026",
    "choices": [
        {
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
                ],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 4,
        "output_tokens": 7,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 6,
    },
}


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{k: as_object(v) for k, v in value.items()})
    return [as_object(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", [lambda x: x, as_object], ids=["dict", "object"])
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            OPENAI,
            {"id": "chatcmpl-1", "model": "gpt-x-2026", "finish": ["tool_calls"], "read": 16, "reasoning": 3},
        ),
        (ANTHROPIC, {"id": "msg_1", "model": "claude-x", "finish": ["tool_use"], "read": 10, "write": 6}),
    ],
    ids=["openai", "anthropic"],
)
def test_a_model_response_gives_tokens_model_and_content(
    start: Start, sink: Sink, response: Any, expected: dict[str, Any], shape: Any
) -> None:
    start()
    given = shape(response)

    @leyden.trace.llm("asked", provider="acme")
    def ask(*, messages: list[Any]) -> Any:
        return given

    assert ask(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]) is given
    assert leyden.flush()
    attributes = sink.span("chat asked")["attributes"]
    assert attributes["gen_ai.request.model"] == "asked"
    assert attributes["gen_ai.response.model"] == expected["model"]
    assert attributes["gen_ai.response.id"] == expected["id"]
    assert attributes["gen_ai.response.finish_reasons"] == expected["finish"]
    assert attributes["gen_ai.usage.input_tokens"] == 20
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == expected["read"]
    assert attributes.get("gen_ai.usage.cache_write.input_tokens") == expected.get("write")
    assert attributes.get("gen_ai.usage.reasoning.output_tokens") == expected.get("reasoning")
    [answer] = json.loads(attributes["gen_ai.output.messages"])
    assert answer["parts"][-1]["type"] == "tool_call"
    assert answer["parts"][-1]["name"] == "f"


def test_a_streamed_model_call_is_gathered_into_one_response(start: Start, sink: Sink) -> None:
    start()

    @leyden.trace.llm("m")
    def stream() -> Iterator[Any]:
        yield {"id": "c", "model": "m-1", "choices": [{"delta": {"content": "Hel"}}]}
        yield {"id": "c", "choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}
        yield {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}

    assert len(list(stream())) == 3
    assert leyden.flush()
    attributes = sink.span("chat m")["attributes"]
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"] == [
        {"type": "text", "content": "Hello"}
    ]
    assert attributes["gen_ai.usage.input_tokens"] == 3
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_a_rollout_reaches_threads_through_bind(start: Start, sink: Sink) -> None:
    start()
    work = leyden.trace(lambda n: n)
    with ThreadPoolExecutor(4) as pool, leyden.rollout("task") as r, leyden.trace("outer") as outer:
        assert list(pool.map(sdk_trace.bind(work), range(20))) == list(range(20))
    assert leyden.flush()
    inner = [s for s in sink.spans if s["name"] != "outer"]
    assert len(inner) == 20
    assert {s["attributes"]["agentlightning.rollout_id"] for s in inner} == {r.rollout_id}
    assert {s["parentSpanId"] for s in inner} == {outer.span_id}


def test_before_init_and_when_disabled_nothing_happens(sink: Sink) -> None:
    threads = threading.active_count()
    calls = leyden.trace.tool(lambda x: x)
    for _ in range(2):
        with leyden.rollout("x"), leyden.trace("y") as span:
            assert calls(1) == 1
            assert not span.recording
            leyden.reward(1)
            span.set_output("z")
        assert leyden.flush()
        leyden.init(sink.url, enabled=False)
    assert threading.active_count() == threads
    assert sink.requests == []


def test_an_applications_own_provider_is_used_and_its_spans_are_recorded(start: Start, sink: Sink) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    start(tracer_provider=provider)
    with (
        leyden.rollout("x") as r,
        provider.get_tracer("theirs").start_as_current_span("their span"),
        leyden.trace("ours"),
    ):
        pass
    assert leyden.flush()
    assert {s["name"] for s in sink.spans} == {"their span", "ours"}
    assert {s["attributes"]["agentlightning.rollout_id"] for s in sink.spans} == {r.rollout_id}
    assert sink.span("ours")["parentSpanId"] == sink.span("their span")["spanId"]


def test_the_global_provider_is_left_alone(start: Start) -> None:
    before = otel.get_tracer_provider()
    start()
    assert otel.get_tracer_provider() is before


@dataclass
class Task:
    goal: str


def test_an_unknown_option_or_kind_is_named() -> None:
    with pytest.raises(ValueError, match="toool"):
        leyden.trace(kind="toool")
    with pytest.raises(TypeError, match="nmae"):
        leyden.trace(nmae="x")


def test_dataclasses_and_models_are_kept_by_their_fields(start: Start, sink: Sink) -> None:
    start()
    leyden.trace(name="f")(lambda task: Task("done"))(Task("go"))
    assert leyden.flush()
    assert json.loads(sink.span("f")["attributes"]["input.value"]) == {"task": {"goal": "go"}}
    assert json.loads(sink.span("f")["attributes"]["output.value"]) == {"goal": "done"}


def test_sampled_out_traces_record_nothing_and_nothing_below_them(start: Start, sink: Sink) -> None:
    start(sample=0.0)
    inner = leyden.trace(lambda: leyden.trace.current().recording)
    assert leyden.trace(lambda: inner())() is False
    with contextlib.suppress(Odd), leyden.rollout("x"):
        assert inner() is False
        raise Odd
    assert leyden.flush()
    assert sink.requests == []


def test_a_share_of_rollouts_is_recorded_whole(start: Start, sink: Sink) -> None:
    start(sample=0.5)
    step = leyden.trace(name="step")(lambda: None)
    for _ in range(100):
        with leyden.rollout("x"):
            step()
            step()
    assert leyden.flush()
    counts: dict[str, int] = {}
    for span in sink.spans:
        rollout = span["attributes"]["agentlightning.rollout_id"]
        counts[rollout] = counts.get(rollout, 0) + 1
    assert 20 < len(counts) < 80
    assert set(counts.values()) == {2}
    started = [body["rollout_id"] for path, body in sink.taken if path == "/api/rollouts"]
    assert set(started) == set(counts)


def say_everything(tracer: Any) -> Any:
    """A span on which every method of OpenTelemetry's API was used."""
    parent = tracer.start_span("parent")
    span = tracer.start_span(
        "first name", otel.set_span_in_context(parent), otel.SpanKind.CLIENT, {"given": 1}
    )
    span.set_attribute("text", "a")
    span.set_attribute("list", ["a", "b"])
    span.set_attributes({"flag": True, "number": 1.5, "text": "b", "object": {"k": [1]}})
    span.add_event("event", {"k": 1}, timestamp=7)
    span.add_link(parent.get_span_context(), {"why": "x"})
    span.update_name("name")
    with contextlib.suppress(KeyError), otel.use_span(span, record_exception=True):
        raise KeyError("lost")
    span.set_status(otel.Status(otel.StatusCode.OK))
    span.set_status(otel.StatusCode.ERROR, "too late")
    assert span.is_recording()
    span.end(end_time=9)
    span.end(end_time=10)
    span.set_attribute("late", 1)
    span.add_event("late")
    span.set_status(otel.StatusCode.ERROR, "late")
    span.update_name("late")
    assert not span.is_recording()
    return parent, span


def test_our_spans_say_what_the_sdks_say(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")
    provider = TracerProvider(shutdown_on_exit=False)
    theirs = say_everything(provider.get_tracer("x"))
    ours = say_everything(OwnTracer(TracerProvider(shutdown_on_exit=False), "x"))
    told, expected = (json.loads(span.to_json()) for _, span in (ours, theirs))
    parent, span = ours
    assert span.parent == parent.get_span_context()
    assert span.context.trace_id == parent.context.trace_id
    for facts in (told, expected):
        del facts["context"], facts["parent_id"], facts["start_time"], facts["links"][0]["context"]
        del facts["events"][0]["timestamp"], facts["events"][0]["attributes"]["exception.stacktrace"]
    assert told == expected


def test_a_span_holds_no_more_attributes_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")
    span: Any = OwnTracer(TracerProvider(shutdown_on_exit=False), "x").start_span("s")
    for i in range(5):
        span.set_attribute(f"k{i}", i)
    span.set_attribute("k4", "again")
    assert dict(span.attributes) == {"k2": 2, "k3": 3, "k4": "again"}
    assert span.dropped_attributes == 2


def test_a_length_limit_of_the_environment_is_kept(
    start: Start, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")
    start()
    leyden.trace.tool("t")(lambda text: text)("a long text")
    assert leyden.flush()
    assert sink.span("execute_tool t")["attributes"]["gen_ai.tool.call.result"] == "a lon"


def test_two_threads_that_end_a_span_end_it_once(start: Start, sink: Sink) -> None:
    start()
    assert config.running is not None
    span = config.running.tracer.start_span("once")
    gate = threading.Barrier(8)

    def end() -> None:
        gate.wait()
        span.end()

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leyden.flush()
    assert sink.names == ["once"]


class Text(str):
    pass


circle: list[Any] = []
circle.append(circle)
deep: Any = 1
for _ in range(40):
    deep = [deep]
VALUES: list[Any] = [
    "text", 'quo"te\n\x00é😀', 1, -1.5, True, None, (), {"a": [1, {"b": (2, None)}]}, {1: "a", None: 2}, float("nan"), [float("inf")],
    2**70, Text("sub"), {Text("k"): Text("v")}, b"bytes", {1, 2}, Task("goal"), circle, deep, {"x": object}, "y" * 70_000,
    {"a": "b" * 40_000, "c": 1}, list(range(3_000)), {str(i): i for i in range(3_000)}, [["z" * 50] * 50] * 50, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_quick_way_to_json_says_what_the_careful_one_says(value: Any) -> None:
    quick = capture.bounded_json(value)
    assert quick == capture.encode(capture.clip(value))
    json.loads(quick, parse_constant=pytest.fail)
    assert len(quick) < 3 * capture.MAX_CHARS
    text = messages.input_messages([{"role": "user", "content": value, "tool_calls": [value]}])
    assert json.loads(text, parse_constant=pytest.fail)[0]["role"] == "user"
    assert len(text) < 3 * capture.MAX_CHARS


def test_a_message_that_changes_after_the_call_is_kept_as_it_was(start: Start, sink: Sink) -> None:
    start()
    history: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "then"}]}]
    leyden.trace.llm("m")(lambda messages: "ok")(history)
    history[0]["content"][0]["text"] = "now"
    history.append({"role": "user", "content": "more"})
    assert leyden.flush()
    kept = json.loads(sink.span("chat m")["attributes"]["gen_ai.input.messages"])
    assert kept == [{"role": "user", "parts": [{"type": "text", "content": "then"}]}]


def run_python(code: str, *args: str, **env: str) -> str:
    """Run code in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_debug_prints_each_finished_span_on_one_line(sink: Sink, tmp_path: Any) -> None:
    code = """
import sys, leyden
leyden.init(sys.argv[1])
leyden.trace.tool("search")(lambda query: query)("tea")
with leyden.trace("second"): pass
"""
    lines = run_python(code, sink.url, LEYDEN_DEBUG="1", LEYDEN_SPOOL_DIR=str(tmp_path)).splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["name"], second["name"]) == ("execute_tool search", "second")
    assert first["attributes"]["gen_ai.tool.call.result"] == "tea"
    assert first["resource"]["attributes"]["service.name"] == "agent"
    assert sink.names == ["execute_tool search", "second"]
    assert run_python(code, sink.url, LEYDEN_SPOOL_DIR=str(tmp_path)) == ""


def test_set_global_records_what_other_instrumentations_trace(sink: Sink, tmp_path: Any) -> None:
    # A process of its own: OpenTelemetry's global provider can be set only once.
    code = """
import sys, leyden
from opentelemetry import trace
leyden.init(sys.argv[1], set_global=True)
theirs = trace.get_tracer("library")
with leyden.rollout("x") as r, leyden.trace("ours"):
    with theirs.start_as_current_span("theirs", attributes={"k": (1, 2)}):
        with leyden.trace("below"): pass
print(r.rollout_id)
"""
    rollout_id = run_python(code, sink.url, LEYDEN_SPOOL_DIR=str(tmp_path)).strip()
    spans = {s["name"]: s for s in sink.spans}
    assert set(spans) == {"ours", "theirs", "below"}
    assert spans["theirs"]["parentSpanId"] == spans["ours"]["spanId"]
    assert spans["below"]["parentSpanId"] == spans["theirs"]["spanId"]
    assert spans["theirs"]["attributes"]["k"] == [1, 2]
    assert {s["attributes"]["agentlightning.rollout_id"] for s in spans.values()} == {rollout_id}
