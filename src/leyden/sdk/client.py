"""`leyden.Client`: every route of a Leyden server as one method with typed results.

Talks to a server over HTTP or to an application in this process: one code path. An error answer is raised as the class
of `leyden.errors` with that code; no answer at all as ServerUnreachable. Safe to share between threads.
"""

from types import TracebackType
from typing import Any, Self

from leyden.errors import LeydenError
from leyden.sdk.calls.database import DatabaseCalls
from leyden.sdk.calls.events import EventCalls
from leyden.sdk.calls.findings import FindingCalls
from leyden.sdk.calls.keys import ServerCalls
from leyden.sdk.calls.metrics import MetricCalls
from leyden.sdk.calls.prices import PriceCalls
from leyden.sdk.calls.resources import ResourceCalls
from leyden.sdk.calls.rollouts import RolloutCalls
from leyden.sdk.calls.search import SearchCalls
from leyden.sdk.calls.spans import SpanCalls
from leyden.sdk.calls.spend import SpendCalls
from leyden.sdk.calls.transfer import TransferCalls
from leyden.sdk.calls.workers import WorkerCalls
from leyden.sdk.wire import DEFAULT_URL, UNSET, Unset, Wire
from leyden.settings import Settings

__all__ = ["UNSET", "Client", "Unset"]


class Client(
    RolloutCalls,
    SpanCalls,
    SearchCalls,
    ResourceCalls,
    WorkerCalls,
    FindingCalls,
    MetricCalls,
    SpendCalls,
    PriceCalls,
    EventCalls,
    DatabaseCalls,
    TransferCalls,
    ServerCalls,
):
    """A conversation with one server.

    url: default `LEYDEN_URL`, else http://127.0.0.1:4747. key: default `LEYDEN_API_KEY`.
    app: an ASGI application to talk to in this process instead (`leyden.server.app.create_app(settings)`); its lifespan
    runs from here until `close`. timeout_s: per request; long polls add what they wait for.

    A context manager. A client with a url survives pickling, one with an app does not.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        app: Any | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        known = Settings.from_env(None, url=url, api_key=key)
        address = DEFAULT_URL if app is not None else known.url or DEFAULT_URL
        self.wire = Wire(address, key=known.api_key, timeout_s=timeout_s, app=app)

    @property
    def url(self) -> str:
        """Address of the server."""
        return self.wire.url

    def close(self) -> None:
        """Let go of connections, or leave the application."""
        self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({'in process' if self.wire.in_process else self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.wire.in_process:
            raise LeydenError("A client with an in-process server cannot be pickled", hint="give it a url")
        return _rebuild, (self.wire.url, self.wire.key, self.wire.timeout_s)


def _rebuild(url: str, key: str, timeout_s: float) -> Client:
    return Client(url, key=key, timeout_s=timeout_s)
