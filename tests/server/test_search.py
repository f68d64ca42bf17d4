"""Full-text search over HTTP, through the client."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cli.runs import run, span
from leyden.errors import BadInput, LeydenError
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.server.indexing import Indexing
from leyden.settings import Settings
from store.conftest import pack_all


def chat(rollout_id: str, number: int, said: str, **over: Any) -> dict[str, Any]:
    message = [{"role": "user", "parts": [{"type": "text", "content": said}]}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": "desk",
        "gen_ai.input.messages": json.dumps(message),
    }
    return span(rollout_id, f"{number:016x}", name="chat", attributes=attributes | over)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of a server that has indexed two finished runs."""
    app = create_app(settings)
    with Client(app=app) as client:
        client.import_runs(
            [
                run("ro-1", chat("ro-1", 1, "the connection was refused"), reward=1.0),
                run(
                    "ro-2",
                    chat("ro-2", 2, "connection <b>refused</b>", **{"gen_ai.agent.name": "other"}),
                    reward=0.0,
                ),
            ]
        )
        pack_all(app.context.store)
        Indexing(app.context, threading.Event())()
        yield client


def test_a_search_finds_spans_with_their_rollouts_and_snippets(client: Client) -> None:
    page = client.search("connection refused")
    assert [hit.span.rollout_id for hit in page.items] == ["ro-2", "ro-1"]
    assert (page.cursor, page.complete, page.waiting) == (None, True, 0)
    hit = page.items[0]
    assert (hit.rollout.status, hit.rollout.reward, hit.span.agent) == ("succeeded", 0.0, "other")
    assert [(piece.text, piece.match) for piece in hit.snippets[0]] == [
        ("connection", True), (" <b>", False), ("refused", True), ("</b>", False),
    ]  # fmt: skip


def test_filters_and_pages_combine(client: Client) -> None:
    assert [hit.span.rollout_id for hit in client.search("refused", agent="desk").items] == ["ro-1"]
    assert [hit.span.rollout_id for hit in client.search("refused", max_reward=0.5).items] == ["ro-2"]
    assert client.search("refused", since=1_900_000_000.0).items == []
    assert [
        hit.span.rollout_id for hit in client.search("refused", filter="agent:other status:ok").items
    ] == ["ro-2"]
    with pytest.raises(BadInput):
        client.search("refused", filter="agnet:other")
    first = client.search("refused", limit=1)
    rest = client.search("refused", limit=1, cursor=first.cursor)
    assert [page.items[0].span.rollout_id for page in (first, rest)] == ["ro-2", "ro-1"]


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "-refused"},
        {"query": ""},
        {"query": "x", "cursor": "nonsense"},
        {"query": "word", "agent": "\0", "limit": 999},
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(client: Client, asked: dict[str, Any]) -> None:
    with pytest.raises(LeydenError) as refused:
        client.search(**asked)
    assert isinstance(refused.value, BadInput) or refused.value.status == 422


def test_a_filter_nobody_knows_is_refused(client: Client) -> None:
    with pytest.raises(LeydenError, match="agnet"):
        client.request("GET", "/api/search", params={"q": "refused", "agnet": "desk"})


def test_text_with_nul_finds_nothing_and_harms_nothing(client: Client) -> None:
    assert client.search("ref\0used nothing", agent="\0").items == []


def test_a_deleted_rollout_is_not_found(client: Client) -> None:
    client.delete_rollout("ro-1")
    assert [hit.span.rollout_id for hit in client.search("refused").items] == ["ro-2"]
