"""Model calls when something breaks.

Promises
1. An upstream that breaks off, stalls, lies or talks nonsense ends in an answer or an error event of the client's protocol, never in
   a hang or a traceback, and its span says what happened with everything that came before.
2. Bytes pass as they came, also those that nobody can read, and one event of 50 MB costs no more memory than what is recorded of it.
3. The store may be away: calls go on, and each is recorded once when it is back. What cannot be kept is counted; strict mode refuses.
4. A client that leaves ends its upstream's work. A server that stops records the calls it cuts.
"""

import hashlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import anthropic
import httpx
import openai
import psutil
import psycopg
import pytest
from starlette.testclient import TestClient

import postgres_cluster
from fakes.model_answers import anthropic_events, chat_events, event
from fakes.model_server import CLOSE, RESET, Answer, Gate, ModelServer, Step, answer, chat, raw, stream
from faults.processes import leyden, running, until
from gateway.serving import (
    QUESTION,
    Calling,
    Gateway,
    gateway,
    only,
    own_process,
    process_of,
    reaching,
    written,
)
from gateway.test_keys import key
from leyden.gateway.limits import Limits
from leyden.server.app import create_app
from leyden.settings import Settings

DOORS = ("/chat/completions", "/messages", "/responses")


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def impatient(server: ModelServer, **more: Any) -> dict[str, Any]:
    """A configuration whose upstreams may be silent for a moment only."""
    config = only(server, **more)
    limits = {"first_byte_s": 0.3, "idle_s": 0.3}
    return config | {"upstreams": {k: v | {"timeouts": limits} for k, v in config["upstreams"].items()}}


@pytest.fixture(scope="module")
def served(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("gateway"), impatient(model)) as served:
        yield served


@pytest.fixture
def gate(served: Gateway) -> Gateway:
    return replace(served, rollout=f"ro-{uuid4().hex[:12]}")


def name_for(door: str) -> str:
    return "claude-x" if door == "/messages" else "gpt-x"


def beginning(door: str) -> list[bytes]:
    """The events of an answer up to "one two"."""
    if door == "/responses":
        item = {"id": "m", "type": "message", "role": "assistant", "content": []}
        return [
            event(
                {"type": "response.created", "response": {"id": "resp_1", "object": "response", "output": []}}
            ),
            event({"type": "response.output_item.added", "output_index": 0, "item": item}),
            *(
                event(
                    {
                        "type": "response.output_text.delta",
                        "output_index": 0,
                        "content_index": 0,
                        "delta": text,
                    }
                )
                for text in ("one", " two")
            ),
        ]
    return anthropic_events("one two")[:5] if door == "/messages" else chat_events("one two")[:3]


# ── Upstreams ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("door", DOORS)
def test_a_stream_that_breaks_off_ends_in_an_error_event_of_the_protocol(
    gate: Gateway, model: ModelServer, door: str, end: Step
) -> None:
    # The gate lets what was sent arrive before the connection dies.
    model.script(stream(*beginning(door), wait := Gate(), end))
    with gate.streaming(door, model=name_for(door)) as given:
        seen = b""
        for piece in given.iter_raw():
            seen += piece
            if b"two" in seen:
                wait.open()
    wait.open()
    whole = b"".join(beginning(door))
    assert seen.startswith(whole)
    *named, data = seen[len(whole) :].strip().split(b"\n")
    assert named == ([] if door == "/chat/completions" else [b"event: error"])
    error = json.loads(data.removeprefix(b"data: "))
    assert "broke off" in error["error"]["message"]
    assert error.get("type") == ("error" if door == "/messages" else None)
    said = gate.span()
    assert (said["leyden.gateway.outcome"], said["status"], said["error.type"]) == (
        "broken",
        "ERROR",
        "broken",
    )
    assert said["gen_ai.completion.0.content"] == "one two"
    assert said["http.response.status_code"] == 200


def test_client_libraries_raise_when_a_stream_breaks_off(gate: Gateway, model: ModelServer) -> None:
    base = f"{gate.url}{gate.base}"
    with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-test", max_retries=0) as client:
        model.script(stream(*beginning("/chat/completions"), CLOSE))
        with pytest.raises(openai.APIError, match="broke off"):
            list(client.chat.completions.create(**QUESTION, stream=True))
    with anthropic.Anthropic(base_url=base, api_key="sk-test", max_retries=0) as client:
        model.script(stream(*beginning("/messages"), CLOSE))
        with pytest.raises(anthropic.APIError, match="broke off"):
            list(client.messages.create(**QUESTION | {"model": "claude-x"}, stream=True))


@pytest.mark.parametrize("door", DOORS)
def test_a_stream_that_stalls_is_ended_and_told(gate: Gateway, model: ModelServer, door: str) -> None:
    stalled = Gate()
    model.script(stream(*beginning(door), stalled))
    with gate.streaming(door, model=name_for(door)) as given:
        seen = given.read()
    assert b"fell silent for 0.3 s" in seen
    said = gate.span()
    assert (said["leyden.gateway.outcome"], said["error.type"]) == ("timeout", "timeout")
    assert said["gen_ai.completion.0.content"] == "one two"
    stalled.open()


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_an_upstream_that_says_nothing_is_a_504_of_the_protocol(
    gate: Gateway, model: ModelServer, door: str, is_stream: bool
) -> None:
    stalled = Gate()
    model.script(Answer(steps=(stalled,), claimed_length=100))
    given = gate.post(door, model=name_for(door), stream=is_stream)
    assert given.status_code == 504
    assert "sent nothing within 0.3 s" in given.json()["error"]["message"]
    said = gate.span()
    assert (said["leyden.gateway.outcome"], said["http.response.status_code"]) == ("timeout", 504)
    stalled.open()


@pytest.mark.parametrize(
    "given",
    [
        raw(b"\x00\x01\x02 no HTTP at all\r\n\r\n"),
        raw(b"HTTP/1.1 two hundred\r\n\r\n"),
        Answer(steps=(b'{"half": ', CLOSE), claimed_length=100),
        Answer(steps=(b'{"half": ', RESET), claimed_length=100),
        Answer(steps=(b"{}",), claimed_length=100),
    ],
    ids=["noise", "status", "cut", "reset", "short"],
)
def test_an_answer_that_is_none_is_one_clean_error(gate: Gateway, model: ModelServer, given: Answer) -> None:
    # What answers less than it announced keeps its connection open: only the silence ends it.
    model.script(given)
    answered = gate.post()
    assert answered.status_code in (502, 504)
    assert answered.json()["error"]["type"] == "server_error"
    assert gate.span()["leyden.gateway.outcome"] in ("broken", "timeout")


def test_an_upstream_that_hangs_up_twice_is_a_502(gate: Gateway, model: ModelServer) -> None:
    # Once is what any kept connection may do, and is asked again at once.
    model.script(raw(), raw())
    given = gate.post()
    assert (given.status_code, given.json()["error"]["code"]) == (502, "upstream_broken")
    assert (gate.span()["leyden.gateway.outcome"], gate.span()["leyden.gateway.tries"]) == ("broken", 2)


def test_what_an_answer_has_beyond_its_length_never_reaches_the_next_call(
    gate: Gateway, model: ModelServer
) -> None:
    model.script(Answer(steps=(b'{"a": 1}{"id": "of nobody"}',), claimed_length=8))
    first = gate.post()
    assert first.status_code in (200, 502)
    assert b"nobody" not in first.content
    assert gate.post().json()["choices"][0]["message"]["content"] == "Hello from the scripted model"


NONSENSE = [
    b"this is no event stream\n\n",
    b"data: {broken json\n\n",
    b'data: [1, 2]\n\ndata: null\n\ndata: "text"\n\n',
    b'data: {"choices": 7}\n\ndata: {"choices": [{"delta": []}, null]}\n\n',
    b"event: error\nevent: again\nid\nretry: x\n:\n\n\n\n\n",
    b"\xff\xfe\x00\n\n",
    b'data: {"choices": [{"index": 99999999999, "delta": {"content": "x"}}]}\n\n',
]


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_events_that_cannot_be_read_pass_and_the_rest_is_recorded(
    gate: Gateway, model: ModelServer, door: str, nonsense: bytes
) -> None:
    events = anthropic_events("one two") if door == "/messages" else chat_events("one two")
    sent = [*events[:4], nonsense, *events[4:]]
    model.script(stream(*sent))
    with gate.streaming(door, model=name_for(door), stream_options={"include_usage": True}) as given:
        assert given.read() == b"".join(sent)
    said = gate.span()
    assert said["gen_ai.completion.0.content"] == "one two"
    assert (said["gen_ai.usage.input_tokens"], said["leyden.gateway.outcome"]) == (7, "ok")


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_half_a_character_at_the_end_of_a_stream_passes(gate: Gateway, model: ModelServer, door: str) -> None:
    sent = [*beginning(door), 'data: {"text": "Zür'.encode()[:-2]]
    model.script(stream(*sent))
    with gate.streaming(door, model=name_for(door)) as given:
        assert given.read() == b"".join(sent)
    assert gate.span()["gen_ai.completion.0.content"] == "one two"


def test_half_a_character_in_a_whole_answer_is_recorded_with_a_mark(
    gate: Gateway, model: ModelServer
) -> None:
    body = chat("x").steps[0]
    assert isinstance(body, bytes)
    broken = body.replace(b'"x"', b'"Z\xc3"')
    model.script(answer(broken))
    assert gate.post().content == broken
    assert gate.span()["gen_ai.completion.0.content"] == "Z\ufffd"


@pytest.mark.parametrize("kind", ["stream", "stream with counts", "whole"])
def test_50_mb_in_one_event_pass_unchanged_in_bounded_memory(
    tmp_path: Path, model: ModelServer, kind: str
) -> None:
    block = bytes(range(97, 123)) * 4096
    middle = [block] * (50 * 2**20 // len(block))
    asked: dict[str, Any] = {} if kind == "whole" else {"stream": True}
    if kind == "whole":
        sent = [b'{"id": "c", "choices": [{"index": 0, "message": {"content": "', *middle, b'"}}]}']
    else:
        events = chat_events("one", usage=kind == "stream with counts")
        asked |= {"stream_options": {"include_usage": True}} if kind == "stream with counts" else {}
        big = [b'data: {"choices": [{"index": 0, "delta": {"content": "', *middle, b'"}}]}\n\n']
        sent = [*events[:2], *big, *events[2:]]
    with own_process(tmp_path, only(model, record={"max_bytes": 2**20})) as gate:
        process = process_of(gate)
        gate.post()
        before = process.memory_info().rss
        peak = Peak(process)
        model.script(Answer(steps=tuple(sent)) if kind == "whole" else stream(*sent))
        digest, size = hashlib.sha256(), 0
        with gate.http.stream("POST", f"{gate.base}/v1/chat/completions", json=QUESTION | asked) as given:
            for piece in given.iter_raw():
                digest.update(piece)
                size += len(piece)
        said = next(one for one in gate.spans(2) if one.attributes.get("leyden.gateway.cut"))
        grown = peak.stop() - before
    assert (size, digest.hexdigest()) == (len(b"".join(sent)), hashlib.sha256(b"".join(sent)).hexdigest())
    assert said.attributes["leyden.gateway.outcome"] == "ok"
    assert grown < 40 * 2**20, f"{grown / 2**20:.0f} MiB for an answer of 50 MiB"


class Peak:
    """The most memory that a process has, looked at all the time."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._most = process, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def stop(self) -> int:
        """Bytes."""
        self._ended.set()
        self._thread.join()
        return self._most


# ── The store ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_go_on_while_the_database_is_locked_and_are_recorded_once_after(
    tmp_path: Path, model: ModelServer
) -> None:
    with gateway(tmp_path, only(model), busy_timeout_s=0.2) as gate:
        gate.post()
        gate.spans(1)
        other = sqlite3.connect(tmp_path / "leyden.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            assert [gate.post().status_code for _ in range(20)] == [200] * 20
            with gate.streaming() as given:
                assert b"[DONE]" in given.read()
        finally:
            other.execute("ROLLBACK")
            other.close()
        spans = gate.spans(22)
        assert len({span.span_id for span in spans}) == 22
        assert len({span.sequence_id for span in spans}) == 22
        state = gate.settled(22)
        assert (state["recorded"], state["lost"], state["pending"]) == (22, 0, 0)


def test_a_store_that_is_locked_for_a_minute_costs_no_call_and_no_wait(
    tmp_path: Path, model: ModelServer
) -> None:
    calls, every_s = 600, 0.1
    with own_process(tmp_path, only(model)) as gate:
        gate.post()
        gate.settled(1)
        other = sqlite3.connect(tmp_path / "leyden.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        began, took_s = time.monotonic(), list[float]()
        try:
            for n in range(calls):
                time.sleep(max(0.0, began + n * every_s - time.monotonic()))
                before = time.monotonic()
                assert gate.post().status_code == 200
                took_s.append(time.monotonic() - before)
            assert time.monotonic() - began > calls * every_s - 1
            assert gate.state()["recorded"] == 1
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert max(took_s) < 3, sorted(took_s)[-5:]  # waiting for the lock would take longer
        state = gate.settled(calls + 1)
        assert (state["recorded"], state["lost"], state["pending"]) == (calls + 1, 0, 0)
        spans = gate.spans(calls + 1)
        assert len({span.span_id for span in spans}) == len({span.sequence_id for span in spans}) == calls + 1
    checked = leyden("db", "check", "--deep", "--db", str(tmp_path / "leyden.db"))
    assert checked.returncode == 0, checked.stdout


def test_calls_go_on_while_postgresql_is_down_and_are_recorded_once_after(
    tmp_path: Path, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a key has spent is asked of the store at every call.
    monkeypatch.setitem(Limits.__init__.__kwdefaults__ or {}, "reread_s", 1e-6)
    if not postgres_cluster.installed():
        pytest.skip("no PostgreSQL: run make setup")
    with postgres_cluster.restartable() as cluster, gateway(tmp_path, only(model), db=cluster.url) as gate:
        mine, new = key(gate, usd_per_day=1.0), key(gate, usd_per_day=1.0)
        gate.post(headers=mine)
        gate.spans(1)
        cluster.stop(signal.SIGQUIT)
        assert [gate.post(headers=mine).status_code for _ in range(5)] == [200] * 5
        assert [gate.post().status_code for _ in range(5)] == [200] * 5
        refused = gate.post(headers=new)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "postgres" not in refused.text.lower()
        cluster.start()
        state = gate.settled(11)
        assert (state["recorded"], state["lost"]) == (11, 0)
        assert len({span.span_id for span in gate.spans(11)}) == 11
        with psycopg.connect(cluster.url) as admin:
            assert admin.execute("SELECT count(*) FROM span").fetchone() == (11,)


@pytest.mark.parametrize("is_strict", [False, True])
def test_calls_that_cannot_be_kept_are_counted_or_in_strict_mode_refused(
    tmp_path: Path, model: ModelServer, is_strict: bool
) -> None:
    config = written(tmp_path, only(model, record={"strict": is_strict}))
    app = create_app(Settings(db=str(tmp_path / "leyden.db"), config=config))
    before = len(model.requests)
    with TestClient(app) as http:
        assert app.context.gateway is not None
        app.context.gateway.capture.close()
        answers = [http.post(f"/v1{door}", json=QUESTION) for door in ("/chat/completions", "/messages")]
        assert [one.status_code for one in answers] == ([503, 503] if is_strict else [200, 200])
        if is_strict:
            assert [one.json()["error"]["type"] for one in answers] == ["server_error", "overloaded_error"]
            assert [one.headers["retry-after"] for one in answers] == ["1", "1"]
        assert http.get("/api/gateway").json()["lost"] == 2
    assert len(model.requests) - before == (0 if is_strict else 2)


# ── Leaving and stopping ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_many_clients_that_leave_leave_nothing_behind(gate: Gateway, model: ModelServer, door: str) -> None:
    forever = Gate()
    model.script(*[stream(*beginning(door), forever)] * 20)
    before = len(model.requests)
    with httpx.Client(base_url=gate.url) as leaving:
        asked = QUESTION | {"stream": True, "model": name_for(door)}
        for _ in range(20):
            with leaving.stream("POST", f"{gate.base}/v1{door}", json=asked) as given:
                next(given.iter_raw())
    assert all(request.left.wait(20) for request in model.wait_for(before + 20)[before:])
    assert {span.attributes["leyden.gateway.outcome"] for span in gate.spans(20)} == {"cancelled"}
    assert until(lambda: gate.state()["in_flight"] == 0)
    forever.open()


def test_a_stream_that_ends_while_the_server_stops_arrives_whole(tmp_path: Path, model: ModelServer) -> None:
    config, database = written(tmp_path, only(model)), str(tmp_path / "leyden.db")
    wait = Gate()
    events = chat_events("one two three")
    model.script(stream(*events[:3], wait, *events[3:]))
    with running(database, LEYDEN_CONFIG=config) as server, reaching(server.url) as gate:
        with gate.streaming(stream_options={"include_usage": True}) as given:
            pieces = given.iter_raw()
            seen = next(pieces)
            server.terminate()
            until(lambda: refuses_connections(server.url))
            wait.open()
            seen += b"".join(pieces)
        assert seen == b"".join(events)
        assert server.stop() == 0
        assert not [line for line in server.log if "Traceback" in line], "".join(server.log)
    with running(database) as server, reaching(server.url) as gate:
        assert gate.span()["gen_ai.completion.0.content"] == "one two three"


def test_a_stream_that_the_stopping_server_has_to_cut_is_recorded(tmp_path: Path, model: ModelServer) -> None:
    config, database = written(tmp_path, only(model)), str(tmp_path / "leyden.db")
    forever = Gate()
    model.script(stream(*beginning("/chat/completions"), forever))
    before = len(model.requests)
    with running(database, LEYDEN_CONFIG=config) as server, reaching(server.url) as gate:
        with gate.streaming() as given:
            pieces = given.iter_raw()
            next(pieces)
            assert server.stop() == 0
            assert b"The server is stopping" in b"".join(pieces)
        assert not [line for line in server.log if "Traceback" in line], "".join(server.log)
    assert model.wait_for(before + 1)[-1].left.wait(20)
    with running(database) as server, reaching(server.url) as gate:
        said = gate.span()
        assert said["gen_ai.completion.0.content"] == "one two"
        assert (said["leyden.gateway.outcome"], said["status"]) == ("broken", "ERROR")
        assert said["description"] == "the server stopped before the answer was over"
    forever.open()


def test_a_call_that_waits_when_the_server_stops_is_told_to_come_back(
    tmp_path: Path, model: ModelServer
) -> None:
    config, database = written(tmp_path, only(model)), str(tmp_path / "leyden.db")
    before = len(model.requests)
    with running(database, LEYDEN_CONFIG=config) as server, reaching(server.url) as gate:
        gate.http.post("/api/gateway/pause", json={})
        waiting = Calling(gate)
        until(lambda: gate.state()["waiting"] == 1)
        assert server.stop() == 0
        given = waiting.answer()
        assert (given.status_code, given.headers["retry-after"]) == (503, "1")
        assert not [line for line in server.log if "Traceback" in line], "".join(server.log)
    assert len(model.requests) == before
    with running(database) as server, reaching(server.url) as gate:
        assert gate.span()["leyden.gateway.outcome"] == "refused"


def refuses_connections(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=1)
    except httpx.TransportError:
        return True
    return False
