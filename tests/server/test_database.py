"""Retention and pruning over the client: what a user sets is what is kept."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from conftest import Clock  # pyright: ignore[reportAttributeAccessIssue]
from leyden.errors import NotFound
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.server.context import Context
from leyden.server.jobs import forget
from leyden.settings import Settings
from server.test_auth import asking, bearer, create_key

DAY = 86_400.0


def end_some(client: Client, clock: Clock, *, number: int, mode: str | None = None) -> list[str]:
    """Rollouts that end a day apart, the last of them now."""
    made: list[str] = []
    for _ in range(number):
        clock.advance(DAY)
        rollout = client.start_rollout(1, mode=mode)  # pyright: ignore[reportArgumentType]
        client.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        made.append(rollout.rollout_id)
    return made


def left(client: Client) -> list[str]:
    return [rollout.rollout_id for rollout in client.rollouts().items]


def test_pruning_by_age_is_announced_by_a_dry_run_and_then_done(client: Client, clock: Clock) -> None:
    made = end_some(client, clock, number=4)
    would = client.prune(max_age_s=1.5 * DAY, dry_run=True)
    assert (would["rollouts"], would["kept"], left(client)) == (2, {}, made)
    assert client.prune(max_age_s=1.5 * DAY) == would
    assert left(client) == made[2:]


def test_pruning_one_mode_leaves_the_others(client: Client, clock: Clock) -> None:
    end_some(client, clock, number=2, mode="train")
    others = end_some(client, clock, number=2)
    assert client.prune(mode="train", max_rollouts=0)["rollouts"] == 2
    assert left(client) == others


def test_pruning_without_a_bound_applies_the_policies(client: Client, clock: Clock) -> None:
    made = end_some(client, clock, number=3)
    assert client.prune()["rollouts"] == 0
    client.set_retention(max_rollouts=1)
    assert client.prune(dry_run=True)["rollouts"] == 2
    assert client.prune()["rollouts"] == 2
    assert left(client) == made[2:]


def test_a_policy_is_shown_replaced_and_removed(client: Client) -> None:
    assert client.retention() == []
    client.set_retention(mode="train", max_age_s=DAY)
    client.set_retention(mode="train", max_bytes=10**12)
    shown = {
        "project": "default",
        "mode": "train",
        "max_age_s": None,
        "max_rollouts": None,
        "max_bytes": 10**12,
    }
    assert client.retention() == [shown]
    assert client.retention(project="other") == []
    client.clear_retention(mode="train")
    assert client.retention() == []
    with pytest.raises(NotFound, match="train"):
        client.clear_retention(mode="train")


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    app = create_app(replace(settings, keep_days=1.5, retention_s=0))
    with TestClient(app):
        yield app.context


def test_the_job_applies_policies_and_the_settings_where_there_are_none(
    context: Context, clock: Clock
) -> None:
    with Client(app=create_app(context.settings)) as client:
        made = end_some(client, clock, number=4)
        assert forget(context).rollouts == 2
        assert left(client) == made[2:]
        client.set_retention()
        clock.advance(100 * DAY)
        assert forget(context).rollouts == 0
        client.set_retention(max_rollouts=0)
        assert forget(context).rollouts == 2


@pytest.mark.parametrize("scope", ["ingest", "read", "run"])
def test_only_an_admin_looks_at_retention_or_prunes(settings: Settings, scope: str) -> None:
    with TestClient(create_app(settings)) as http:
        key = create_key(http, scope)["key"]
    with asking(settings) as http:
        for method, path in (("GET", "/api/retention"), ("PUT", "/api/retention"), ("POST", "/api/db/prune")):
            assert http.request(method, path, headers=bearer(key), json={}).status_code == 403


@pytest.mark.parametrize(
    "body", [{"max_age_s": -1}, {"max_rollouts": -1}, {"mode": "other"}, {"project": ""}, {"max_bytes": 1.5}]
)
def test_a_policy_that_cannot_be_is_refused(client: Client, body: dict[str, object]) -> None:
    for method, path in (("PUT", "/api/retention"), ("POST", "/api/db/prune")):
        with pytest.raises(Exception, match=next(iter(body))):
            client.request(method, path, body=body)


def test_a_server_whose_database_file_is_gone_is_not_ready_and_says_so_to_whoever_sends(
    tmp_path: Path,
) -> None:
    file = tmp_path / "leyden.db"
    with TestClient(create_app(Settings(db=str(file))), raise_server_exceptions=False) as http:
        assert http.get("/readyz").status_code == 200
        for part in tmp_path.iterdir():
            part.unlink()
        answers = [http.get("/readyz"), http.post("/v1/agl/rollouts", json={"input": 1})]
        assert http.get("/healthz").status_code == 200
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")] * 2
    assert all("removed or replaced" in answer.json()["error"]["message"] for answer in answers)
    assert all("backup" in answer.json()["error"]["hint"] for answer in answers)
