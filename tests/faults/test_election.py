"""Jobs over several replicas: one leads, each piece of work is done once, and another takes over when the leader is gone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from faults.processes import Server, leyden, running, until
from leyden.store import election
from leyden.store.election import Election
from leyden.store.engine import open_database

LEADERS = """
    SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND a.application_name = 'leyden election' AND a.datname = current_database()
"""
SERVE = ("serve",)


def leaders(url: str) -> list[int]:
    """The sessions that hold a lock of a job."""
    with psycopg.connect(url, autocommit=True) as admin:
        return [row[0] for row in admin.execute(LEADERS)]


def timed_out(http: httpx.Client, rollout_id: str) -> dict[str, Any] | None:
    item = http.get(f"/v1/agl/rollouts/{rollout_id}").json()
    return item if item["status"] == "failed" else None


def enqueue_short(http: httpx.Client) -> str:
    body = {"input": 1, "config": {"timeout_seconds": 0.2}}
    return http.post("/v1/agl/rollouts", json=body).json()["rollout_id"]


@contextmanager
def two(url: str) -> Iterator[tuple[Server, Server]]:
    """Two replicas of which the first leads."""
    env = {"LEYDEN_WATCHDOG_S": "0.05"}
    with running(url, words=SERVE, **env) as first:
        until(lambda: leaders(url))
        with running(url, words=SERVE, **env) as second:
            yield first, second


def test_a_killed_leader_is_replaced_and_its_work_goes_on(postgres_database: str) -> None:
    with two(postgres_database) as (first, second), httpx.Client(base_url=second.url) as http:
        ids = [enqueue_short(http)]
        until(lambda: timed_out(http, ids[0]))
        (old,) = set(leaders(postgres_database))
        first.kill()
        ids.append(enqueue_short(http))
        until(lambda: timed_out(http, ids[1]))
        (new,) = set(leaders(postgres_database))
        assert new != old
        for rollout_id in ids:
            attempts = http.get(f"/v1/agl/rollouts/{rollout_id}/attempts").json()["items"]
            assert [attempt["status"] for attempt in attempts] == ["timeout"]


def test_a_leader_that_stops_lets_go_at_once_and_one_that_hangs_is_replaced(postgres_database: str) -> None:
    with two(postgres_database) as (first, second), httpx.Client(base_url=second.url) as http:
        (old,) = set(leaders(postgres_database))
        first.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: set(leaders(postgres_database)) - {old})
            rollout_id = enqueue_short(http)
            until(lambda: timed_out(http, rollout_id))
        finally:
            first.process.send_signal(signal.SIGCONT)
        (leader,) = until(lambda: set(leaders(postgres_database)))
        assert second.stop() == 0
        until(lambda: set(leaders(postgres_database)) - {leader})
        assert first.stop() == 0
        assert leaders(postgres_database) == []


def test_of_several_replicas_exactly_one_leads_each_job(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(election, "BEAT_S", 0.01)
    database = open_database(postgres_database)
    taking_part = [Election(database, ["pack", "prune"]) for _ in range(4)]

    def leading(job: str) -> list[int]:
        return [number for number, one in enumerate(taking_part) if one.leads(job)]

    for _ in range(4):
        for job in ("pack", "prune"):
            assert len(until(lambda: leading(job))) == 1  # noqa: B023
        taking_part.pop(leading("pack")[0]).close()
        if not taking_part:
            break
    database.close()


def test_a_leader_whose_session_was_ended_stops_leading_and_comes_back(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(election, "BEAT_S", 0.01)
    database = open_database(postgres_database)
    only = Election(database, ["pack"])
    until(lambda: only.leads("pack"))
    (pid,) = set(leaders(postgres_database))
    with psycopg.connect(postgres_database, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    until(lambda: set(leaders(postgres_database)) - {pid})
    until(lambda: only.leads("pack"))
    only.close()
    database.close()


def test_on_sqlite_everybody_leads(tmp_path: Any) -> None:
    database = open_database(str(tmp_path / "leyden.db"))
    one = Election(database, ["pack"])
    assert one.leads("pack")
    one.close()
    database.close()


def test_a_replica_serves_its_roles_and_names_the_others(postgres_database: str) -> None:
    env = {"LEYDEN_ROLES": "ingest", "LEYDEN_WATCHDOG_S": "0.05"}
    with (
        running(postgres_database, words=SERVE, **env) as ingests,
        httpx.Client(base_url=ingests.url) as http,
    ):
        assert http.post("/v1/traces", json={"resourceSpans": []}).status_code == 200
        assert http.get("/readyz").status_code == 200
        refused = http.get("/api/findings")
        assert (refused.status_code, "'api'" in refused.json()["error"]["hint"]) == (404, True)
        assert leaders(postgres_database) == []
    with running(postgres_database, words=("serve", "--roles", "api")) as api:
        refused = httpx.post(f"{api.url}/v1/traces", json={"resourceSpans": []})
        assert (refused.status_code, "'ingest'" in refused.json()["error"]["hint"]) == (404, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "leyden up"), (("--roles", "cook"), "'cook' is no role")],
)
def test_what_cannot_be_a_replica_is_told_in_one_line(
    tmp_path: Any, words: tuple[str, ...], said: str
) -> None:
    database = (
        ("--postgres", "postgresql://nobody@/nothing?host=/nowhere")
        if words
        else ("--db", str(tmp_path / "x.db"))
    )
    run = leyden("serve", *database, *words)
    assert run.returncode != 0
    assert said in run.stderr
    assert "Traceback" not in run.stderr
