"""Where calls go: aliases, priorities, weights, homes of rollouts, ejection, retries. Everything with a clock and dice that are set."""

import random
from collections import Counter
from typing import Any

import pytest

from leyden.errors import NotFound
from leyden.gateway import retry
from leyden.gateway.call import Door, Family
from leyden.gateway.config import GatewayConfig, HealthRules, Retry
from leyden.gateway.health import Health
from leyden.gateway.retry import Failure
from leyden.gateway.routing import Router, Target

RULES = HealthRules()


def config(models: dict[str, Any], *kinds: str, **gateway: Any) -> GatewayConfig:
    names = kinds or ("vllm:a", "vllm:b", "vllm:c")
    upstreams = {name: {"kind": kind} for kind, name in (each.split(":") for each in names)}
    return GatewayConfig.from_dict({"upstreams": upstreams, "models": models, "gateway": gateway}, {})


def plan(
    given: GatewayConfig | Router,
    model: str = "m",
    door: Door = "chat",
    *,
    family: Family = "openai",
    rollout: str | None = None,
    health: Health | None = None,
    rng: random.Random | None = None,
    now: float = 0.0,
) -> list[Target]:
    router = given if isinstance(given, Router) else Router(given)
    return router.plan(
        model,
        door,
        family=family,
        rollout_id=rollout,
        health=health or Health(RULES),
        rng=rng or random.Random(7),
        now=now,
    )


def names(targets: list[Target]) -> list[str]:
    return [target.upstream for target in targets]


def test_an_exact_alias_beats_a_pattern_and_a_longer_pattern_a_shorter_one() -> None:
    router = Router(config({"*": "a", "gpt-*": "b", "gpt-4o-*": "c", "gpt-4o-mini": "a/small"}))
    assert [
        (plan(router, model)[0].upstream, plan(router, model)[0].model)
        for model in ("gpt-4o-mini", "gpt-4o-2024", "gpt-5", "o4")
    ] == [("a", "small"), ("c", "gpt-4o-2024"), ("b", "gpt-5"), ("a", "o4")]


def test_a_star_in_a_targets_model_is_what_the_aliass_star_matched() -> None:
    router = Router(config({"local/*": "a/*", "ft-*-v2": "b/org/*"}))
    assert plan(router, "local/Qwen/Qwen3-8B")[0].model == "Qwen/Qwen3-8B"
    assert plan(router, "ft-tone-v2")[0].model == "org/tone"


def test_an_unknown_model_is_told_what_there_is_and_what_is_close() -> None:
    with pytest.raises(NotFound) as caught:
        plan(config({"gpt-4o": "a", "judge": "b"}), "gpt-4")
    assert caught.value.message == "The model 'gpt-4' does not exist here"
    assert caught.value.hint == "did you mean 'gpt-4o'? configured are: gpt-4o, judge"


def test_a_very_long_name_is_not_echoed_whole() -> None:
    with pytest.raises(NotFound) as caught:
        plan(config({"m": "a"}), "x" * 100_000)
    assert len(caught.value.message) < 200


def test_made_up_names_do_not_fill_the_memory() -> None:
    router = Router(config({"*": "a"}))
    for i in range(10_000):
        plan(router, f"made-up-{i}")
    assert len(router._targets) <= 4096


def test_a_lower_priority_goes_first_whatever_the_weights() -> None:
    targets = [{"upstream": "a", "priority": 1, "weight": 100}, {"upstream": "b", "weight": 0.1}, {"upstream": "c", "priority": 2}]  # fmt: skip
    rng = random.Random(1)
    assert {tuple(names(plan(config({"m": targets}), rng=rng))) for _ in range(50)} == {("b", "a", "c")}


def test_calls_are_shared_by_weight() -> None:
    router = Router(config({"m": [{"upstream": "a", "weight": 1}, {"upstream": "b", "weight": 2}, {"upstream": "c", "weight": 7}]}))  # fmt: skip
    rng, calls = random.Random(20_260_801), 10_000
    seen = Counter(plan(router, rng=rng)[0].upstream for _ in range(calls))
    expected = {"a": 0.1 * calls, "b": 0.2 * calls, "c": 0.7 * calls}
    # χ² with two degrees of freedom: 13.8 is passed by one honest draw in a thousand.
    assert sum((seen[name] - expected[name]) ** 2 / expected[name] for name in expected) < 13.8


def test_rollouts_are_shared_by_weight_too() -> None:
    router = Router(config({"m": [{"upstream": "a", "weight": 1}, {"upstream": "b", "weight": 3}]}))
    seen = Counter(plan(router, rollout=f"ro-{i}")[0].upstream for i in range(8_000))
    assert abs(seen["b"] / 8_000 - 0.75) < 0.02


def test_a_weight_of_nothing_takes_calls_only_when_the_others_cannot() -> None:
    router = Router(config({"m": [{"upstream": "a", "weight": 0}, {"upstream": "b"}]}))
    assert {tuple(names(plan(router, rng=random.Random(i)))) for i in range(50)} == {("b", "a")}


def test_a_rollout_keeps_its_home() -> None:
    router = Router(config({"m": [{"upstream": name} for name in "abc"]}))
    plans = {tuple(names(plan(router, rollout="ro-7", rng=random.Random(i)))) for i in range(50)}
    assert len(plans) == 1


def test_without_sticky_a_rollout_goes_anywhere() -> None:
    router = Router(config({"m": [{"upstream": name} for name in "abc"]}, sticky=False))
    rng = random.Random(1)
    assert {plan(router, rollout="ro-7", rng=rng)[0].upstream for _ in range(50)} == {"a", "b", "c"}


def test_a_new_replica_takes_its_share_and_moves_nobody_else() -> None:
    kinds = [f"vllm:r{i}" for i in range(5)]
    four = Router(config({"m": [{"upstream": f"r{i}"} for i in range(4)]}, *kinds))
    five = Router(config({"m": [{"upstream": f"r{i}"} for i in range(5)]}, *kinds))
    homes = [(plan(four, rollout=f"ro-{i}")[0].upstream, plan(five, rollout=f"ro-{i}")[0].upstream) for i in range(5_000)]  # fmt: skip
    moved = [(old, new) for old, new in homes if old != new]
    assert {new for _, new in moved} == {"r4"}
    assert abs(len(moved) / len(homes) - 1 / 5) < 0.02


def test_an_ejected_home_is_tried_last_and_the_rollout_comes_back_to_it() -> None:
    router, health = Router(config({"m": [{"upstream": name} for name in "abc"]})), Health(RULES)
    usual = names(plan(router, rollout="ro-7"))
    for _ in range(RULES.failures):
        health.failed(usual[0], now=0.0)
    assert names(plan(router, rollout="ro-7", health=health, now=1.0)) == [*usual[1:], usual[0]]
    assert names(plan(router, rollout="ro-7", health=health, now=RULES.eject_s)) == usual


def test_an_ejected_upstream_comes_after_those_of_lower_priority() -> None:
    given, health = config({"m": [{"upstream": "a"}, {"upstream": "b", "priority": 1}]}), Health(RULES)
    health.rest("a", 3.0, now=0.0)
    assert names(plan(given, health=health, now=1.0)) == ["b", "a"]


@pytest.mark.parametrize(
    ("kind", "door", "spoken", "is_translated"),
    [
        ("openai", "chat", "openai", False),
        ("openai", "messages", "openai", True),
        ("anthropic", "messages", "anthropic", False),
        ("anthropic", "count_tokens", "anthropic", False),
        ("anthropic", "chat", "anthropic", True),
        ("gemini", "responses", "openai", True),
    ],
)
def test_a_target_says_whether_its_door_needs_translation(
    kind: str, door: Door, spoken: Family, is_translated: bool
) -> None:
    [target] = plan(config({"m": "x"}, f"{kind}:x"), door=door)
    assert (target.family, target.needs_translation) == (spoken, is_translated)


def test_an_upstream_with_both_surfaces_is_spoken_to_in_the_clients_protocol() -> None:
    upstreams = {"x": {"kind": "vllm", "doors": ["chat", "messages"]}}
    given = GatewayConfig.from_dict({"upstreams": upstreams}, {})
    assert [plan(given, door=door)[0][2:4] for door in ("chat", "messages", "count_tokens")] == [
        ("openai", False),
        ("anthropic", False),
        ("openai", True),
    ]


# ── Health ───────────────────────────────────────────────────────────────────────────────────────────────────────


def ejected(health: Health, name: str = "a", *, now: float = 0.0) -> Health:
    for _ in range(RULES.failures):
        health.failed(name, now=now)
    return health


def test_failures_in_a_row_eject_and_a_success_between_them_does_not() -> None:
    health = Health(RULES)
    for _ in range(RULES.failures - 1):
        health.failed("a", now=0.0)
    health.succeeded("a", now=0.0)
    health.failed("a", now=0.0)
    assert health.standing("a", now=0.0) == "up"
    assert ejected(health).standing("a", now=0.0) == "ejected"


def test_a_high_share_of_failures_ejects() -> None:
    health = Health(RULES)
    for _ in range(RULES.min_calls // 2):
        health.failed("a", now=0.0)
        health.succeeded("a", now=0.0)
    health.failed("a", now=0.0)
    assert health.standing("a", now=0.0) == "ejected"


def test_failures_of_another_window_do_not_count_towards_the_share() -> None:
    health = Health(RULES)
    for i in range(RULES.min_calls):
        health.failed("a", now=i * RULES.window_s * 1.1)
        health.succeeded("a", now=i * RULES.window_s * 1.1)
    assert health.standing("a", now=1e4) == "up"


def test_a_half_open_upstream_takes_one_probe() -> None:
    health = ejected(Health(RULES))
    assert health.standing("a", now=RULES.eject_s) == "half-open"
    health.begin("a", now=RULES.eject_s)
    assert health.standing("a", now=RULES.eject_s) == "ejected"
    # A probe whose client left says nothing; the next one may try.
    assert health.standing("a", now=2 * RULES.eject_s) == "half-open"


def test_a_probe_that_fails_ejects_for_twice_as_long_up_to_the_most() -> None:
    health, now, pauses = ejected(Health(RULES)), 0.0, []
    for _ in range(10):
        pauses.append(health.snapshot(now=now)["a"].back_s)
        now += pauses[-1]
        health.begin("a", now=now)
        health.failed("a", now=now)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_a_probe_that_succeeds_wipes_the_record() -> None:
    health = ejected(Health(RULES))
    health.begin("a", now=5.0)
    health.succeeded("a", now=5.0)
    assert health.snapshot(now=5.0) == {}


def test_retry_after_rests_an_upstream_but_not_for_ever() -> None:
    health = Health(RULES)
    health.rest("a", 10.0, now=0.0)
    health.succeeded("a", now=1.0)
    assert health.snapshot(now=4.0)["a"][0::3] == ("resting", 6.0)
    assert health.standing("a", now=10.0) == "up"
    health.rest("a", 1e9, now=20.0)
    assert health.standing("a", now=20.0 + RULES.max_eject_s) == "up"


def test_an_upstream_that_never_failed_has_no_record() -> None:
    health = Health(RULES)
    health.begin("a", now=0.0)
    health.succeeded("a", now=0.0)
    assert health.snapshot(now=0.0) == {}


# ── Retry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def step(
    failure: Failure, *, tries: int = 1, has_next: bool = False, elapsed_s: float = 0.0, **rules: Any
) -> tuple[str, float]:
    return retry.next_step(
        Retry(**rules),
        failure,
        tries_here=tries,
        has_next=has_next,
        elapsed_s=elapsed_s,
        rng=random.Random(3),
    )


def test_pauses_double_within_half_and_all_of_them_up_to_the_longest() -> None:
    rng, rules = random.Random(5), Retry(base_s=0.2, max_s=1.0)
    for tries, most in ((1, 0.2), (2, 0.4), (3, 0.8), (4, 1.0), (9, 1.0)):
        pauses = [retry.backoff_s(rules, tries, rng) for _ in range(200)]
        assert most / 2 <= min(pauses) < max(pauses) <= most
        assert max(pauses) - min(pauses) > most / 3


@pytest.mark.parametrize(
    ("failure", "more", "action"),
    [
        (Failure("status"), {}, "again"),
        (Failure("status"), {"tries": 3}, "stop"),
        (Failure("status"), {"tries": 3, "has_next": True}, "next"),
        (Failure("status"), {"elapsed_s": 60.1, "has_next": True}, "stop"),
        (Failure("status", 5.0), {}, "again"),
        (Failure("status", 5.0), {"has_next": True}, "next"),
        (Failure("status", 61.0), {}, "stop"),
        (Failure("connect"), {}, "again"),
        (Failure("connect"), {"has_next": True}, "next"),
        (Failure("timeout"), {"has_next": True}, "next"),
        (Failure("broken"), {"has_next": True}, "again"),
        (Failure("dropped"), {"has_next": True}, "again"),
        (Failure("dropped"), {"tries": 3, "has_next": True}, "next"),
    ],
)
def test_what_follows_a_failed_try(failure: Failure, more: dict[str, Any], action: str) -> None:
    assert step(failure, **more)[0] == action


def test_a_retry_after_is_waited_for_exactly_and_a_dropped_connection_is_not() -> None:
    assert step(Failure("status", 5.0))[1] == 5.0
    assert step(Failure("dropped"), tries=1)[1] == 0.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after", b"9"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"Fri, 15 Jan 2027 08:00:10 GMT")], 10.0),
        ([(b"retry-after", b"Thu, 14 Jan 2027 08:00:10 GMT")], 0.0),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"-3")], None),
        ([], None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: list[tuple[bytes, bytes]], seconds: float | None
) -> None:
    assert retry.retry_after_s(headers, now=1_800_000_000.0) == seconds


@pytest.mark.parametrize(
    ("status", "said", "again"),
    [
        (200, b"", False),
        (400, b"", False),
        (401, b"", False),
        (408, b"", True),
        (409, b"", True),
        (429, b"", True),
        (500, b"", True),
        (529, b"", True),
        (429, b"false", False),
        (400, b"true", True),
        (200, b"true", False),
    ],
)
def test_which_answers_ask_for_another_try(status: int, said: bytes, again: bool) -> None:
    assert retry.asks_for_another_try(status, [(b"x-should-retry", said)]) is again
