"""Two servers on one PostgreSQL: work is shared, and one of them may die in the middle."""

import threading
from collections import Counter
from typing import Any

import httpx

from faults.processes import running, until

ROLLOUTS = 2000
CLAIMERS = 8


class Claimer(threading.Thread):
    """A runner: claims, finishes, claims again; moves to the other server when its own is gone."""

    def __init__(self, urls: list[str], name: str, ended: threading.Event) -> None:
        super().__init__(name=name)
        self.urls, self.ended = urls, ended
        self.claimed: list[tuple[str, str]] = []
        self.finished = 0
        self.refused: list[str] = []
        self.start()

    def run(self) -> None:
        self._http = httpx.Client(base_url=self.urls[0], timeout=30)
        while not self.ended.is_set():
            # An answer lost in flight is a claim lost in flight: the lease brings it back.
            items = self._post(
                "/v1/agl/queues/rollouts/dequeue", {"worker_id": self.name, "wait_seconds": 0.2}, again=False
            )
            for item in items or []:
                rollout_id, attempt_id = item["rollout_id"], item["attempt"]["attempt_id"]
                self.claimed.append((rollout_id, attempt_id))
                if self._post(
                    f"/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}",
                    {"status": "succeeded"},
                    again=True,
                ):
                    self.finished += 1
        self._http.close()

    def _post(self, path: str, body: Any, *, again: bool) -> Any:
        while True:
            try:
                answer = self._http.post(path, json=body)
            except httpx.TransportError:
                self._http.close()
                self.urls = self.urls[1:] + self.urls[:1]
                self._http = httpx.Client(base_url=self.urls[0], timeout=30)
            else:
                if answer.status_code == 200:
                    return answer.json()
                self.refused.append(answer.text)
            if not again:
                return None


def test_a_replica_killed_in_the_middle_loses_no_rollout_and_finishes_none_twice(
    postgres_database: str,
) -> None:
    env = {"LEYDEN_LEASE_S": "4", "LEYDEN_WATCHDOG_S": "0.2"}
    with running(postgres_database, **env) as first, running(postgres_database, **env) as second:
        http = httpx.Client(base_url=second.url, timeout=60)
        ids: list[str] = []
        for _ in range(ROLLOUTS // 500):
            body = {"rollouts": [{"input": None}] * 500}
            ids += [
                item["rollout_id"] for item in http.post("/v1/agl/queues/rollouts/enqueue", json=body).json()
            ]
        ended = threading.Event()
        pairs = [[first.url, second.url], [second.url, first.url]]
        claimers = [Claimer(pairs[n % 2], f"runner-{n}", ended) for n in range(CLAIMERS)]
        try:
            until(lambda: sum(claimer.finished for claimer in claimers) >= ROLLOUTS // 3)
            first.kill()
            done = {"status_in": ["succeeded"], "limit": 1}
            until(lambda: http.post("/v1/agl/rollouts/search", json=done).json()["total"] == ROLLOUTS)
        finally:
            ended.set()
            for claimer in claimers:
                claimer.join(60)
        assert [text for claimer in claimers for text in claimer.refused] == []
        claims = Counter(rollout_id for claimer in claimers for rollout_id, _ in claimer.claimed)
        assert set(claims) <= set(ids)
        assert (
            sum(claims.values()) >= ROLLOUTS - CLAIMERS
        )  # a finish may be lost in flight too, never a claim of another's
        assert all(claimer.finished for claimer in claimers)
        left = http.post("/v1/agl/rollouts/search", json={"limit": -1}).json()["items"]
        assert sorted(item["rollout_id"] for item in left) == sorted(ids)
        assert {item["status"] for item in left} == {"succeeded"}
        twice = [item for item in left if item["attempt"]["sequence_id"] > 1]
        assert len(twice) <= CLAIMERS, "only what was in flight at the kill may have been handed out again"
        for item in twice:
            attempts = http.get(f"/v1/agl/rollouts/{item['rollout_id']}/attempts").json()["items"]
            assert [attempt["status"] for attempt in attempts].count("succeeded") == 1
        http.close()
