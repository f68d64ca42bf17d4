"""A span load that can be sent again byte for byte, and what a server has of it."""

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = {"Content-Type": "application/x-protobuf"}
CLIENTS = 4


class Load:
    """Requests of `spans` spans each, spread over a few started rollouts of the server at `url`."""

    def __init__(self, url: str, *, requests: int, spans: int, rollouts: int = 4) -> None:
        self.requests, self.spans = range(requests), spans
        with httpx.Client(base_url=url) as http:
            made = [http.post("/v1/agl/rollouts", json={"input": n}).json() for n in range(rollouts)]
        self.attempts = [(item["rollout_id"], item["attempt"]["attempt_id"]) for item in made]

    def span_ids(self, index: int) -> list[str]:
        return [f"{index * self.spans + n + 1:016x}" for n in range(self.spans)]

    def body(self, index: int) -> bytes:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        rollout_id, attempt_id = self.attempts[index % len(self.attempts)]
        for name, value in (("rollout_id", rollout_id), ("attempt_id", attempt_id)):
            group.resource.attributes.add(key=f"agentlightning.{name}").value.string_value = value
        spans = group.scope_spans.add().spans
        for n, span_id in enumerate(self.span_ids(index)):
            spans.add(
                trace_id=b"\x07" * 16, span_id=bytes.fromhex(span_id), parent_span_id=b"\x01" * 8, name="chat gpt-4o",
                start_time_unix_nano=1_800_000_000_000_000_000 + n, end_time_unix_nano=1_800_000_000_500_000_000 + n,
            )  # fmt: skip
        return request.SerializeToString()

    def all_span_ids(self, indices: Iterable[int] | None = None) -> set[str]:
        return {
            span_id
            for index in (self.requests if indices is None else indices)
            for span_id in self.span_ids(index)
        }

    def stored(self, url: str) -> tuple[Counter[str], int]:
        """How often each span is there, and how many spans of a rollout share a sequence number with another."""
        found: Counter[str] = Counter()
        shared = 0
        with httpx.Client(base_url=url, timeout=60) as http:
            for rollout_id, _ in self.attempts:
                rows: list[dict[str, Any]] = http.get(f"/api/rollouts/{rollout_id}/spans").json()["items"]
                full = http.get("/v1/agl/spans", params={"rollout_id": rollout_id}).json()["items"]
                assert [row["span_id"] for row in rows] == [span["span_id"] for span in full]
                found.update(row["span_id"] for row in rows)
                shared += len(rows) - len({row["sequence_id"] for row in rows})
        return found, shared


class Sender:
    """Sends a load from several clients; `acknowledged` grows as answers arrive, `refused` holds the other answers."""

    def __init__(self, load: Load, url: str, *, clients: int = CLIENTS) -> None:
        self.load, self._url = load, url
        self.acknowledged: set[int] = set()
        self.refused: list[httpx.Response] = []
        self._left = iter(load.requests)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._left, None)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, headers=PROTOBUF) as http:
            while (index := self._next()) is not None:
                try:
                    if not self._sent(http, index):
                        return
                except httpx.TransportError:
                    return  # the server is gone

    def _sent(self, http: httpx.Client, index: int) -> bool:
        """Send until it is acknowledged; False when the server said anything but "later"."""
        body = self.load.body(index)
        while (answer := http.post("/v1/traces", content=body)).status_code != 200:
            self.refused.append(answer)
            if answer.status_code != 503:
                return False
        assert answer.content == b"", "spans were refused"
        self.acknowledged.add(index)
        return True
