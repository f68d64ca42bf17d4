"""Stopping and overload: what was acknowledged is stored, who waits is answered, nothing is dropped silently."""

import sqlite3
import threading
import time
from pathlib import Path

import httpx

from faults.load import Load, Sender
from faults.processes import running, until


def test_sigterm_in_the_middle_of_a_load_stores_all_that_was_acknowledged_and_exits_with_0(
    database_url: str,
) -> None:
    with running(database_url) as server:
        load = Load(server.url, requests=400, spans=20)
        sender = Sender(load, server.url)
        until(lambda: len(sender.acknowledged) >= 20)
        assert server.stop() == 0
        sender.join()
        assert not [line for line in server.log if "Traceback" in line]
    assert 20 <= len(sender.acknowledged) < 400, "the signal came too late to prove anything"
    with running(database_url) as server:
        found, shared = load.stored(server.url)
    assert load.all_span_ids(sender.acknowledged) - set(found) == set()
    assert max(found.values()) == 1
    assert shared == 0


def test_long_polls_in_flight_are_answered_at_once_when_the_server_stops(tmp_path: Path) -> None:
    answers: dict[str, httpx.Response] = {}
    with running(str(tmp_path / "leyden.db")) as server, httpx.Client(base_url=server.url) as http:
        rollout_id = http.post("/v1/agl/rollouts", json={"input": 1}).json()["rollout_id"]

        def poll(name: str, path: str, body: dict[str, object]) -> None:
            answers[name] = httpx.post(server.url + path, json=body, timeout=90)

        polls = [
            ("wait", "/v1/agl/waits/rollouts", {"rollout_ids": [rollout_id], "timeout": 60}),
            ("claim", "/v1/agl/queues/rollouts/dequeue", {"worker_id": "w1", "wait_seconds": 60}),
        ]
        threads = [threading.Thread(target=poll, args=item) for item in polls]
        for thread in threads:
            thread.start()
        until(lambda: http.get("/v1/agl/workers/w1").json())
        before = time.monotonic()
        assert server.stop() == 0
        for thread in threads:
            thread.join(30)
        assert time.monotonic() - before < 4
    assert {name: (answer.status_code, answer.json()) for name, answer in answers.items()} == {
        "wait": (200, []), "claim": (200, []),
    }  # fmt: skip


def test_overload_is_answered_503_with_a_time_to_retry_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leyden.db"
    with running(str(path), LEYDEN_MAX_PENDING="2") as server:
        load = Load(server.url, requests=40, spans=10)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        sender = Sender(load, server.url, clients=8)
        try:
            until(lambda: len(sender.refused) >= 20)
            assert sender.acknowledged == set()
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        sender.join()
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in sender.refused} == {
            (503, "1")
        }
        assert len(sender.acknowledged) == 40
        found, shared = load.stored(server.url)
    assert set(found) == load.all_span_ids()
    assert (max(found.values()), shared) == (1, 0)


def test_the_store_protocol_answers_overload_with_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "leyden.db"
    with running(str(path), LEYDEN_MAX_PENDING="0") as server:
        answer = httpx.post(server.url + "/v1/agl/rollouts", json={"input": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "store_busy"
    assert "try again" in answer.json()["error"]["hint"]


def test_a_rollout_that_runs_too_long_ends_by_itself_without_any_request(database_url: str) -> None:
    with running(database_url, LEYDEN_WATCHDOG_S="0.05") as server, httpx.Client(base_url=server.url) as http:
        body = {"input": 1, "config": {"timeout_seconds": 0.2}}
        rollout_id = http.post("/v1/agl/rollouts", json=body).json()["rollout_id"]
        # One request that only listens: the rollout ends while nobody asks for anything.
        wait = {"rollout_ids": [rollout_id], "timeout": 30}
        (ended,) = http.post("/v1/agl/waits/rollouts", json=wait, timeout=60).json()
        attempt = http.get(f"/v1/agl/rollouts/{rollout_id}/attempts/latest").json()
    assert (ended["status"], attempt["status"]) == ("failed", "timeout")
    assert ended["failure_reason"] == "ran longer than timeout_seconds=0.2"
    assert 0.2 < ended["end_time"] - ended["start_time"] < 10


def test_a_silent_claim_goes_back_to_the_queue_and_wakes_the_next_runner(tmp_path: Path) -> None:
    env = {"LEYDEN_WATCHDOG_S": "0.05", "LEYDEN_LEASE_S": "0.3"}
    with running(str(tmp_path / "leyden.db"), **env) as server, httpx.Client(base_url=server.url) as http:
        http.post("/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 1}]})
        (first,) = http.post("/v1/agl/queues/rollouts/dequeue", json={}).json()
        (again,) = http.post("/v1/agl/queues/rollouts/dequeue", json={"wait_seconds": 30}, timeout=60).json()
    assert again["rollout_id"] == first["rollout_id"]
    assert (first["attempt"]["sequence_id"], again["attempt"]["sequence_id"]) == (1, 2)
