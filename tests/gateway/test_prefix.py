"""How much of a request repeats one before it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams import JSON
from leyden.gateway.decoding import read_json
from leyden.gateway.prefix import MOST_PIECES, REMEMBERED, Prefixes

TURNS = [{"role": "user", "content": f"{n}" * 100} for n in range(10)]


def body(turns: int, **more: Any) -> dict[str, Any]:
    return {"messages": TURNS[:turns], "system": "s" * 100, **more}


def test_the_first_request_of_a_rollout_repeats_nothing_that_is_known() -> None:
    prefixes = Prefixes()
    assert prefixes.share("a", body(1)) is None
    assert prefixes.share("b", body(1)) is None


def test_the_same_request_again_repeats_all_of_it() -> None:
    prefixes = Prefixes()
    prefixes.share("a", body(3))
    assert prefixes.share("a", body(3)) == 1.0


def test_a_conversation_that_grows_repeats_what_came_before() -> None:
    prefixes = Prefixes()
    prefixes.share("a", body(3))
    share = prefixes.share("a", body(4))
    assert share is not None
    assert 0.7 < share < 0.9


@pytest.mark.parametrize("change", [{"system": "other"}, {"tools": [{"name": "t"}]}])
def test_what_changes_at_the_beginning_costs_everything_after_it(change: dict[str, Any]) -> None:
    prefixes = Prefixes()
    prefixes.share("a", body(5))
    assert prefixes.share("a", body(5, **change)) == 0.0


def test_a_branch_is_compared_with_the_trunk_that_it_left() -> None:
    prefixes = Prefixes()
    prefixes.share("a", body(5))
    for n in range(REMEMBERED - 1):
        prefixes.share("a", {"messages": [{"content": f"sub-agent {n}"}]})
    share = prefixes.share("a", body(6))
    assert share is not None
    assert share > 0.8


def test_rollouts_that_were_not_heard_of_for_long_are_forgotten() -> None:
    prefixes = Prefixes(rollouts=2)
    for name in ("a", "b", "c"):
        prefixes.share(name, body(1))
    assert prefixes.share("a", body(1)) is None
    assert prefixes.share("c", body(1)) == 1.0


READ = JSON.map(lambda value: read_json(json.dumps(value).encode()))
BODIES = st.lists(
    st.dictionaries(st.sampled_from(["messages", "input", "prompt", "tools", "system"]), READ), max_size=6
)


@given(BODIES)
def test_whatever_is_asked_gives_a_share(bodies: list[dict[str, Any]]) -> None:
    prefixes = Prefixes()
    for each in bodies:
        share = prefixes.share("a", each)
        assert share is None or 0.0 <= share <= 1.0


def test_a_request_of_too_many_messages_is_not_measured_and_token_ids_are() -> None:
    prefixes = Prefixes()
    for _ in range(2):
        assert prefixes.share("a", {"messages": [{}] * (MOST_PIECES + 1)}) is None
    ids = list(range(2 * MOST_PIECES))
    prefixes.share("b", {"prompt": ids})
    assert prefixes.share("b", {"prompt": ids}) == 1.0


def test_what_is_remembered_of_all_rollouts_together_is_bounded() -> None:
    prefixes = Prefixes(most_held=20)
    for name in ("a", "b", "c"):
        prefixes.share(name, body(9))
    assert prefixes.share("c", body(9)) == 1.0
    assert prefixes.share("a", body(9)) is None
