"""A scripted model server on a real loopback socket: the OpenAI and Anthropic surface, and every way an upstream can fail.

    with ModelServer() as upstream:                       # answers every door sensibly, streamed when asked
        upstream.script(failing(529), chat("Hello"))      # then the next two requests get these
        gate = Gate()
        upstream.script(stream(*chat_events("Hello")[:2], gate, CLOSE))   # two events, a pause, then the line goes dead
        ...
        gate.open()
        upstream.requests[0].json["model"]

An answer is a list of steps: bytes to write (each its own packet and its own HTTP chunk), gates to wait at, CLOSE, RESET. Gates are
opened by the test, so nothing sleeps. `Request.left` is set when the client goes away before its answer is complete.
HTTP is spoken by hand, because a proper server refuses to lie about its content-length.
"""

import asyncio
import json
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal

from fakes.model_answers import anthropic_events, chat_events, default_body, responses_events

PATIENCE_S = 20.0


class Gate:
    """Where an answer waits until the test opens it; a gate nobody opens is a stall."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let everything through, now and later. From any thread."""
        with self._lock:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Return once it is open."""
        event = asyncio.Event()
        with self._lock:
            if not self._is_open:
                self._waiting.append((asyncio.get_running_loop(), event))
            else:
                event.set()
        self.reached.set()
        await event.wait()


CLOSE: Literal["close"] = "close"
"""Step: close the connection here, politely but without finishing what was announced."""
RESET: Literal["reset"] = "reset"
"""Step: tear the connection down (TCP RST)."""

Step = bytes | Gate | Literal["close", "reset"]


@dataclass(frozen=True)
class Answer:
    """One scripted answer. status 0: no HTTP head at all, the steps are what goes over the wire.

    headers: pairs where a name comes more than once.
    framing: "length" announces content-length (claimed_length, when given, instead of the truth), "chunked" writes each step as one
    chunk, "close" ends the body by closing the connection.
    """

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(
        default_factory=lambda: {"content-type": "application/json"}
    )
    steps: tuple[Step, ...] = ()
    framing: Literal["length", "chunked", "close"] = "length"
    claimed_length: int | None = None

    @property
    def length(self) -> int:
        """Bytes that content-length announces."""
        truth = sum(len(step) for step in self.steps if isinstance(step, bytes))
        return truth if self.claimed_length is None else self.claimed_length


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON body (or bytes as they are) in one piece."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"content-type": "application/json", **(headers or {})}, (raw,))


def failing(status: int, *, message: str = "no", headers: Mapping[str, str] | None = None) -> Answer:
    """An error in a body that both protocols' clients read."""
    error = {"type": "scripted_error", "code": str(status), "message": message}
    return answer({"type": "error", "error": error}, status=status, headers=headers)


def stream(*steps: Step, headers: Mapping[str, str] | None = None) -> Answer:
    """Server-sent events, each step in its own chunk."""
    told = {"content-type": "text/event-stream", "cache-control": "no-cache", **(headers or {})}
    return Answer(200, told, steps, framing="chunked")


def chat(text: str = "Hello", **more: Any) -> Answer:
    """A chat completion in one piece."""
    return answer(default_body("/chat/completions", text) | more)


def raw(*steps: Step) -> Answer:
    """Bytes on the wire that need not be HTTP, then the end of the connection."""
    return Answer(0, {}, (*steps, CLOSE))


def gzipped(plain: Answer) -> Answer:
    """The same answer compressed; a stream stays readable step by step."""
    squeeze = zlib.compressobj(wbits=31)
    steps = [
        squeeze.compress(step) + squeeze.flush(zlib.Z_SYNC_FLUSH) if isinstance(step, bytes) else step
        for step in plain.steps
    ]
    steps = (*steps, squeeze.flush())
    return replace(plain, steps=steps, headers={**dict(plain.headers), "content-encoding": "gzip"})


@dataclass
class Request:
    """One request as it arrived. connection counts connections from 0, so that reuse can be seen."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    connection: int
    left: threading.Event = field(default_factory=threading.Event)
    """Set when the client went away before its answer was complete."""
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> Any:
        """The body as JSON, {} when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


def sensible(request: Request, text: str = "Hello from the scripted model") -> Answer:
    """What a well-behaved model server says: right for the door, streamed when asked."""
    if request.json.get("stream"):
        if request.path.endswith("/messages"):
            return stream(*anthropic_events(text))
        if request.path.endswith("/responses"):
            return stream(*responses_events(text))
        return stream(*chat_events(text))
    return answer(default_body(request.path, text))


class _WatchedReader(asyncio.StreamReader):
    """Knows when the other side is gone while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=2**20)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Any) -> None:
        super().set_exception(exc)
        self.gone.set()


class ModelServer:
    """Serves in a thread of its own. Scripted answers come first and in order, then `always`."""

    def __init__(self, always: Answer | Callable[[Request], Answer] = sensible, *, port: int = 0) -> None:
        self.always = always
        self.requests: list[Request] = []
        self.connections = 0
        self._scripted: deque[Answer] = deque()
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._started = threading.Event()
        self._thread.start()
        if not self._started.wait(PATIENCE_S):
            raise RuntimeError("the scripted model server did not start")
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "ModelServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open_connections(self) -> int:
        """Connections that clients hold now."""
        return len(self._tasks)

    def script(self, *answers: Answer) -> None:
        """Give these to the next requests, one each."""
        self._scripted.extend(answers)

    def wait_for(self, count: int) -> list[Request]:
        """The requests, once there are `count` of them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, PATIENCE_S):
                raise AssertionError(f"{len(self.requests)} requests came, not {count}")
            return list(self.requests)

    def close(self) -> None:
        """Stop serving and drop every connection."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE_S)

    def _run(self, port: int) -> None:
        self._loop.run_until_complete(self._serve(port))
        self._loop.close()

    async def _serve(self, port: int) -> None:
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(self._protocol, "127.0.0.1", port, backlog=4096)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = _WatchedReader()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._converse(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return asyncio.StreamReaderProtocol(reader, connected, loop=self._loop)

    async def _converse(self, reader: _WatchedReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        try:
            while (request := await _read_request(reader, number)) is not None:
                given = self._choose(request)
                if not await self._answered(request, given, reader=reader, writer=writer):
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _choose(self, request: Request) -> Answer:
        with self._arrived:
            self.requests.append(request)
            given = self._scripted.popleft() if self._scripted else self.always
            self._arrived.notify_all()
        return given(request) if callable(given) else given

    async def _answered(
        self, request: Request, given: Answer, *, reader: _WatchedReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Play an answer; whether the connection can serve another request."""
        playing = self._loop.create_task(_play(given, writer))
        watching = self._loop.create_task(reader.gone.wait())
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done() or playing.exception() is not None:
                request.left.set()
                return False
            request.answered.set()
            return playing.result()
        finally:
            playing.cancel()
            watching.cancel()


async def _play(given: Answer, writer: asyncio.StreamWriter) -> bool:
    """Write one answer; whether the connection stays open."""
    if given.status:
        writer.write(_head(given))
    for step in given.steps:
        if isinstance(step, Gate):
            await writer.drain()
            await step.passed()
        elif isinstance(step, bytes):
            if step:
                writer.write(b"%x\r\n%b\r\n" % (len(step), step) if given.framing == "chunked" else step)
            await writer.drain()
        else:
            if step == RESET:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return False
    if given.framing == "chunked":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return given.framing != "close"


def _head(given: Answer) -> bytes:
    lines = [f"HTTP/1.1 {given.status} Scripted"]
    pairs = given.headers.items() if isinstance(given.headers, Mapping) else given.headers
    lines += [f"{name}: {value}" for name, value in pairs]
    if given.framing == "length":
        lines.append(f"content-length: {given.length}")
    if given.framing == "chunked":
        lines.append("transfer-encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _read_request(reader: _WatchedReader, connection: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path, _, query = target.partition("?")
    body = await _read_body(reader, headers)
    return Request(method, path, query, headers, body, connection)


async def _read_body(reader: _WatchedReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body
