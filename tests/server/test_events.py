"""Live events: who watches hears of what changes, in order, and is told when something was missed."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from faults.processes import running, until
from leyden.errors import BadInput
from leyden.sdk.client import Client
from leyden.server import context, events
from leyden.server.app import create_app
from leyden.server.events import Watchers
from leyden.settings import Settings
from leyden.store.notices import EVERYTHING
from leyden.types import StoreEvent
from server.test_store_protocol import SPAN


@contextmanager
def served(database: str) -> Iterator[tuple[str, Any]]:
    """A server of this process on a free port: its address and its context."""
    app = create_app(Settings(db=database))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app.context
    finally:
        app.context.drain()
        server.should_exit = True
        thread.join(30)


def heard(
    stream: Iterator[StoreEvent | None], enough: Callable[[list[StoreEvent]], bool]
) -> list[StoreEvent]:
    found: list[StoreEvent] = []
    while not enough(found):
        event = next(stream)
        if event is not None:
            found.append(event)
    return found


def life_of_a_rollout(client: Client) -> str:
    rollout_id = client.enqueue(1).rollout_id
    (claimed,) = client.dequeue()
    span = {**SPAN, "rollout_id": rollout_id, "attempt_id": claimed.attempt.attempt_id, "span_id": "b" * 16}
    client.request("POST", "/v1/agl/spans", body=[span])
    client.update_attempt(rollout_id, claimed.attempt.attempt_id, status="succeeded")
    return rollout_id


LIFE = [
    ("rollouts", "queuing"),
    ("rollouts", "preparing"),
    ("rollouts", "running"),
    ("rollouts", "succeeded"),
]


def test_a_watcher_sees_the_life_of_a_rollout_in_order(database_url: str) -> None:
    with served(database_url) as (url, _), Client(url) as client:
        stream = client.events()
        assert next(stream) is None
        rollout_id = life_of_a_rollout(client)
        found = heard(stream, lambda found: ("rollouts", rollout_id, "succeeded", "default") in found)
        assert {event.id for event in found} == {rollout_id}
        assert [(event.topic, event.status) for event in found if event.topic == "rollouts"] == LIFE
        assert ("spans", rollout_id, None, "default") in found
        stream.close()


def test_topics_and_a_rollout_narrow_what_is_heard(database_url: str) -> None:
    with served(database_url) as (url, _), Client(url) as client:
        other = client.enqueue(1).rollout_id
        stream = client.events(topics=["rollouts"], rollout_id=other)
        assert next(stream) is None
        client.start_rollout(2)
        client.dequeue()
        client.update_rollout(other, status="cancelled")
        found = heard(stream, lambda found: len(found) >= 2)
        assert [(event.id, event.status) for event in found] == [(other, "preparing"), (other, "cancelled")]
        stream.close()


def test_an_unknown_topic_is_named_and_live_events_need_a_running_server(client: Client) -> None:
    with pytest.raises(BadInput, match="'weather' is no topic"):
        client.request("GET", "/api/events", params={"topics": "weather"})
    with pytest.raises(BadInput, match="running server"):
        next(client.events())


def test_who_comes_back_is_told_that_something_may_be_missing(database_url: str) -> None:
    came_back = {"Last-Event-ID": "7"}
    with (
        served(database_url) as (url, _),
        httpx.stream("GET", f"{url}/api/events", headers=came_back) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert "event: gap" in [next(lines) for _ in range(6)]


def test_a_stream_ends_at_once_when_the_server_stops(tmp_path: Any) -> None:
    with running(str(tmp_path / "leyden.db")) as server, Client(server.url) as client:
        stream = client.events()
        assert next(stream) is None
        server.terminate()
        assert list(stream) in ([], [None])
        assert server.stop() == 0


def test_events_reach_the_watchers_of_every_replica(postgres_database: str) -> None:
    with running(postgres_database) as first, running(postgres_database) as second:  # noqa: SIM117
        with Client(first.url) as writes, Client(second.url) as watches:
            stream = watches.events(topics=["rollouts"])
            assert next(stream) is None
            # The stream stands before the listener of a server that has just started may do: a gap says so.
            rollout_id = life_of_a_rollout(writes)
            found = heard(
                stream, lambda found: any(e.status == "succeeded" or e.topic == "gap" for e in found)
            )
            if any(event.topic == "gap" for event in found):
                rollout_id = life_of_a_rollout(writes)
                found = heard(stream, lambda found: ("rollouts", rollout_id, "succeeded", "default") in found)
            assert [(e.topic, e.status) for e in found if e.id == rollout_id][-4:] == LIFE
            stream.close()


def test_a_wait_is_woken_by_another_replica_without_polling(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "POLL_S", 3600.0)
    monkeypatch.setattr(context, "TOLD_POLL_S", 3600.0)
    with served(postgres_database) as (first, _), served(postgres_database) as (second, at):
        until(lambda: at.bell.is_told)
        with Client(first) as here, Client(second) as there:
            answers: list[Any] = []
            body = {"wait_seconds": 3600, "worker_id": "w1"}
            claim = threading.Thread(
                target=lambda: answers.append(
                    there.request("POST", "/v1/agl/queues/rollouts/dequeue", body=body, timeout_s=60)
                )
            )
            claim.start()
            until(lambda: "queue:default" in at.bell._waiting)
            rollout_id = here.enqueue(1).rollout_id
            claim.join(60)
            assert [item["rollout_id"] for (item,) in answers] == [rollout_id]
            waiting = threading.Thread(target=lambda: answers.append(there.wait([rollout_id], timeout_s=15)))
            waiting.start()
            until(lambda: f"rollout:{rollout_id}" in at.bell._waiting)
            here.update_rollout(rollout_id, status="succeeded")
            waiting.join(60)
            assert [rollout.status for rollout in answers[1]] == ["succeeded"]


def test_a_watcher_that_does_not_read_is_let_go_with_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_WAITING", 3)

    async def watch() -> list[list[StoreEvent]]:
        watchers = Watchers()
        slow = watchers.add("default", frozenset({"rollouts"}))
        for number in range(10):
            watchers.tell([StoreEvent("rollouts", f"ro-{number}", "running", "default")])
        found = [await slow.next(1)]
        assert slow.is_over
        watchers.tell([StoreEvent("rollouts", "ro-x", "running", "default")])
        return [*found, await slow.next(1)]

    first, second = asyncio.run(watch())
    assert [event.topic for event in first] == ["gap"]
    assert second == []


def test_what_another_project_does_is_nobodys_business_and_repeats_are_told_once() -> None:
    async def watch() -> list[StoreEvent]:
        watchers = Watchers()
        mine = watchers.add("mine", frozenset({"spans"}))
        for _ in range(5):
            watchers.tell(
                [StoreEvent("spans", "ro-1", None, "mine"), StoreEvent("spans", "ro-2", None, "other")]
            )
        watchers.tell([EVERYTHING])
        watchers.tell([StoreEvent("spans", "ro-1", None, "mine")])
        return await mine.next(1)

    assert [event.topic for event in asyncio.run(watch())] == ["gap", "spans"]
