"""What calls cost: the installed price list itself is the judge, and what it does not know stays unknown."""

import time
from datetime import UTC, datetime
from itertools import product
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelPrice, TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.ingest.prices import NO_OVERRIDES, Overrides, Rates, cost, price, rates_of
from leyden.ingest.usage import Usage, usage_of

AT_S = 1_767_225_600.0  # 2026-01-01
THEIRS = DataSnapshot(providers=providers, from_auto_update=False)
USAGES = [
    Usage(input=1000, output=500),
    Usage(input=1000, cache_read=40_000, cache_write=3000, cache_write_1h=2000, output=10, reasoning=700),
    Usage(input=150_000, cache_read=150_000, output=9),
    Usage(input=600_000, output=60_000, reasoning=1),
    Usage(input=7, audio_input=900, output=11, audio_output=1300),
    Usage(),
]


def as_theirs(usage: Usage) -> genai_prices.Usage:
    """The buckets as the library counts, where a whole contains its parts."""
    return genai_prices.Usage(
        input_tokens=usage.all_input,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write + usage.cache_write_1h,
        cache_write_5m_tokens=usage.cache_write,
        cache_write_1h_tokens=usage.cache_write_1h,
        output_tokens=usage.all_output,
        output_reasoning_tokens=usage.reasoning,
        input_audio_tokens=usage.audio_input,
        output_audio_tokens=usage.audio_output,
        cache_audio_read_tokens=0,
        cache_audio_write_tokens=0,
        cache_image_read_tokens=0,
        output_audio_reasoning_tokens=0,
    )


def known_models() -> list[tuple[str, str]]:
    """Provider and name of every entry that the library itself finds under its name."""
    names = [(provider, model.id) for provider in providers for model in provider.models]
    return [
        (provider.id, name) for provider, name in names if provider.find_model(name, all_providers=providers)
    ]


def theirs(provider: str, model: str, usage: Usage, at: datetime, tier: str | None) -> Any:
    context = {"service_tier": tier} if tier else None
    return THEIRS.calc(as_theirs(usage), model, provider, None, at, context)


def is_rated(usage: Usage, prices: ModelPrice) -> bool:
    """Whether the list prices what was sent, and what was generated, at all."""
    if prices.input_mtok is None and prices.output_mtok is None:
        return False
    needs = {"input_mtok": usage.all_input, "output_mtok": usage.all_output}
    return all(getattr(prices, name) is not None for name, tokens in needs.items() if tokens)


@pytest.mark.parametrize(
    ("day", "tier"), [("2024-05-01", None), ("2025-09-15", "flex"), ("2026-06-30", "priority")]
)
def test_every_model_of_the_list_costs_what_the_library_says(day: str, tier: str | None) -> None:
    at = datetime.fromisoformat(day).replace(hour=18, minute=30, tzinfo=UTC)
    wrong: list[Any] = []
    compared = 0
    for (provider, model), usage in product(known_models(), USAGES):
        ours = price(usage, provider=provider, model=model, at_s=at.timestamp(), service_tier=tier)
        expected = theirs(provider, model, usage, at, tier)
        if not is_rated(usage, expected.model_price):
            if ours is not None and usage != Usage() and not (usage.audio_input or usage.audio_output):
                wrong.append((provider, model, usage, ours))
            continue
        compared += 1
        if ours is None or ours.usd != pytest.approx(float(expected.total_price), rel=1e-9, abs=1e-15):
            wrong.append((provider, model, usage, ours, expected.total_price))
    assert wrong[:3] == []
    assert compared > 10_000


def test_a_price_that_holds_for_hours_of_the_day_is_found_at_each_of_them() -> None:
    (provider, model) = next(
        (provider.id, model.id)
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        and any(isinstance(p.constraint, TimeOfDateConstraint) for p in model.prices)
    )
    usage = Usage(input=1000, output=1000)
    found: set[float] = set()
    for hour in range(24):
        at = datetime(2026, 1, 1, hour, 15, tzinfo=UTC)
        ours = price(usage, provider=provider, model=model, at_s=at.timestamp())
        assert ours is not None
        assert ours.usd == pytest.approx(float(theirs(provider, model, usage, at, None).total_price))
        found.add(ours.usd)
    assert len(found) > 1


@pytest.mark.parametrize(
    ("provider", "model", "same_as"),
    [
        ("azure.ai.openai", "gpt-4o", ("azure", "gpt-4o")),
        (None, "openai/gpt-4o", ("openai", "gpt-4o")),
        (None, "gpt-4o", ("openai", "gpt-4o")),
        ("somebody's proxy", "claude-opus-4.1", ("anthropic", "claude-opus-4-1")),
        ("somebody's proxy", "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        (
            "aws.bedrock",
            "us.anthropic.claude-3-haiku-20240307-v1:0",
            ("aws", "anthropic.claude-3-haiku-20240307-v1:0"),
        ),
    ],
)
def test_a_model_is_found_under_the_names_that_spans_give_it(
    provider: str | None, model: str, same_as: tuple[str, str]
) -> None:
    usage = Usage(input=1000, cache_read=10, output=100)
    ours = price(usage, provider=provider, model=model, at_s=AT_S)
    named = price(usage, provider=same_as[0], model=same_as[1], at_s=AT_S)
    assert ours is not None
    assert ours == named


@pytest.mark.parametrize(
    ("provider", "model"),
    [("ollama", "deepseek-r1:7b"), ("vllm", "gpt-4o"), (None, "ollama/gpt-oss:20b"), ("hosted_vllm", "gpt-4o"), ("openai", "no-such-model"), ("openai", None), (None, ""), ("", "x" * 10_000), ("/", "/"), ("a\0", "\ud800")],
)  # fmt: skip
def test_what_nobody_prices_is_unknown_and_not_free(provider: str | None, model: str | None) -> None:
    assert price(Usage(input=10, output=10), provider=provider, model=model, at_s=AT_S) is None


@pytest.mark.parametrize("at_s", [-1e18, -1.0, 1e18])
def test_a_call_outside_of_the_calendar_has_no_list_price(at_s: float) -> None:
    assert price(Usage(input=1), provider="openai", model="gpt-4o", at_s=at_s) is None


def test_tokens_without_a_rate_leave_the_cost_unknown() -> None:
    assert cost(Usage(input=10, output=1), Rates(input=1.0)) is None
    assert cost(Usage(input=10), Rates(input=1.0)) == 1e-5


# ── Overrides ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_override_wins_over_the_list_and_the_exact_one_over_the_glob() -> None:
    own = Overrides(
        {
            "gpt-4o": rates_of({"input": 1, "output": 2}),
            "gpt-*": rates_of({"input": 3, "output": 4}),
            "*": rates_of({"input": 5, "output": 6}),
            "ollama/*": rates_of({"input": 0, "output": 0}),
        }
    )
    usage = Usage(input=1_000_000)

    def usd(provider: str | None, model: str) -> float:
        found = price(usage, provider=provider, model=model, at_s=AT_S, overrides=own)
        assert found is not None
        assert found.source == "override"
        return found.usd

    assert usd("openai", "GPT-4o") == 1
    assert usd("openai", "gpt-4o-mini") == 3
    assert usd(None, "anything") == 5
    assert usd("ollama", "llama3") == 0


def test_a_bucket_that_is_left_out_costs_what_it_is_a_part_of() -> None:
    rates = rates_of({"input": 2, "output": 8, "cache_write": 3})
    assert rates == Rates(2, 2, 3, 3, 8, 8, 2, 8)
    found = price(
        Usage(reasoning=1000), provider=None, model="m", at_s=AT_S, overrides=Overrides({"m": rates})
    )
    assert found is not None
    assert found.snapshot == {
        "source": "override",
        "usd_per_million_tokens": dict(zip(Usage._fields, rates, strict=False)),
    }


@pytest.mark.parametrize(
    "given", [{}, {"inptu": 1}, {"input": -1}, {"input": True}, {"input": "3"}, {"input": float("nan")}]
)
def test_prices_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        rates_of(given)


# ── Sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────


COUNT = st.integers(0, 10**9) | st.none()


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_the_columns_of_a_span_fall_into_buckets_that_do_not_overlap(
    sent: int | None, got: int | None, read: int | None, written: int | None, thought: int | None
) -> None:
    usage = usage_of(
        input_tokens=sent, output_tokens=got, cache_read_tokens=read, cache_write_tokens=written, reasoning_tokens=thought
    )  # fmt: skip
    assert min(usage) >= 0
    cached = (read or 0) + (written or 0)
    assert usage.all_input == ((sent or 0) if (sent or 0) >= cached else (sent or 0) + cached)
    assert usage.total == usage.all_input + usage.all_output


def test_pricing_a_call_again_takes_microseconds() -> None:
    usage = Usage(1000, 5000, 0, 200, 300, 50)

    def once() -> None:
        price(usage, provider="openai", model="gpt-4o-2024-08-06", at_s=AT_S, overrides=NO_OVERRIDES)

    once()
    best = min(_cpu_s(once, 200) for _ in range(50)) / 200
    assert best < 5e-6


def _cpu_s(work: Any, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - began
