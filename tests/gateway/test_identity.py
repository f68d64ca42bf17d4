"""Whose call it is, by everything that may say so, and that nothing odd becomes an id."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams import odd_json
from leyden.errors import BadInput
from leyden.gateway.call import Identity
from leyden.gateway.doors import Address, find
from leyden.gateway.identity import Identities, attempt_of, trace_of

BARE = Address("chat", "openai", "/chat/completions")
UNDER = BARE._replace(rollout_id="ro-1", attempt_id="at-1")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {b"traceparent": f"00-{TRACE}-{PARENT}-01"}
CLAUDE = "user_abc_account_def_session_5f6c1f9e-0000-4000-8000-000000000001"


def of(
    address: Address = BARE,
    headers: dict[bytes, str] | None = None,
    asked: dict[str, Any] | None = None,
    *,
    project: str = "p",
    **more: Any,
) -> Identity:
    sent = {name: value.encode("latin-1") for name, value in (headers or {}).items()}
    return Identities(quiet_s=900).of(address, sent, asked or {}, project=project, **more)


@pytest.mark.parametrize(
    ("found", "rollout_id", "source"),
    [
        (of(UNDER, {b"x-leyden-rollout": "ro-2"}, key_rollout=("ro-3", None)), "ro-1", "path"),
        (of(BARE, {b"x-leyden-rollout": "ro-2"}, key_rollout=("ro-3", None)), "ro-3", "key"),
        (of(BARE, {b"x-leyden-rollout": "ro-2", b"x-leyden-session": "s"}), "ro-2", "header"),
        (of(BARE, {b"x-rollout-id": "ro-2"}), "ro-2", "header"),
        (of(BARE, {}, {"metadata": {"leyden_rollout": "ro-2", "leyden_attempt": "at-9"}}), "ro-2", "header"),
        (of(BARE, {b"x-leyden-session": "s"} | TRACEPARENT), of(asked={"user": "s"}).rollout_id, "session"),
        (of(BARE, TRACEPARENT), f"ro-{TRACE}", "traceparent"),
    ],
)
def test_what_names_a_rollout_counts_in_this_order(found: Identity, rollout_id: str, source: str) -> None:
    assert (found.rollout_id, found.source) == (rollout_id, source)


@pytest.mark.parametrize(
    ("headers", "asked", "session"),
    [
        ({b"x-claude-code-session-id": "c"}, {"metadata": {"user_id": CLAUDE}}, "c"),
        ({}, {"metadata": {"user_id": CLAUDE}}, "5f6c1f9e-0000-4000-8000-000000000001"),
        ({}, {"metadata": {"user_id": "u-7"}}, "u-7"),
        ({}, {"metadata": {"session_id": "s", "user_id": "u"}}, "s"),
        ({}, {"user": "somebody"}, "somebody"),
        ({b"x-session-id": "x"}, {"user": "somebody"}, "x"),
    ],
)
def test_all_calls_of_a_session_belong_to_one_rollout(
    headers: dict[bytes, str], asked: dict[str, Any], session: str
) -> None:
    found = of(BARE, headers, asked)
    assert (found.session, found.source) == (session, "session")
    assert (found.rollout_id, found.attempt_id) == (of(BARE, headers, asked)[1:3])
    assert found.rollout_id != of(BARE, {b"x-session-id": "another"}).rollout_id
    assert found.rollout_id != of(BARE, headers, asked, project="other").rollout_id


def test_a_call_hangs_under_the_span_that_made_it() -> None:
    found = of(UNDER, TRACEPARENT)
    assert (found.trace_id, found.parent_id) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "header",
    ["", "garbage", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}"],
)
def test_a_traceparent_that_is_none_names_no_trace(header: str) -> None:
    found = of(BARE, {b"traceparent": header})
    assert (found.trace_id, found.parent_id, found.source) == (None, None, "none")


def test_calls_that_name_nothing_share_a_rollout_until_their_key_was_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    identities = Identities(quiet_s=900)

    def call(key_id: str | None) -> str | None:
        return identities.of(BARE, {}, {}, project="p", key_id=key_id).rollout_id

    first = call("k1")
    assert call("k1") == first
    assert call("k2") != first
    now += 899
    assert call("k1") == first
    now += 901
    assert call("k1") != first


@pytest.mark.parametrize("mode", ["train", "val", "test"])
def test_the_mode_comes_from_the_path_or_a_header(mode: str) -> None:
    address = find("POST", f"/rollout/r/attempt/a/mode/{mode}/v1/chat/completions")
    assert address is not None
    assert of(address).mode == mode
    assert of(UNDER, {b"x-leyden-mode": mode}).mode == mode


def test_ids_of_ours_do_not_collide_where_their_parts_differ() -> None:
    assert trace_of("ab", "c") != trace_of("a", "bc")
    assert attempt_of("ro-1") != attempt_of("ro-2")


@given(
    odd_json(["metadata", "user", "user_id", "session_id", "leyden_rollout"]),
    st.dictionaries(
        st.sampled_from([b"x-leyden-rollout", b"x-leyden-attempt", b"x-session-id", b"traceparent"]),
        st.text(st.characters(max_codepoint=255), max_size=300),
    ),
)
def test_whatever_a_client_sends_gives_sound_ids(asked: Any, headers: dict[bytes, str]) -> None:
    try:
        found = of(BARE, headers, asked if isinstance(asked, dict) else {})
    except BadInput:  # an id that nothing can be recorded under
        return
    for value in (found.rollout_id, found.session):
        assert value is None or (1 <= len(value) <= 300 and "\x00" not in value)
