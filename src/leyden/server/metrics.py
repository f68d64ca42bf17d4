"""What `/metrics` tells, in the names of Agent Lightning's tracker where it had one (dots become underscores).

Gauges of the writer are read when somebody asks.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from leyden.ingest import native
from leyden.server.context import Context

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
        is_native = native.in_use() == "native"
        yield GaugeMetricFamily(
            "leyden_native_decoder", "1 when spans are read in C, else 0", float(is_native)
        )


class GatewayState(Collector):
    """What the gateway is doing, and whether it keeps up."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of this moment; none where there is no gateway."""
        gateway = self._context.gateway
        if gateway is None:
            return
        state, counts = gateway.hold.state(), gateway.capture.counts
        for name, text, value in (
            ("paused", "1 while calls are held", state.is_paused),
            ("in_flight", "Calls on their way", state.in_flight),
            ("waiting", "Calls held until it is resumed", state.waiting),
            ("recorded", "Calls recorded since the start", counts.recorded),
            ("lost", "Calls that could not be recorded since the start", counts.lost),
            ("pending", "Calls that wait for the store", gateway.capture.pending),
        ):
            yield GaugeMetricFamily(f"leyden_gateway_{name}", text, float(value))
        ejected = GaugeMetricFamily(
            "leyden_gateway_upstream_rest_seconds",
            "How long an upstream is left alone still",
            labels=["upstream"],
        )
        for name, standing in gateway.upstreams.health.snapshot(now=gateway.upstreams.now()).items():
            ejected.add_metric([name], standing.back_s)
        yield ejected


class Meter:
    """Counts and times requests by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter("agl_http_total", "Requests", ["path", "method", "status"], registry=registry)
        self._latency = Histogram(
            "agl_http_latency",
            "Seconds per request",
            ["path", "method"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, template: str, method: str, status: int, seconds: float) -> None:
        """One request that was answered; status 499 when the client left before."""
        key = (template, method, status)
        found = self._children.get(key)
        if found is None:
            found = (
                self._total.labels(template, method, str(status)),
                self._latency.labels(template, method),
            )
            self._children[key] = found
        found[0].inc()
        found[1].observe(seconds)
