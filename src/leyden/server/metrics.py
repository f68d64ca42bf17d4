"""What `/metrics` tells, in the names of Agent Lightning's tracker where it had one (dots become underscores).

Counted by a thin ASGI layer; gauges of the writer are read when somebody asks.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from leyden.server.context import Context
from leyden.server.http import App, Receive, Scope, Send

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class WriterState(Collector):
    """What waits for the writer and what it has committed."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of this moment."""
        writer = self._context.store.writer
        yield GaugeMetricFamily(
            "leyden_writes_pending", "Writes accepted and not yet committed", writer.pending
        )
        yield GaugeMetricFamily("leyden_writes_pending_bytes", "Payload bytes of those", writer.pending_bytes)
        yield GaugeMetricFamily(
            "leyden_writes_committed", "Writes committed since the start", writer.committed
        )
        yield GaugeMetricFamily("leyden_commits", "Transactions committed since the start", writer.groups)


class Metered:
    """ASGI middleware that counts and times requests by method, route template and status."""

    def __init__(self, app: App, registry: CollectorRegistry) -> None:
        self._app = app
        self._total = Counter("agl_http_total", "Requests", ["path", "method", "status"], registry=registry)
        self._latency = Histogram(
            "agl_http_latency",
            "Seconds per request",
            ["path", "method"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # the client left before an answer
        began = time.perf_counter()

        async def watching(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(str(message["status"]))
            await send(message)

        try:
            await self._app(scope, receive, watching)  # pyright: ignore[reportArgumentType]
        finally:
            count, latency = self._of(scope, status)
            count.inc()
            latency.observe(time.perf_counter() - began)

    def _of(self, scope: Scope, status: int) -> tuple[Counter, Histogram]:
        key = (_template(scope), scope["method"], status)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = (
                self._total.labels(key[0], key[1], str(status)),
                self._latency.labels(key[0], key[1]),
            )
        return found


def _template(scope: Scope) -> str:
    """The route with its parameters' names: one series per route, however many ids."""
    route = scope.get("route")
    if route is not None:
        return route.path
    path: str = scope["path"]
    parts = path.split("/")
    if len(parts) == 7 and parts[5] == "attempts":
        return "/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}"
    return path if scope.get("leyden.hot") else "(none)"
