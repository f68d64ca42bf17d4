"""Notices between replicas: nothing is lost on the way, and a payload always fits."""

import threading
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.processes import until
from leyden.settings import Settings
from leyden.store import keys
from leyden.store.listening import Listener
from leyden.store.notices import EVERYTHING, MOST_PAYLOADS, Notice, parse, payloads
from leyden.store.opening import open_store
from leyden.types import StoreEvent

WORDS = st.text(st.characters(codec="utf-8"), max_size=300)
NOTICES = st.lists(
    WORDS | st.builds(StoreEvent, st.just("rollouts"), WORDS, WORDS | st.none(), WORDS),
    max_size=60,
    unique=True,
)


@given(NOTICES)
def test_what_is_sent_is_what_is_heard_or_everything(sent: list[Notice]) -> None:
    texts = payloads(sent, sender="me")
    assert len(texts) <= MOST_PAYLOADS
    assert all(len(text.encode()) < 8000 for text in texts)
    heard = [notice for text in texts for notice in parse(text)]
    assert heard in (sent, [EVERYTHING])
    assert not any(parse(text, but_from="me") for text in texts)


@pytest.mark.parametrize("text", ["", "{}", "7", '["other", ["rollouts"]]', "not json"])
def test_a_payload_of_another_version_wakes_everybody(text: str) -> None:
    assert parse(text) == [EVERYTHING]


class Ear:
    """A listener of a store, and what it heard."""

    def __init__(self, url: str) -> None:
        self.store = open_store(Settings(db=url))
        self.heard: list[Notice] = []
        self.linked = threading.Event()
        self.listener = Listener(
            self.store.database,
            tell=self.heard.extend,
            linked=lambda on: (self.linked.set if on else self.linked.clear)(),
        )

    def close(self) -> None:
        self.listener.close()
        self.store.close()


@pytest.fixture
def ears(postgres_database: str) -> "Callable[[], Ear]":
    return lambda: Ear(postgres_database)


def test_a_commit_is_heard_by_the_others_and_an_undone_change_is_not(ears: Callable[[], Ear]) -> None:
    first, second = ears(), ears()
    until(first.linked.is_set)
    until(second.linked.is_set)
    for ear in (first, second):
        ear.heard.clear()
    odd = StoreEvent("findings", "it's a \\ 'quoted' %s \"id\"\n", None, "default")

    def failing(tx: object) -> None:
        tx.notices.add("never")  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError

    with pytest.raises(Exception, match="failed"):
        first.store.writer.run(failing)
    first.store.writer.run(lambda tx: tx.notices.add(odd))
    for _ in range(12):  # often enough that the driver would prepare the statement
        first.store.writer.run(lambda tx: tx.notices.add(keys.CHANGED))
    until(lambda: second.heard.count(keys.CHANGED) == 12)
    assert set(second.heard) == {odd, keys.CHANGED}
    assert first.heard == []
    first.close()
    second.close()


def test_a_listener_that_was_cut_listens_again_and_says_that_something_may_be_missing(
    ears: Callable[[], Ear], postgres_database: str
) -> None:
    ear = ears()
    until(ear.linked.is_set)
    until(lambda: ear.heard == [EVERYTHING])
    with psycopg.connect(postgres_database, autocommit=True) as admin:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leyden listener' AND datname = current_database()"
        assert admin.execute(cut).rowcount == 1
        until(lambda: ear.heard == [EVERYTHING] * 3)
        assert ear.linked.is_set()
    ear.store.writer.run(lambda tx: None)
    ear.close()
