"""Calls over real sockets to scripted model servers: failover, retries, limits per phase, keys, and a client that leaves."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from fakes.model_answers import chat_events
from fakes.model_server import (
    CLOSE,
    RESET,
    Answer,
    Gate,
    ModelServer,
    Step,
    answer,
    chat,
    failing,
    gzipped,
    raw,
    stream,
)
from leyden.errors import (
    BadInput,
    LeydenError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from leyden.gateway.call import Family
from leyden.gateway.config import GatewayConfig
from leyden.gateway.pool import Outgoing
from leyden.gateway.routing import Target
from leyden.gateway.upstreams import Reached, Try, Upstreams

T = TypeVar("T")
KEY = "sk-very-secret-1234"
CLIENT_KEY = b"sk-of-the-client"
PATIENCE_S = 20.0


@dataclass
class Calls:
    """Upstreams under test with a clock that the pauses between tries move."""

    upstreams: Upstreams
    tries: list[Try] = field(default_factory=list[Try])
    pauses: list[float] = field(default_factory=list[float])

    async def open(
        self,
        *,
        headers: list[tuple[bytes, bytes]] | None = None,
        path: str = "/chat/completions",
        body: bytes = b'{"model": "m"}',
        deadline_s: float | None = None,
        may_repeat: bool = True,
        rollout: str | None = None,
        model: str = "m",
        client: Family = "openai",
    ) -> Reached:
        def render(_: Target) -> Outgoing:
            return Outgoing("POST", path, headers or [], body, may_repeat, client)

        plan = self.upstreams.plan(model, "chat", family="openai", rollout_id=rollout)
        return await self.upstreams.open(
            plan=plan, render=render, deadline_s=deadline_s, on_try=self.tries.append
        )


@asynccontextmanager
async def calling(
    upstreams: dict[str, dict[str, Any]], models: Any = None, **gateway: Any
) -> AsyncIterator[Calls]:
    """Upstreams by name; the model "m" goes to them in their order."""
    order = [{"upstream": name, "priority": i} for i, name in enumerate(upstreams)]
    data = {"upstreams": upstreams, "models": models or {"m": order}, "gateway": gateway}
    now = 1_000.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        calls.pauses.append(seconds)
        now += seconds

    calls = Calls(
        Upstreams(GatewayConfig.from_dict(data, {}), clock=lambda: now, rng=random.Random(7), sleep=sleep)
    )
    try:
        yield calls
    finally:
        await calls.upstreams.close()


def at(server: ModelServer, **more: Any) -> dict[str, Any]:
    """An upstream that is a scripted server."""
    return {"kind": "openai", "base_url": f"{server.url}/v1", **more}


async def read(reached: Reached) -> bytes:
    return b"".join([piece async for piece in reached.chunks()])


def run(test: Callable[[], Awaitable[T]]) -> T:
    return asyncio.run(asyncio.wait_for(test(), PATIENCE_S))


async def happened(event: Any) -> bool:
    """Whether a thread's event was set in time."""
    return await asyncio.to_thread(event.wait, PATIENCE_S)


@pytest.fixture
def one() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def two() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# ── What arrives ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_arrives_as_it_was_sent_and_its_answer_as_it_was_given(one: ModelServer) -> None:
    one.script(
        answer(
            {"x": "é"}, headers={"X-Request-Id": "r1", "Keep-Alive": "timeout=5", "Connection": "keep-alive"}
        )
    )

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            headers = [
                (b"x-custom", b"1"),
                (b"connection", b"close"),
                (b"x-leyden-rollout", b"ro-1"),
                (b"host", b"here"),
            ]
            reached = await calls.open(
                headers=headers, body=b'{"a": "\xc3\xa9"}', path="/chat/completions?beta=true"
            )
            assert (reached.status, reached.family, reached.tries) == (200, "openai", 1)
            assert await read(reached) == b'{"x": "\\u00e9"}'
            assert dict(reached.headers).keys() == {b"content-type", b"content-length", b"x-request-id"}

    run(test)
    [request] = one.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", "beta=true")
    assert request.body == b'{"a": "\xc3\xa9"}'
    assert request.headers.keys() == {"host", "x-custom", "content-length"}


def test_pieces_are_handed_out_as_they_arrive(one: ModelServer) -> None:
    events = chat_events("Hello there")
    gates = [Gate() for _ in events]
    one.script(stream(*[step for pair in zip(events, gates, strict=True) for step in pair]))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            reached = await calls.open()
            pieces = reached.chunks()
            for event, gate in zip(events, gates, strict=True):
                assert await anext(pieces) == event
                gate.open()
            assert await anext(pieces, None) is None

    run(test)


def test_a_compressed_answer_stays_compressed(one: ModelServer) -> None:
    one.script(gzipped(chat("zip")))

    async def test() -> bytes:
        async with calling({"a": at(one)}) as calls:
            reached = await calls.open(headers=[(b"accept-encoding", b"gzip")])
            assert (b"content-encoding", b"gzip") in reached.headers
            return await read(reached)

    assert run(test)[:2] == b"\x1f\x8b"


def test_a_large_event_and_a_large_request_go_through(one: ModelServer) -> None:
    event = b"data: " + b"x" * (20 * 2**20) + b"\n\n"
    one.script(stream(event))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            assert await read(await calls.open(body=b"y" * (3 * 2**20))) == event

    run(test)
    assert len(one.requests[0].body) == 3 * 2**20


def test_connections_are_kept_for_the_next_call(one: ModelServer) -> None:
    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            for _ in range(5):
                await read(await calls.open())

    run(test)
    assert {request.connection for request in one.requests} == {0}


def test_no_redirect_is_followed_and_no_cookie_kept(one: ModelServer) -> None:
    one.script(answer({}, status=307, headers={"location": "/elsewhere", "set-cookie": "a=b"}))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            assert (await calls.open()).status == 307
            await read(await calls.open())

    run(test)
    assert [(request.path, "cookie" in request.headers) for request in one.requests] == [
        ("/v1/chat/completions", False)
    ] * 2


def test_more_calls_than_connections_wait_for_one(one: ModelServer) -> None:
    gate = Gate()
    one.script(stream(b"data: 1\n\n", gate))

    async def test() -> None:
        async with calling({"a": at(one, max_connections=1)}) as calls:
            first = await calls.open()
            waiting = asyncio.ensure_future(calls.open())
            await asyncio.sleep(0)
            gate.open()
            await read(first)
            await read(await waiting)

    run(test)
    assert one.connections == 1


# ── Retries and failover ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_a_failure_that_may_pass_is_asked_again(one: ModelServer, status: int) -> None:
    one.script(failing(status))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            reached = await calls.open()
            assert (reached.status, reached.tries) == (200, 2)
            assert [each.status for each in calls.tries] == [status, 200]
            assert 0.1 <= calls.pauses[0] <= 0.2

    run(test)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_any_other_error_is_the_answer(one: ModelServer, two: ModelServer, status: int) -> None:
    one.script(failing(status, message="because"))

    async def test() -> None:
        async with calling({"a": at(one), "b": at(two)}) as calls:
            reached = await calls.open()
            assert (reached.status, reached.tries) == (status, 1)
            assert b"because" in await read(reached)

    run(test)
    assert not two.requests


def test_when_all_fail_the_last_answer_is_handed_through_unchanged(
    one: ModelServer, two: ModelServer
) -> None:
    one.always = failing(500, message="first")
    two.always = failing(529, message="overloaded", headers={"x-request-id": "r9"})

    async def test() -> None:
        async with calling({"a": at(one), "b": at(two)}) as calls:
            reached = await calls.open()
            assert (reached.status, reached.target.upstream, reached.tries) == (529, "b", 6)
            assert (b"x-request-id", b"r9") in reached.headers
            assert b"overloaded" in await read(reached)
            assert len(calls.pauses) == 4

    run(test)


def test_an_answer_beats_an_error_of_ours_that_came_after_it(one: ModelServer) -> None:
    one.always = failing(503, message="come back", headers={"retry-after": "1"})
    gone = {"kind": "openai", "base_url": f"http://127.0.0.1:{closed_port()}/v1"}

    async def test() -> None:
        async with calling({"a": at(one), "gone": gone}, retry={"tries": 1}) as calls:
            reached = await calls.open()
            assert (reached.status, reached.tries) == (503, 2)
            assert b"come back" in await read(reached)
            assert await read(reached) != b""

    run(test)


def test_an_upstream_that_is_away_is_left_for_the_next_at_once(one: ModelServer) -> None:
    gone = {"kind": "openai", "base_url": f"http://127.0.0.1:{closed_port()}/v1"}

    async def test() -> None:
        async with calling({"gone": gone, "a": at(one)}) as calls:
            reached = await calls.open()
            assert (reached.target.upstream, reached.tries, calls.pauses) == ("a", 2, [])
            assert isinstance(calls.tries[0].error, UpstreamUnreachable)

    run(test)


def test_without_any_upstream_the_error_names_it(one: ModelServer) -> None:
    port = closed_port()

    async def test() -> None:
        async with calling({"gone": {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}}) as calls:
            with pytest.raises(
                UpstreamUnreachable, match=rf"Upstream 'gone' at 127.0.0.1:{port} cannot be reached"
            ):
                await calls.open()
            assert len(calls.tries) == 3

    run(test)


def test_retry_after_is_waited_for_within_the_budget(one: ModelServer) -> None:
    one.script(failing(429, headers={"retry-after": "7"}), failing(429, headers={"retry-after-ms": "250"}))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            assert (await calls.open()).status == 200
            assert calls.pauses == [7.0, 0.25]

    run(test)


def test_the_budget_ends_the_retries(one: ModelServer) -> None:
    one.always = failing(429, headers={"retry-after": "7"})

    async def test() -> None:
        async with calling({"a": at(one)}, retry={"tries": 20, "budget_s": 20}) as calls:
            reached = await calls.open()
            assert (reached.status, reached.tries, calls.pauses) == (429, 3, [7.0, 7.0])

    run(test)


def test_the_deadline_ends_the_retries(one: ModelServer) -> None:
    one.always = failing(429, headers={"retry-after": "7"})

    async def test() -> None:
        async with calling({"a": at(one)}, retry={"tries": 20}) as calls:
            reached = await calls.open(deadline_s=1_010.0)
            assert (reached.status, reached.tries) == (429, 2)

    run(test)


def test_a_target_that_asks_to_wait_is_left_for_the_next_and_rests(
    one: ModelServer, two: ModelServer
) -> None:
    one.script(failing(429, headers={"retry-after": "30"}))

    async def test() -> None:
        async with calling({"a": at(one), "b": at(two)}) as calls:
            assert (await calls.open()).target.upstream == "b"
            assert [target.upstream for target in calls.upstreams.plan("m", "chat", family="openai")] == [
                "b",
                "a",
            ]

    run(test)


def test_a_kept_connection_that_its_server_gave_up_costs_nothing(one: ModelServer) -> None:
    one.script(chat(), raw())

    async def test() -> None:
        async with calling({"a": at(one)}, retry={"tries": 1}) as calls:
            await read(await calls.open())
            assert (await calls.open()).status == 200
            assert calls.upstreams.health.snapshot(now=1_000.0) == {}

    run(test)


def test_an_upstream_that_always_fails_is_ejected_and_probed_again(
    one: ModelServer, two: ModelServer
) -> None:
    one.always = failing(500)

    async def test() -> None:
        async with calling({"a": at(one), "b": at(two)}, retry={"tries": 1}) as calls:
            for _ in range(5):
                assert (await calls.open()).tries == 2
            assert (await calls.open()).tries == 1
            assert len(one.requests) == 5
            await calls.upstreams.sleep(5.0)
            one.always = chat()
            reached = await calls.open()
            assert (reached.target.upstream, reached.tries) == ("a", 1)
            assert calls.upstreams.health.snapshot(now=2_000.0) == {}

    run(test)


@pytest.mark.parametrize(
    "steps", [(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",), (b"not HTTP at all\r\n\r\n",)]
)
def test_an_answer_that_breaks_before_its_first_byte_is_asked_again(
    one: ModelServer, steps: tuple[Step, ...]
) -> None:
    one.script(raw(*steps))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            assert (await calls.open()).tries == 2
            assert isinstance(calls.tries[0].error, UpstreamBroken)

    run(test)


def test_a_chunked_body_that_is_none_is_no_long_wait(one: ModelServer) -> None:
    gate = Gate()
    one.script(raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", gate, b"zz\r\n"))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            call = asyncio.ensure_future(calls.open())
            assert await happened(gate.reached)
            gate.open()
            assert (await call).tries == 2

    run(test)


def test_a_request_that_must_not_run_twice_is_not_asked_again_once_it_may_have_run(one: ModelServer) -> None:
    one.script(failing(500), chat(), raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            assert (await calls.open(may_repeat=False)).tries == 2
            with pytest.raises(UpstreamBroken):
                await calls.open(may_repeat=False)
            assert len(calls.tries) == 3

    run(test)


def test_a_rollout_keeps_its_upstream_and_others_spread(one: ModelServer, two: ModelServer) -> None:
    async def test() -> None:
        models = {"m": [{"upstream": "a"}, {"upstream": "b"}]}
        async with calling({"a": at(one), "b": at(two)}, models) as calls:
            homes = [
                {(await calls.open(rollout=f"ro-{i}")).target.upstream for _ in range(3)} for i in range(20)
            ]
            assert {len(home) for home in homes} == {1}
            assert set.union(*homes) == {"a", "b"}

    run(test)


def test_a_request_that_no_target_can_be_given_is_refused(one: ModelServer) -> None:
    def render(_: Target) -> Outgoing:
        raise BadInput("no such door there")

    async def test() -> None:
        async with calling({"a": at(one), "b": at(one)}) as calls:
            plan = calls.upstreams.plan("m", "chat", family="openai")
            with pytest.raises(BadInput, match="no such door"):
                await calls.upstreams.open(plan=plan, render=render)

    run(test)
    assert not one.requests


# ── Limits per phase, and answers that stop ──────────────────────────────────────────────────────────────────────


def test_a_connection_that_is_not_taken_ends_in_time(one: ModelServer) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The kernel takes what fits into the queue of a server that never accepts; after that, nobody answers.
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        upstream = {
            "kind": "openai",
            "base_url": f"http://127.0.0.1:{full.getsockname()[1]}",
            "timeouts": {"connect_s": 0.05},
        }

        async def test() -> None:
            async with calling({"full": upstream, "a": at(one)}) as calls:
                assert (await calls.open()).target.upstream == "a"
                error = calls.tries[0].error
                assert isinstance(error, UpstreamTimeout)
                assert error.phase == "connect"

        run(test)


@pytest.mark.parametrize("steps", [(), (b"",)])
def test_silence_before_the_first_byte_moves_on_to_the_next(
    one: ModelServer, two: ModelServer, steps: tuple[Step, ...]
) -> None:
    one.script(Answer(200 if steps else 0, {}, (*steps, Gate()), framing="chunked"))

    async def test() -> None:
        async with calling({"a": at(one, timeouts={"first_byte_s": 0.05}), "b": at(two)}) as calls:
            reached = await calls.open()
            assert (reached.target.upstream, reached.tries) == ("b", 2)
            error = calls.tries[0].error
            assert isinstance(error, UpstreamTimeout)
            assert error.phase == "first byte"

    run(test)
    assert one.requests[0].left.wait(PATIENCE_S)


async def broken(calls: Calls, gate: Gate) -> tuple[bytes, UpstreamError]:
    """What came of a body before it stopped, and how it stopped. gate: opened once the first piece is there."""
    reached, came = await calls.open(), b""
    try:
        async for piece in reached.chunks():
            came += piece
            gate.open()
    except UpstreamError as error:
        return came, error
    raise AssertionError("the body came whole")


@pytest.mark.parametrize(("limit", "phase"), [("idle_s", "idle"), ("total_s", "total")])
def test_a_stream_that_falls_silent_or_never_ends_is_cut_off(
    one: ModelServer, limit: str, phase: str
) -> None:
    one.script(stream(b"data: 1\n\n", Gate()))

    async def test() -> None:
        async with calling({"a": at(one, timeouts={limit: 0.3})}) as calls:
            came, error = await broken(calls, Gate())
            assert came == b"data: 1\n\n"
            assert isinstance(error, UpstreamTimeout)
            assert error.phase == phase
            assert calls.upstreams.health.snapshot(now=1_000.0)["a"].failures_in_a_row == 1

    run(test)
    assert one.requests[0].left.wait(PATIENCE_S)


def test_the_clients_own_slowness_is_no_silence_of_the_upstream(one: ModelServer) -> None:
    gate = Gate()
    one.script(stream(b"data: 1\n\n", gate, b"data: 2\n\n"))

    async def test() -> None:
        async with calling({"a": at(one, timeouts={"idle_s": 0.3})}) as calls:
            pieces = (await calls.open()).chunks()
            loop, slow = asyncio.get_running_loop(), asyncio.Event()
            assert await anext(pieces) == b"data: 1\n\n"
            gate.open()
            loop.call_later(0.4, slow.set)
            assert await anext(pieces) == b"data: 2\n\n"
            await slow.wait()
            assert await anext(pieces, None) is None

    run(test)


@pytest.mark.parametrize(
    "breaking",
    [
        lambda gate: stream(b"data: 1\n\n", gate, CLOSE),
        lambda gate: stream(b"data: 1\n\n", gate, RESET),
        lambda gate: stream(b'data: {"a": "\xc3', gate, CLOSE),
        lambda gate: Answer(200, {}, (b"data: 1\n\n", gate, CLOSE), claimed_length=1000),
        lambda gate: raw(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", gate, b"zz\r\n"
        ),
    ],
    ids=["closed", "reset", "half a character", "short", "no chunk"],
)
def test_an_answer_that_stops_in_the_middle_is_told_as_broken_and_never_retried(
    one: ModelServer, breaking: Callable[[Gate], Answer]
) -> None:
    gate = Gate()
    one.script(breaking(gate))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            came, error = await broken(calls, gate)
            assert came
            assert isinstance(error, UpstreamBroken)
            assert calls.upstreams.health.snapshot(now=1_000.0)["a"].failures_in_a_row == 1

    run(test)
    assert len(one.requests) == 1


def test_what_a_body_has_beyond_its_length_reaches_nobody(one: ModelServer) -> None:
    surplus = Answer(200, {}, (b"0123456789",), claimed_length=4)

    async def test() -> None:
        async with calling({"a": at(one)}, retry={"tries": 1}) as calls:
            for _ in range(5):
                one.always = surplus
                # Where the packets were cut decides whether the surplus is noticed in time to call the answer broken.
                with contextlib.suppress(UpstreamBroken):
                    assert await read(await calls.open()) == b"0123"
                one.always = chat()
                assert b"Hello" in await read(await calls.open())

    run(test)


# ── A client that leaves ─────────────────────────────────────────────────────────────────────────────────────────


def test_leaving_a_stream_closes_the_upstreams_connection(one: ModelServer) -> None:
    one.script(stream(b"data: 1\n\n", Gate()))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            reached = await calls.open()
            assert await anext(reached.chunks()) == b"data: 1\n\n"
            reached.abort()
            assert await happened(one.requests[0].left)
            assert calls.upstreams.health.snapshot(now=1_000.0) == {}

    run(test)


def test_leaving_before_the_first_byte_closes_the_upstreams_connection(one: ModelServer) -> None:
    gate = Gate()
    one.script(stream(gate))

    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            call = asyncio.ensure_future(calls.open())
            assert await happened(gate.reached)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await happened(one.requests[0].left)

    run(test)


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_seen(
    upstream: dict[str, Any], headers: list[tuple[bytes, bytes]], client: Family | None = None
) -> dict[str, str]:
    """The headers with keys that a server got from a client, by default one of its own protocol."""
    own: Family = "anthropic" if upstream["kind"] == "anthropic" else "openai"
    with ModelServer() as server:

        async def test() -> None:
            async with calling({"a": {**upstream, "base_url": server.url}}) as calls:
                await read(await calls.open(headers=headers, client=client or own))

        run(test)
        names = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
        return {name: value for name, value in server.requests[0].headers.items() if name in names}


BEARER = [(b"authorization", b"Bearer " + CLIENT_KEY)]
X_API_KEY = [(b"x-api-key", CLIENT_KEY)]
THEIRS = CLIENT_KEY.decode()


@pytest.mark.parametrize(
    ("upstream", "headers", "seen"),
    [
        ({"kind": "openai", "api_key": KEY}, BEARER, {"authorization": f"Bearer {KEY}"}),
        ({"kind": "anthropic", "api_key": KEY}, BEARER + X_API_KEY, {"x-api-key": KEY}),
        ({"kind": "azure", "api_key": KEY}, BEARER, {"api-key": KEY}),
        ({"kind": "anthropic", "api_key": KEY, "auth": "bearer"}, [], {"authorization": f"Bearer {KEY}"}),
        ({"kind": "openai", "headers": {"Authorization": "Basic abc"}}, BEARER, {"authorization": "Basic abc"}),
        ({"kind": "openai"}, BEARER, {"authorization": f"Bearer {THEIRS}"}),
        ({"kind": "openai"}, X_API_KEY, {"authorization": f"Bearer {THEIRS}"}),
        ({"kind": "anthropic"}, BEARER, {"x-api-key": THEIRS}),
        ({"kind": "anthropic"}, [(b"authorization", b"Bearer sk-ant-oat-1")], {"authorization": "Bearer sk-ant-oat-1"}),
        ({"kind": "azure"}, BEARER, {"api-key": THEIRS}),
        ({"kind": "openai"}, [(b"authorization", b"Bearer lk_ours")], {}),
        ({"kind": "openai"}, [(b"x-api-key", b"lk_ours"), *BEARER], {"authorization": f"Bearer {THEIRS}"}),
        ({"kind": "openai"}, [(b"authorization", b"Basic bGtfb3Vycw==")], {}),
        ({"kind": "vllm"}, BEARER, {}),
        ({"kind": "vllm", "client_keys": "forward"}, BEARER, {"authorization": f"Bearer {THEIRS}"}),
    ],
)  # fmt: skip
def test_which_key_reaches_an_upstream(
    upstream: dict[str, Any], headers: list[tuple[bytes, bytes]], seen: dict[str, str]
) -> None:
    assert keys_seen(upstream, headers) == seen


@pytest.mark.parametrize(("kind", "client"), [("openai", "anthropic"), ("anthropic", "openai")])
def test_a_clients_key_never_reaches_an_upstream_of_another_protocol_unasked(
    kind: str, client: Family
) -> None:
    assert keys_seen({"kind": kind}, BEARER, client) == {}
    assert keys_seen({"kind": kind, "client_keys": "drop"}, BEARER, client) == {}
    assert THEIRS in "".join(keys_seen({"kind": kind, "client_keys": "forward"}, BEARER, client).values())


def test_no_key_is_in_a_log_a_repr_or_an_error(one: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one.script(
        raw(b"no HTTP"), raw(b"no HTTP"), raw(b"no HTTP"), Answer(200, {}, (b"x", CLOSE), claimed_length=9)
    )
    told: list[str] = []

    async def test() -> None:
        async with calling({"a": at(one, api_key=KEY, headers={"x-extra": KEY})}) as calls:
            for _ in range(2):
                try:
                    await read(await calls.open(headers=BEARER))
                except LeydenError as error:
                    told.append(f"{error!r} {error.hint}")
            told.append(f"{calls.tries} {calls.upstreams.config} {vars(calls.upstreams)}")

    run(test)
    assert len(told) == 3
    for text in (*told, caplog.text):
        assert KEY not in text
        assert THEIRS not in text


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("upstream", "path", "arrives"),
    [
        ({"kind": "openai"}, "/chat/completions", "/v1/chat/completions?"),
        ({"kind": "compatible", "base": "/api/v3/"}, "/chat/completions", "/api/v3/chat/completions?"),
        ({"kind": "anthropic"}, "/messages?beta=true", "/v1/messages?beta=true"),
        ({"kind": "anthropic", "base": "/v1"}, "/messages", "/v1/messages?"),
        ({"kind": "gemini", "base": "/v1beta/openai"}, "/chat/completions", "/v1beta/openai/chat/completions?"),
        ({"kind": "azure", "api_version": "2024-10-21"}, "/chat/completions", "/openai/deployments/m%2F1/chat/completions?api-version=2024-10-21"),
        ({"kind": "azure", "api_version": "2025-04-01-preview", "base": "/openai"}, "/responses", "/openai/responses?api-version=2025-04-01-preview"),
        ({"kind": "azure"}, "/chat/completions", "/openai/v1/chat/completions?"),
        ({"kind": "azure", "api_version": "preview", "base": "/openai/v1/"}, "/responses?a=b", "/openai/v1/responses?api-version=preview&a=b"),
        ({"kind": "bedrock", "base": "/openai/v1"}, "/chat/completions", "/openai/v1/chat/completions?"),
        ({"kind": "vertex", "base": "/v1/projects/p/locations/l/endpoints/openapi"}, "/chat/completions", "/v1/projects/p/locations/l/endpoints/openapi/chat/completions?"),
    ],
)  # fmt: skip
def test_the_address_fits_the_kind_of_upstream(
    one: ModelServer, upstream: dict[str, Any], path: str, arrives: str
) -> None:
    base = upstream.pop("base", "")

    async def test() -> None:
        given = {"a": {**upstream, "base_url": one.url + base}}
        async with calling(given, {"m": [{"upstream": "a", "model": "m/1"}]}) as calls:
            await read(await calls.open(path=path))

    run(test)
    assert f"{one.requests[0].path}?{one.requests[0].query}" == arrives


def test_a_path_that_no_url_may_hold_is_refused(one: ModelServer) -> None:
    async def test() -> None:
        async with calling({"a": at(one)}) as calls:
            with pytest.raises(BadInput, match="holds characters"):
                await calls.open(path="/responses/x HTTP/1.1\r\nhost: elsewhere\r\n\r\n")

    run(test)
    assert not one.requests


def test_a_proxy_of_the_environment_is_used(one: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", one.url)
    monkeypatch.setenv("no_proxy", "localhost")

    async def test() -> None:
        async with calling({"a": {"kind": "openai", "base_url": "http://models.invalid/v1"}}) as calls:
            await read(await calls.open())

    run(test)
    assert one.requests[0].path == "http://models.invalid/v1/chat/completions"
