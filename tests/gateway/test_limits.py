"""A key gets what it may have and no more, whatever calls come and however they end."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.errors import BudgetSpent, Forbidden, LeydenError, ModelNotAllowed, RateLimited, Unauthorized
from leyden.gateway.call import Call, Identity
from leyden.gateway.limits import OUTPUT_TOKENS, Account, Lease, Limits, guess
from leyden.ingest.usage import Usage
from leyden.store.keys import KeyRow
from leyden.types import KeyLimits

NOW = 1_800_000_000.0
TODAY = int(NOW // 86_400)
NO_BODY = {"max_tokens": 0}


def make_call(
    model: str = "gpt-4o", *, rollout: str | None = None, attempt: str | None = None, **asked: Any
) -> Call:
    identity = Identity("default", rollout, attempt, None, None, None, "path")
    body = json.dumps({"model": model, **asked}).encode()
    return Call(
        "chat",
        "openai",
        identity,
        "POST",
        "/chat/completions",
        b"",
        [],
        body,
        {"model": model, **asked},
        model,
        False,
        0,
    )


def make_key(**limits: Any) -> KeyRow:
    return KeyRow("key-1", "default", "me", ("gateway",), NOW, None, KeyLimits(**limits))


def make_limits(spent: dict[Account, float] | None = None, *, usd: float | None = 0.0) -> Limits:
    return Limits(read=lambda account: (spent or {}).get(account, 0.0), price=lambda _call, _usage: usd)


def is_let_through(limits: Limits, call: Call, key: KeyRow, now: float) -> Lease | None:
    try:
        return limits.check(call, key, now)
    except RateLimited:
        return None


# ── Rates ────────────────────────────────────────────────────────────────────────────────────────────────────────

WAITS = st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=120)


@given(st.integers(1, 30), WAITS)
def test_no_stretch_of_time_holds_more_calls_than_a_full_bucket_and_what_ran_into_it(
    most: int, waits: list[float]
) -> None:
    limits, key, now = make_limits(), make_key(requests_per_minute=most), NOW
    passed: list[float] = []
    for wait in waits:
        now += wait
        if (lease := is_let_through(limits, make_call(), key, now)) is not None:
            passed.append(now)
            lease.settle(Usage(), 0.0)
    for first, began in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= most + (passed[last] - began) * most / 60 + 1e-6


@given(
    st.integers(100, 20_000),
    st.lists(
        st.tuples(st.floats(0, 60), st.integers(1, 3000), st.integers(0, 5000)), min_size=1, max_size=60
    ),
)
def test_tokens_that_were_used_stay_within_the_bucket_and_one_call_beyond_it(
    most: int, calls: list[tuple[float, int, int]]
) -> None:
    limits, key, now = make_limits(), make_key(tokens_per_minute=most), NOW
    used = beyond = 0
    for wait, asked, answered in calls:
        now += wait
        call = make_call(max_tokens=asked)
        if (lease := is_let_through(limits, call, key, now)) is not None:
            lease.settle(Usage(output=answered), 0.0)
            used += answered
            beyond = max(beyond, guess(call).total, answered)
    assert used <= most + (now - NOW) * most / 60 + beyond + 1e-6


def test_a_refused_call_learns_when_to_come_back_and_then_passes() -> None:
    limits, key = make_limits(), make_key(requests_per_minute=2)
    for _ in range(2):
        limits.check(make_call(), key, NOW)
    with pytest.raises(RateLimited) as caught:
        limits.check(make_call(), key, NOW + 5)
    assert caught.value.retry_after_s == pytest.approx(25)
    assert "2 calls per minute" in caught.value.message
    assert limits.check(make_call(), key, NOW + 5 + caught.value.retry_after_s + 1e-6)


def test_a_call_larger_than_a_whole_minute_passes_once_and_is_paid_off() -> None:
    limits, key = make_limits(), make_key(tokens_per_minute=100)
    call = make_call(max_tokens=500)
    limits.check(call, key, NOW).settle(Usage(output=500), 0.0)
    assert is_let_through(limits, call, key, NOW + 239) is None
    assert is_let_through(limits, call, key, NOW + 301) is not None


def test_tokens_that_were_not_used_come_back() -> None:
    limits, key = make_limits(), make_key(tokens_per_minute=1000)
    for _ in range(50):
        limits.check(make_call(max_tokens=900), key, NOW).settle(Usage(output=1), 0.0)
    limits.check(make_call(max_tokens=900), key, NOW).cancel()
    assert is_let_through(limits, make_call(max_tokens=900), key, NOW)


def test_what_nobody_counted_stays_as_guessed() -> None:
    limits, key = make_limits(), make_key(tokens_per_minute=1000)
    with limits.check(make_call(max_tokens=900), key, NOW):
        pass
    assert is_let_through(limits, make_call(max_tokens=900), key, NOW) is None


@pytest.mark.parametrize(
    ("asked", "output"),
    [({"max_tokens": 7}, 7), ({"max_completion_tokens": 9}, 9), ({"max_output_tokens": 3, "max_tokens": 8}, 3), ({}, OUTPUT_TOKENS), ({"max_tokens": -1}, OUTPUT_TOKENS), ({"max_tokens": True}, OUTPUT_TOKENS), ({"max_tokens": "9"}, OUTPUT_TOKENS), ({"max_tokens": 10**30}, OUTPUT_TOKENS)],
)  # fmt: skip
def test_a_guess_is_what_the_request_bounds(asked: dict[str, Any], output: int) -> None:
    call = make_call(**asked)
    assert guess(call) == Usage(input=len(call.body) // 4, output=output)


@given(st.integers(1, 5), st.lists(st.integers(-6, 6), max_size=80))
def test_never_more_calls_at_once_than_allowed_and_every_one_makes_room_again(
    most: int, steps: list[int]
) -> None:
    limits, key = make_limits(), make_key(concurrency=most)
    under_way: list[Lease] = []
    for step in steps:
        if step >= 0:
            lease = is_let_through(limits, make_call(), key, NOW)
            assert (lease is not None) == (len(under_way) < most)
            under_way += [lease] if lease is not None else []
        elif under_way:
            over = under_way.pop(step % len(under_way))
            over.settle(None, None)
            over.settle(Usage(input=9), 9.0)  # once is enough, twice changes nothing
    for lease in under_way:
        lease.cancel()
    assert all(is_let_through(limits, make_call(), key, NOW) for _ in range(most))


# ── Money ────────────────────────────────────────────────────────────────────────────────────────────────────────

# In 64ths of a dollar, which add up exactly.
USD = st.integers(0, 200).map(lambda parts: parts / 64)


@given(
    USD.filter(bool),
    st.lists(st.tuples(st.booleans(), USD, st.none() | USD), max_size=60),
    st.sampled_from(["usd_per_day", "usd_per_rollout"]),
)
def test_calls_at_once_overshoot_a_budget_by_what_each_cost_beyond_its_guess(
    budget: float, steps: list[tuple[bool, float, float | None]], kind: str
) -> None:
    guesses = [0.0]
    limits = Limits(read=lambda _: 0.0, price=lambda _call, _usage: guesses[-1])
    key, call = make_key(**{kind: budget}), make_call(rollout="ro-1")
    under_way: list[tuple[Lease, float]] = []
    spent = beyond = 0.0
    largest = 0.0
    for is_new, guessed, cost in steps:
        if is_new:
            guesses.append(guessed)
            reserved = sum(usd for _, usd in under_way)
            lease, is_gone = None, False
            try:
                lease = limits.check(call, key, NOW)
            except RateLimited:
                pass
            except BudgetSpent:
                is_gone = True
            assert is_gone == (spent >= budget)
            assert (lease is None) == (spent + reserved >= budget)
            if lease is None:
                continue
            largest = max(largest, guessed)
            under_way.append((lease, guessed))
        elif under_way:
            lease, usd = under_way.pop(0)
            lease.settle(Usage(), cost)
            spent += cost or 0.0
            beyond += max(0.0, (cost or 0.0) - usd)
    assert spent < budget + largest + beyond
    for lease, _ in under_way:
        lease.settle(None, None)
    guesses.append(0.0)
    if spent < budget:  # all that was reserved came back
        limits.check(call, key, NOW)


def test_a_day_has_its_own_budget_and_a_rollout_its_own() -> None:
    limits = make_limits(usd=0.1)
    key = make_key(usd_per_day=1.0)
    limits.check(make_call(), key, NOW).settle(Usage(), 1.5)
    with pytest.raises(BudgetSpent, match="today are spent"):
        limits.check(make_call(), key, NOW)
    assert limits.check(make_call(), key, NOW + 86_400)
    key = make_key(usd_per_rollout=1.0)
    limits.check(make_call(rollout="ro-1"), key, NOW).settle(Usage(), 1.5)
    with pytest.raises(BudgetSpent, match="rollout ro-1"):
        limits.check(make_call(rollout="ro-1"), key, NOW)
    assert limits.check(make_call(rollout="ro-2"), key, NOW)


def test_what_is_left_and_reserved_is_a_reason_to_wait_and_not_to_stop() -> None:
    limits, key = make_limits(usd=1.0), make_key(usd_per_day=1.0)
    first = limits.check(make_call(), key, NOW)
    with pytest.raises(RateLimited, match="reserved"):
        limits.check(make_call(), key, NOW)
    first.settle(Usage(), 0.01)
    assert limits.check(make_call(), key, NOW)


def test_what_other_replicas_spent_is_seen_once_the_store_is_read_again() -> None:
    stored: dict[Account, float] = {}
    limits, key = make_limits(stored), make_key(usd_per_day=1.0)
    account = Account("default", "key-1", TODAY)
    limits.check(make_call(), key, NOW).settle(Usage(), 0.2)
    assert limits.stale(make_call(), key, NOW + 4) == []
    stored[account] = 3.0
    assert limits.check(make_call(), key, NOW + 4)
    assert limits.stale(make_call(), key, NOW + 6) == [account]
    with pytest.raises(BudgetSpent):
        limits.check(make_call(), key, NOW + 6)


def test_a_store_that_lags_behind_does_not_give_money_back() -> None:
    limits, key = make_limits(), make_key(usd_per_day=1.0)
    limits.check(make_call(), key, NOW).settle(Usage(), 2.0)
    with pytest.raises(BudgetSpent):
        limits.check(make_call(), key, NOW + 60)


def test_what_was_learned_is_not_asked_for_again() -> None:
    def refuse(account: Account) -> float:
        raise AssertionError(account)

    limits = Limits(read=refuse, price=lambda _call, _usage: None)
    key, call = make_key(usd_per_day=1.0, usd_per_rollout=1.0), make_call(rollout="ro-1")
    for account in limits.stale(call, key, NOW):
        limits.learn(account, 0.5, NOW)
    limits.check(call, key, NOW).settle(Usage(), None)


# ── Rights ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "is_allowed"),
    [
        ("gpt-4o", True),
        ("GPT-4o-mini", True),
        ("gpt-4", False),
        ("", False),
        ("claude-x", True),
        ("claude", False),
    ],
)
def test_only_models_on_the_list_may_be_called(model: str, is_allowed: bool) -> None:
    key = make_key(models=["gpt-4o*", "Claude-?"])
    if is_allowed:
        make_limits().check(make_call(model), key, NOW)
        return
    with pytest.raises(ModelNotAllowed) as caught:
        make_limits().check(make_call(model), key, NOW)
    assert caught.value.hint == "it may call: gpt-4o*, Claude-?"


@pytest.mark.parametrize(
    ("limits", "call", "error"),
    [
        ({"expire_time": NOW}, make_call(), Unauthorized),
        ({"rollout_id": "ro-1"}, make_call(rollout="ro-2", attempt="at-1"), Forbidden),
        ({"rollout_id": "ro-1", "attempt_id": "at-1"}, make_call(rollout="ro-1", attempt="at-2"), Forbidden),
    ],
)
def test_a_key_is_good_for_its_time_and_its_rollout_alone(
    limits: dict[str, Any], call: Call, error: type[LeydenError]
) -> None:
    with pytest.raises(error):
        make_limits().check(call, make_key(**limits), NOW)
    make_limits().check(make_call(rollout="ro-1", attempt="at-1"), make_key(**limits), NOW - 1)


def test_a_refused_call_uses_nothing() -> None:
    limits, key = make_limits(usd=0.6), make_key(requests_per_minute=1, usd_per_day=1.0)
    limits.check(make_call(), key, NOW).cancel()
    for _ in range(5):
        assert is_let_through(limits, make_call(), key, NOW) is None
    assert limits.check(make_call(), key, NOW + 60)
    with pytest.raises(RateLimited, match="calls per minute"):
        limits.check(make_call(), key, NOW + 60)


def test_without_a_key_or_without_limits_everything_passes() -> None:
    limits = make_limits()
    for _ in range(1000):
        limits.check(make_call(), None, NOW)
        limits.check(make_call(), make_key(), NOW)


def test_keys_and_rollouts_by_the_ten_thousand_are_forgotten_when_they_stand_still() -> None:
    limits = make_limits()
    for n in range(30_000):
        key = KeyRow(
            f"key-{n}", "default", "me", (), NOW, None, KeyLimits(requests_per_minute=1, usd_per_rollout=1)
        )
        limits.check(make_call(rollout=f"ro-{n}"), key, NOW + n).settle(Usage(), 0.1)
    assert len(limits._uses) + len(limits._purses) < 11_000
    with pytest.raises(RateLimited):
        limits.check(make_call(rollout="ro-29999"), key, NOW + 29_999)


def test_a_check_takes_microseconds() -> None:
    import time

    limits = make_limits()
    key = make_key(
        models=["a*", "gpt-*"],
        requests_per_minute=10**6,
        tokens_per_minute=10**9,
        concurrency=9,
        usd_per_day=1e6,
    )
    call, best = make_call(max_tokens=10), math.inf
    for _ in range(30):
        began = time.process_time()
        for _ in range(100):
            limits.check(call, key, NOW).settle(Usage(input=1), 0.0)
        best = min(best, time.process_time() - began)
    assert best / 100 < 50e-6
