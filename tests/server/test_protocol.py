"""HTTP as bytes on a socket: offers of other protocols, heads without an end, and what is no HTTP at all."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn

from fakes.model_server import ModelServer
from faults.processes import until
from gateway.serving import QUESTION, only, written
from ingest.otlp_bodies import as_otlp_json, request
from leyden.server import protocol
from leyden.server.background import BackgroundServer
from leyden.server.port import bind, config
from leyden.settings import Settings

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers what it was asked, as JSON. The path /slow is answered when its client leaves."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind.endswith("shutdown"):
                return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"] and scope["path"] != "/slow":
            break
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    said = json.dumps(
        [scope["method"], scope["path"], scope["query_string"].decode(), headers, body.decode()]
    )
    length = str(len(said)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": said.encode()})


class Line:
    """A connection, and what comes back over it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces: str | bytes) -> None:
        """Send each piece as a segment of its own."""
        for n, piece in enumerate(pieces):
            if n:
                time.sleep(0.002)  # or the kernel hands over two at once
            self.socket.sendall(piece.encode() if isinstance(piece, str) else piece)

    def answer(self) -> tuple[int, Any]:
        """The status and the JSON of the next answer."""
        response = HTTPResponse(self.socket)
        response.begin()
        return response.status, json.loads(response.read())

    def is_ended(self) -> bool:
        """Whether the server has closed it, once that is known."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the echo listens, served as Leyden is."""
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(config(echo))
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    until(lambda: server.started)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def connect(port: int) -> Iterator[Callable[[], Line]]:
    lines: list[Line] = []

    def connect() -> Line:
        lines.append(Line(port))
        return lines[-1]

    yield connect
    for line in lines:
        line.socket.close()


Connect = Callable[[], Line]


def post(body: str, *, path: str = "/a?b=c", headers: str = H2C) -> str:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}"


# ── Offers of another protocol ───────────────────────────────────────────────────────────────────────────────────


def test_a_request_that_offers_h2c_is_answered_with_its_body_and_without_its_offer(connect: Connect) -> None:
    line = connect()
    line.send(post("hello"))
    status, (method, path, query, headers, body) = line.answer()
    assert (status, method, path, query, body) == (200, "POST", "/a", "b=c", "hello")
    assert headers == [
        ["host", "x"], ["connection", "HTTP2-Settings"], ["http2-settings", "AAMAAABk"], ["content-length", "5"]
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_an_offer_may_come_in_any_number_of_segments(connect: Connect, size: int) -> None:
    line, sent = connect(), post("hello").encode()
    line.send(*(sent[at : at + size] for at in range(0, len(sent), size)))
    assert line.answer()[1][4] == "hello"


def test_a_chunked_body_after_an_offer_is_read(connect: Connect) -> None:
    line = connect()
    line.send(f"POST / HTTP/1.1\r\nHost: x\r\n{H2C}Transfer-Encoding: chunked\r\n\r\n", "2\r\nhe\r\n", "3\r\nllo\r\n0\r\n\r\n")  # fmt: skip
    assert line.answer()[1][4] == "hello"


def test_offers_come_before_between_and_after_other_requests_of_a_connection(connect: Connect) -> None:
    line = connect()
    for headers in (H2C, "", H2C, H2C, ""):
        line.send(post("hello", headers=headers))
        assert line.answer()[1][4] == "hello"


def test_pipelined_offers_are_answered_in_turn(connect: Connect) -> None:
    line = connect()
    bodies = [f"body {n}" for n in range(2000)]
    line.send("".join(post(body, headers=H2C if n % 3 else "") for n, body in enumerate(bodies)))
    response = line.socket.makefile("rb")
    found: list[str] = []
    for _ in bodies:
        length = 0
        while (header := response.readline()) != b"\r\n":
            if header.startswith(b"content-length"):
                length = int(header.split(b":")[1])
        found.append(json.loads(response.read(length))[4])
    assert found == bodies


def test_who_offers_websockets_is_heard_and_the_connection_goes_on(connect: Connect) -> None:
    line = connect()
    offer = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    line.send(f"GET /events HTTP/1.1\r\nHost: x\r\n{offer}\r\n")
    _status, (_method, path, _query, headers, _body) = line.answer()
    assert path == "/events"
    assert ["upgrade", "WebSocket"] in headers
    assert ["connection", "keep-alive"] in headers
    line.send(post("hello", headers=""))
    assert line.answer()[1][4] == "hello"


def test_an_offer_may_also_close_the_connection(connect: Connect) -> None:
    line = connect()
    line.send(post("hello", headers="Connection: Upgrade, close\r\nUpgrade: h2c\r\n"))
    assert line.answer()[1][4] == "hello"
    assert line.is_ended()


def test_model_calls_and_spans_of_a_client_that_offers_h2c_arrive_whole(tmp_path: Path) -> None:
    with (
        ModelServer() as model,
        BackgroundServer(
            Settings(db=str(tmp_path / "leyden.db"), port=0, config=written(tmp_path, only(model)))
        ) as server,
    ):
        json_of = f"{H2C}Content-Type: application/json\r\n"
        line = Line(server.settings.port)
        line.send(post(json.dumps(QUESTION), path="/v1/chat/completions", headers=json_of))
        assert line.answer()[0] == 200
        assert model.requests[0].json["messages"] == QUESTION["messages"]
        line.send(post(as_otlp_json(request({})).decode(), path="/v1/traces", headers=json_of))
        assert line.answer() == (200, {})
        line.send("GET /api/info HTTP/1.1\r\nHost: x\r\n\r\n")
        # One span of the exporter, one of the call.
        assert until(lambda: counts(server.settings.port)["spans"] == 2)
        line.socket.close()


def counts(port: int) -> dict[str, int]:
    line = Line(port)
    line.send("GET /api/info HTTP/1.1\r\nHost: x\r\n\r\n")
    found = line.answer()[1]["counts"]
    line.socket.close()
    return found


# ── Heads ────────────────────────────────────────────────────────────────────────────────────────────────────────


def flood(line: Line, begin: str, more: bytes, size: int) -> int:
    """Send `more` again and again until the server stops listening; how many bytes it took."""
    line.send(begin)
    sent = 0
    try:
        while sent < size:
            line.socket.sendall(more)
            sent += len(more)
    except OSError:
        pass
    return sent


ENDLESS = [
    ("GET / HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n" * 1000),
    ("GET / HTTP/1.1\r\nHost: x\r\na: ", b"x" * 6000),
    ("GET /", b"x" * 6000),
    ("GET / HTTP/1.1\r\n", b"x" * 6000),
]


@pytest.mark.parametrize(("begin", "more"), ENDLESS)
def test_a_head_without_an_end_is_refused_before_it_takes_memory(
    connect: Connect, begin: str, more: bytes
) -> None:
    line, process = connect(), psutil.Process(os.getpid())
    before = process.memory_info().rss
    flood(line, begin, more, 600_000)
    assert process.memory_info().rss - before < 50 * 2**20
    status, body = line.answer()
    assert (status, body["error"]["code"]) == (431, "too_large")
    assert line.is_ended()


def test_a_head_of_200_kilobytes_is_taken(connect: Connect) -> None:
    line = connect()
    line.send(post("hello", headers=f"a: {'x' * 100_000}\r\n" * 2))
    assert line.answer()[1][4] == "hello"


@pytest.mark.parametrize("more", [b"a: b\r\n" * 1000, b"a: " + b"x" * 60_000 + b"\r\n"], ids=["many", "long"])
def test_trailers_without_an_end_are_refused_too(connect: Connect, more: bytes) -> None:
    line = connect()
    flood(line, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", more, 600_000)
    assert line.answer()[0] == 431
    assert line.is_ended()


def test_a_body_larger_than_a_head_may_be_is_nothing_special(connect: Connect) -> None:
    line = connect()
    line.send(post("x" * 1_000_000))
    assert len(line.answer()[1][4]) == 1_000_000
    line.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    line.send(b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n")
    assert len(line.answer()[1][4]) == 200_000


@contextmanager
def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(protocol, "HEAD_S", seconds)
        yield


def test_a_head_that_is_not_completed_in_time_is_answered_408(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patience(monkeypatch, 0.05):
        first, kept = connect(), connect()
        kept.send(post("hello"))
        assert kept.answer()[0] == 200
        for line in (first, kept):
            line.send("GET / HTTP/1.1\r\nHos")
        for line in (first, kept):
            status, body = line.answer()
            assert (status, body["error"]["code"]) == (408, "bad_input")
            assert line.is_ended()


def test_a_connection_that_says_nothing_is_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with patience(monkeypatch, 0.05):
        assert connect().is_ended()


def test_an_answer_that_takes_longer_than_a_head_may_is_waited_for(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patience(monkeypatch, 0.05):
        line = connect()
        line.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HT")
        line.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.is_ended()


# ── What is no HTTP ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_like_every_other_and_the_end(connect: Connect, sent: bytes) -> None:
    line = connect()
    line.send(sent)
    response = HTTPResponse(line.socket)
    response.begin()
    error = json.loads(response.read())["error"]
    assert (response.status, error["code"]) == (400, "bad_format")
    assert response.getheader("content-type") == "application/json"
    assert response.getheader("connection") == "close"
    assert line.is_ended()


def test_nonsense_behind_a_request_that_is_being_answered_is_not_taken_for_its_answer(
    connect: Connect,
) -> None:
    line = connect()
    line.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + post("", headers="") + "nonsense\r\n\r\n")
    assert line.is_ended()
