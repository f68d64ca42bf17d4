"""One HTTP conversation with a Leyden server: address, key, errors. Used by `Client` and by the exporter.

Knows no route. An answer with an `error` object becomes the class of `errors.py` with that code; no answer at all
becomes ServerUnreachable. httpx loads on the first request, so importing the SDK stays cheap.
"""

import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from leyden.errors import (
    BadInput,
    Forbidden,
    InvalidTransition,
    LeydenError,
    MissingExtra,
    NotFound,
    ServerUnreachable,
    StoreBusy,
    TooLarge,
    Unauthorized,
)

DEFAULT_URL = "http://127.0.0.1:4747"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Unset(Enum):
    """The type of UNSET. An enum, so that it stays the same object through pickling."""

    UNSET = "unset"


UNSET = Unset.UNSET
"""Tells "not given" from None in update methods."""


class Answer(NamedTuple):
    """What came back: status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """Sends requests to one server, remote (`url`) or in this process (`app`, an ASGI application).

    Safe to share between threads. A forked child opens connections of its own. An application is entered (its lifespan
    runs) here and left by `close`, at the latest when the main thread ends.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, key: str = "", timeout_s: float = 30.0, app: Any | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self.timeout_s = timeout_s
        self.in_process = app is not None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._before_close: list[Callable[[], object]] = []
        self._http: Any = _enter(app) if app is not None else None
        if app is not None:
            _close_when_main_ends(self)

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """One request and its answer, whatever its status. Raises ServerUnreachable when none came.

        params: None values are left out, lists repeat the name.
        """
        sent = dict(headers or {}) | self._headers()
        query = {k: v for k, v in (params or {}).items() if v is not None}
        # Starlette's test client has no timeouts: it calls the application directly.
        limits: dict[str, Any] = {} if self.in_process else {"timeout": timeout_s or self.timeout_s}
        http = self._session()
        try:
            got = http.request(
                method, self.url + path, content=content, params=query or None, headers=sent, **limits
            )
        except self._no_answer() as error:
            raise self._unreachable(error) from error
        return Answer(
            int(got.status_code), {k.lower(): v for k, v in got.headers.items()}, bytes(got.content)
        )

    @contextmanager
    def receive(
        self, path: str, *, params: Mapping[str, Any] | None = None, quiet_s: float | None = None
    ) -> Generator[Iterator[bytes]]:
        """The body of a GET as it comes, a piece at a time. Leaving the block tells the server to stop.

        quiet_s: the longest silence of a server that is not in this process; None as for other requests.
        Raises the error that the server answers with instead, ServerUnreachable also when it breaks off.
        """
        query = {k: v for k, v in (params or {}).items() if v is not None}
        http, broken = self._session(), self._no_answer()
        limits: dict[str, Any] = {} if self.in_process else {"timeout": quiet_s or self.timeout_s}
        try:
            with http.stream(
                "GET", self.url + path, params=query or None, headers=self._headers(), **limits
            ) as got:
                if got.status_code >= 400:
                    refused = error_of(Answer(int(got.status_code), {}, bytes(got.read())))
                    assert refused is not None
                    raise refused
                yield got.iter_bytes()
        except broken as error:
            raise self._unreachable(error) from error

    def upload(self, path: str, chunks: Iterable[bytes]) -> Answer:
        """POST a body a piece at a time, without ever holding all of it. Raises ServerUnreachable."""
        http = self._session()
        try:
            if self.in_process:
                return http.portal.call(_post, http.app, path, iter(chunks), self._headers())
            got = http.post(self.url + path, content=chunks, headers=self._headers())
        except self._no_answer() as error:
            raise self._unreachable(error) from error
        return Answer(int(got.status_code), dict(got.headers), bytes(got.content))

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def _unreachable(self, error: BaseException) -> ServerUnreachable:
        return ServerUnreachable(
            f"No Leyden server answers at {self.url} ({type(error).__name__})",
            hint="start one with `leyden up`, or set LEYDEN_URL",
        )

    def on_close(self, act: Callable[[], object]) -> None:
        """Call `act` once before the conversation closes."""
        self._before_close.append(act)

    def close(self) -> None:
        """Let go of connections, or leave the application. Closing twice is fine."""
        actions, self._before_close = self._before_close, []
        for act in actions:
            act()
        with self._lock:
            http, self._http = self._http, None
        if http is None:
            return
        if self.in_process:
            http.__exit__(None, None, None)
        elif self._pid == os.getpid():
            http.close()

    def _session(self) -> Any:
        if self._pid != os.getpid():
            self._after_fork()
        if self._http is not None:
            return self._http
        if self.in_process:
            raise ServerUnreachable("The in-process Leyden server was closed")
        import httpx

        with self._lock:
            if self._http is None:
                # A proxy from the environment is for the outside world; sent through it, loopback never answers.
                outside = urlsplit(self.url).hostname not in _LOOPBACK
                self._http = httpx.Client(trust_env=outside, timeout=self.timeout_s)
            return self._http

    def _no_answer(self) -> tuple[type[Exception], ...]:
        if self.in_process:
            return (RuntimeError,)
        import httpx

        return (httpx.TransportError, httpx.InvalidURL)

    def _after_fork(self) -> None:
        # The parent's sockets are shared with it: use neither them nor a lock that its threads may have held.
        self._pid, self._http, self._lock, self._before_close = os.getpid(), None, threading.Lock(), []


async def _post(app: Any, path: str, chunks: Iterator[bytes], headers: Mapping[str, str]) -> Answer:
    """POST to an application in this process; its own client would read the whole body first."""
    import asyncio  # takes long to load, and an agent needs it seldom

    status, answered, body = 500, dict[str, str](), bytearray()
    failed: list[BaseException] = []

    async def receive() -> dict[str, Any]:
        try:
            chunk = await asyncio.to_thread(next, chunks, None)
        except Exception as error:  # of whoever makes the chunks: told to our caller, not to the application
            failed.append(error)
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update((k.decode().lower(), v.decode()) for k, v in message.get("headers", ()))
        body.extend(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "root_path": "", "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 4747),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "state": {}, "extensions": {},
    }  # fmt: skip
    await app(scope, receive, send)
    if failed:
        raise failed[0]
    return Answer(status, answered, bytes(body))


def _enter(app: Any) -> Any:
    try:
        # Not an import statement: the light SDK must stay free of server packages wherever this is not called.
        make = import_module("starlette.testclient").TestClient
    except ImportError as error:
        raise MissingExtra(
            "An in-process server needs more packages", hint="pip install 'leyden[server]'"
        ) from error
    client: Any = make(app, base_url=DEFAULT_URL, raise_server_exceptions=False, client=("127.0.0.1", 50000))
    client.__enter__()
    return client


def _close_when_main_ends(wire: Wire) -> None:
    """The application's event loop runs in a thread that Python joins before any atexit handler: left open, it hangs the exit."""

    def watch() -> None:
        threading.main_thread().join()
        wire.close()

    threading.Thread(target=watch, name="leyden-app-exit", daemon=True).start()


def _by_code(root: type[LeydenError]) -> dict[str, type[LeydenError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _by_code(child) | found
    return found


_CODES = _by_code(LeydenError)
_STATUSES: dict[int, type[LeydenError]] = {
    400: BadInput,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: InvalidTransition,
    413: TooLarge,
    422: BadInput,
    429: StoreBusy,
    503: StoreBusy,
}


def error_of(answer: Answer) -> LeydenError | None:
    """The error an answer carries, or None when it is a success."""
    if answer.status < 400:
        return None
    try:
        body: Any = json.loads(answer.body)
    except ValueError:
        body = None
    told = error_in(body)
    if told is not None and told.code != LeydenError.code:
        return told
    kind = _STATUSES.get(answer.status, LeydenError)
    if told is not None:
        return kind(told.message, told.hint)
    detail: Any = cast(dict[str, Any], body).get("detail") if isinstance(body, dict) else None
    message = detail or f"The server answered {answer.status}"
    return kind(message if isinstance(message, str) else json.dumps(message))


def error_in(body: Any) -> LeydenError | None:
    """The error that a piece of JSON tells of, `{"error": {"code", "message", "hint"}}`, or None when it tells of none."""
    fields = cast(dict[str, Any], body) if isinstance(body, dict) else {}
    error = fields.get("error")
    if not isinstance(error, dict):
        return None
    told = cast(dict[str, Any], error)
    kind = _CODES.get(str(told.get("code")), LeydenError)
    return kind(str(told.get("message") or "The server gave no reason"), told.get("hint"))
