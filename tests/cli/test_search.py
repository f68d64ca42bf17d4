"""`leyden search` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.runs import failed_tool, run, span
from cli.test_terminal import on_terminal, widest
from leyden.settings import Settings
from leyden.store import indexing
from leyden.store.opening import open_store
from store.conftest import pack_all

Leyden = Callable[..., Any]
EVIL = "needle \x1b]0;owned\x07\x1b[31m[bold]red[/bold]\u202egnp.exe haystack"


@pytest.fixture(autouse=True)
def searchable(stored: Callable[..., None], db: Path) -> None:
    """Two finished runs, indexed."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.agent.name": "desk"}
    said = [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "Is my refund approved? The flight was cancelled."}],
        }
    ]
    stored(
        run(
            "ro-good1",
            span(
                "ro-good1", "a1", name="chat", attributes=chat | {"gen_ai.input.messages": json.dumps(said)}
            ),
            reward=1.0,
        ),
        run(
            "ro-bad22",
            failed_tool("ro-bad22", "b1"),
            span("ro-bad22", "b2", attributes={"page": EVIL}),
            status="failed",
        ),
    )
    store = open_store(Settings(db=str(db)))
    pack_all(store)
    with store.database.read() as tx:
        todo = indexing.pending(tx, limit=10)
    assert indexing.index_rollouts(store, todo)
    store.close()


def test_a_hit_says_what_was_said_where_and_how_to_see_it(leyden: Leyden) -> None:
    said = leyden("search", "refund", "approved")
    assert said.code == 0
    assert "llm chat" not in said.err
    head, snippet, show = said.out.splitlines()
    assert head.startswith("llm chat of desk gpt-4o  2027-01-15")
    assert head.endswith("reward 1")
    assert snippet == "    Is my refund approved? The flight was cancelled."
    assert show == "    leyden show ro-good1 --span a1"
    assert leyden(*show.split()[1:]).code == 0


def test_words_in_the_shells_quotes_are_a_phrase(leyden: Leyden) -> None:
    assert "ro-good1" in leyden("search", "refund approved").out
    assert leyden("search", "approved refund").out == "Nothing found.\n"
    assert "ro-good1" in leyden("search", "approved", "refund").out
    assert "ro-good1" in leyden("search", '"was cancelled" refund').out
    assert leyden("search", "refund -flight").out == "Nothing found.\n"
    assert leyden("search", "--", "refund", "-flight").out == "Nothing found.\n"


def test_filters_and_json(leyden: Leyden) -> None:
    page = leyden("search", "answer", "--tool", "search_flights", "--status", "error", "--json").json
    assert [hit["span"]["span_id"] for hit in page["items"]] == ["b1"]
    assert page["complete"] is True
    assert leyden("search", "answer", "--agent", "nobody", "--json").json["items"] == []
    assert leyden("search", "answer", "--since", "2030-01-01").out == "Nothing found.\n"


def test_what_cannot_be_searched_is_one_error_with_what_to_do(leyden: Leyden) -> None:
    said = leyden("search", "--", "-refund")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[0].startswith("Error: ")
    assert len(said.err.splitlines()) == 2


def test_recorded_text_cannot_steer_a_terminal(leyden: Leyden) -> None:
    out = leyden("search", "needle").out
    assert "needle ␛]0;owned" in out
    assert "[bold]red[/bold]" in out
    assert not any(char in out for char in "\x1b\x07\u202e")


@pytest.mark.usefixtures("db")
def test_a_terminal_shows_matches_in_colour_within_its_width() -> None:
    code, out = on_terminal("search", "refund OR needle")
    assert code == 0
    assert "\x1b[1;33mrefund\x1b[0m" in out
    assert widest(out) <= 80
