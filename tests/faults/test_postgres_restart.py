"""PostgreSQL goes away under load and comes back: who asks is told to wait, nothing acknowledged is lost, nothing is there twice."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import postgres_cluster
from fakes.model_server import ModelServer
from faults.conftest import problems
from faults.load import Load, Sender
from faults.processes import Server, running, until
from gateway.serving import QUESTION, only, written
from leyden.sdk.client import Client
from postgres_cluster import Cluster

REQUESTS, SPANS = 300, 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not postgres_cluster.installed():
        pytest.skip("no PostgreSQL: run make setup")
    with postgres_cluster.restartable() as made:
        yield made


class Patient(Sender):
    """A sender that also waits while the server says so, as an OpenTelemetry exporter does."""

    def _sent(self, http: httpx.Client, index: int) -> bool:
        body = self.load.body(index)
        while (answer := http.post("/v1/traces", content=body)).status_code != 200:
            self.refused.append(answer)
            if answer.status_code != 503:
                return False
            time.sleep(0.05)
        self.acknowledged.add(index)
        return True


class Claimer(threading.Thread):
    """A runner that claims and finishes until told to stop; what it was given, and every other answer."""

    def __init__(self, url: str, name: str, ended: threading.Event) -> None:
        super().__init__(name=name)
        self._url, self._ended = url, ended
        self.claimed: list[str] = []
        self.finished: list[str] = []
        self.refused: list[httpx.Response] = []
        self.start()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._ended.is_set():
                for item in (
                    self._post(http, "queues/rollouts/dequeue", {"wait_seconds": 0.2}, again=False) or []
                ):
                    rollout_id, attempt_id = item["rollout_id"], item["attempt"]["attempt_id"]
                    self.claimed.append(rollout_id)
                    end = f"rollouts/{rollout_id}/attempts/{attempt_id}"
                    if self._post(http, end, {"status": "succeeded"}, again=True):
                        self.finished.append(rollout_id)

    def _post(self, http: httpx.Client, path: str, body: Any, *, again: bool) -> Any:
        while (answer := http.post(f"/v1/agl/{path}", json=body)).status_code != 200:
            self.refused.append(answer)
            if not again or answer.status_code != 503:
                return None
            time.sleep(0.05)
        return answer.json()


def is_away(http: httpx.Client) -> bool:
    answer = http.get("/readyz")
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 503


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_restart_under_load_loses_nothing_and_the_server_recovers_by_itself(
    cluster: Cluster, how: signal.Signals
) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as admin:
        name = f"restart_{how.name.lower()}"
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    url = cluster.url.replace("/postgres?", f"/{name}?")
    env = {"LEYDEN_LEASE_S": "2", "LEYDEN_WATCHDOG_S": "0.2"}
    with (
        running(url, words=("serve",), **env) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        load = Load(server.url, requests=REQUESTS, spans=SPANS)
        body = {"rollouts": [{"input": None}] * 400}
        ids = [item["rollout_id"] for item in http.post("/v1/agl/queues/rollouts/enqueue", json=body).json()]
        ended = threading.Event()
        claimers = [Claimer(server.url, f"runner-{n}", ended) for n in range(2)]
        sender = Patient(load, server.url)
        try:
            until(lambda: len(sender.acknowledged) >= 30 and sum(len(c.finished) for c in claimers) >= 20)
            assert http.get("/readyz").status_code == 200
            cluster.stop(how)
            until(lambda: is_away(http))
            assert http.get("/healthz").status_code == 200
            assert http.get("/api/info").status_code == 503
            until(lambda: len(sender.refused) >= 4)
            assert len(sender.acknowledged) < REQUESTS, "the restart came too late to prove anything"
            cluster.start()
            until(lambda: not is_away(http))
            sender.join()
            done = {"status_in": ["succeeded"], "rollout_id_in": ids, "limit": 1}
            until(
                lambda: http.post("/v1/agl/rollouts/search", json=done).json()["total"] == len(ids),
                timeout_s=60,
            )
        finally:
            ended.set()
            for claimer in claimers:
                claimer.join(60)
        refused = [*sender.refused, *(answer for claimer in claimers for answer in claimer.refused)]
        # A finish whose answer was lost is sent again, after the lease gave the rollout to somebody else: that is a conflict.
        assert {answer.status_code for answer in refused} <= {503, 409}, {answer.text for answer in refused}
        assert {a.headers["retry-after"] for a in refused if a.status_code == 503} == {"1"}
        assert len(sender.acknowledged) == REQUESTS
        found, shared = load.stored(server.url)
        assert set(found) == load.all_span_ids()
        assert (max(found.values()), shared) == (1, 0)
        finished = Counter(rollout_id for claimer in claimers for rollout_id in claimer.finished)
        assert max(finished.values()) == 1
        check_it_listens_and_leads(server, http, url)
        assert server.stop() == 0
    assert problems(url) == []
    assert not [line for line in server.log if "Traceback" in line]


def check_it_listens_and_leads(server: Server, http: httpx.Client, url: str) -> None:
    """The connections that last are there again: a job runs, and another program's commit is heard."""
    names = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'leyden %'"
    with psycopg.connect(url, autocommit=True) as admin:
        until(lambda: {row[0] for row in admin.execute(names)} == {"leyden listener", "leyden election"})
    short = http.post("/v1/agl/rollouts", json={"input": 1, "config": {"timeout_seconds": 0.2}}).json()[
        "rollout_id"
    ]
    until(lambda: http.get(f"/v1/agl/rollouts/{short}").json()["status"] == "failed")
    with Client(server.url) as client:
        stream = client.events(topics=["rollouts"])
        assert next(stream) is None
        with running(url, words=("serve",)) as other:
            made = httpx.post(f"{other.url}/v1/agl/rollouts", json={"input": 1}).json()["rollout_id"]
            assert made in (event.id for event in stream if event is not None)
        stream.close()


def test_a_replica_whose_writer_is_ended_in_the_middle_of_its_load_goes_on(cluster: Cluster) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE cut TEMPLATE template0")
        url = cluster.url.replace("/postgres?", "/cut?")
        with running(url, words=("serve",)) as server:
            load = Load(server.url, requests=REQUESTS, spans=SPANS)
            sender = Patient(load, server.url)
            for share in (0.2, 0.4, 0.6):
                until(lambda: len(sender.acknowledged) >= share * REQUESTS)  # noqa: B023
                cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'"
                assert admin.execute(cut).rowcount >= 1
            sender.join()
            assert len(sender.acknowledged) == REQUESTS
            assert {answer.status_code for answer in sender.refused} <= {503}
            found, shared = load.stored(server.url)
            assert set(found) == load.all_span_ids()
            assert (max(found.values()), shared) == (1, 0)
        assert problems(url) == []
        assert not [line for line in server.log if "Traceback" in line]


def test_a_key_that_was_good_calls_models_while_postgresql_is_away_and_a_stranger_is_told_to_wait(
    cluster: Cluster, tmp_path: Path
) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE keyed TEMPLATE template0")
    url = cluster.url.replace("/postgres?", "/keyed?")
    with ModelServer() as model:
        env = {"LEYDEN_CONFIG": written(tmp_path, only(model))}
        with running(url, **env) as server, httpx.Client(base_url=server.url, timeout=60) as http:
            good, gone = (
                http.post("/api/keys", json={"name": name, "scopes": ["gateway"]}).json()
                for name in ("good", "gone")
            )

            def call(key: str) -> httpx.Response:
                return http.post(
                    "/v1/chat/completions", json=QUESTION, headers={"authorization": f"Bearer {key}"}
                )

            assert [call(key["key"]).status_code for key in (good, gone)] == [200, 200]
            assert http.delete(f"/api/keys/{gone['id']}").status_code == 200
            assert [call(key["key"]).status_code for key in (good, gone)] == [200, 401]
            cluster.stop(signal.SIGQUIT)
            until(lambda: is_away(http))
            assert [call(good["key"]).status_code for _ in range(3)] == [200, 200, 200]
            for key in (gone["key"], "lk_nobody-knows"):
                answer = call(key)
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
                assert not [word for word in ("postgres", "/tmp", "keyed") if word in answer.text]
            cluster.start()
            until(lambda: not is_away(http))
            until(lambda: call(gone["key"]).status_code == 401)
            assert call(good["key"]).status_code == 200
            until(lambda: http.get("/api/gateway").json()["recorded"] == 7)
            assert http.get("/api/gateway").json()["lost"] == 0
        assert problems(url) == []
