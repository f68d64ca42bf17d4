"""Twice as much as the server can take: 64 clients that never wait.

Promised: each request is acknowledged or answered 503 with `Retry-After: 1`; what is acknowledged is there, once; what is refused arrives when it is
sent again; memory stays bounded by the settings, not by the clients; small requests are answered meanwhile.
"""

import httpx
import psutil

from faults.load import Load, Sender
from faults.processes import running, until

CLIENTS = 64
PENDING = 32 * 1024  # so little that the clients of a test overload it


def test_overload_loses_nothing_and_says_when_to_come_back(database_url: str) -> None:
    with running(database_url, LEYDEN_MAX_PENDING_BYTES=str(PENDING)) as server:
        process = psutil.Process(server.process.pid)
        load = Load(server.url, requests=120, spans=60)
        before = process.memory_info().rss
        sender = Sender(load, server.url, clients=CLIENTS)
        until(lambda: len(sender.acknowledged) >= 20, timeout_s=60)
        with httpx.Client(base_url=server.url, timeout=30) as http:
            assert http.get("/healthz").status_code == 200
            assert http.post(
                "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 1}]}
            ).status_code in (201, 503)
        sender.join()
        assert {answer.status_code for answer in sender.refused} == {503}, "the load was no overload"
        assert all(answer.headers["retry-after"] == "1" for answer in sender.refused)
        assert sender.acknowledged == set(load.requests)
        found, shared = load.stored(server.url)
        assert set(found) == load.all_span_ids()
        assert max(found.values()) == 1
        assert shared == 0
        # 64 bodies in the air, what waits for the writer, and the interpreter's own slack; the load itself is 120 bodies.
        assert process.memory_info().rss - before < 200 * 2**20
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
