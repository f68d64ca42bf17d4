"""What a model call costs: tokens in buckets times a rate for each.

Owns the look-up of rates (overrides first, then the price list of the package genai-prices as it is installed) and the sum.
Promises: an unknown price is None, never 0, and so is a call with tokens of a kind that has no rate; nothing here reaches the
network; after the first call of a model on a day, pricing takes a few microseconds.
Refuses to know: where overrides are kept, and what a provider bills besides tokens and calls (searches, storage, pages).

The list is searched for: the model at its provider, the provider that the model's name begins with ("openai/gpt-4o"), the
name alone, the name without a date at its end, the name with dashes for dots. What runs on somebody's own machine (Ollama,
vLLM, …) has no list price.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from leyden.errors import BadInput
from leyden.ingest.usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

DAY_S = 86_400
# Clients choose the names of models: what is remembered of them is bounded.
REMEMBERED = 4096
OVERRIDE = "override"
_OWN_MACHINE = re.compile(
    r"(ollama|vllm|hosted_vllm|sglang|lm_?studio|llama[._-]?cpp|llamafile|localai|local|tgi|mlx|xinference)\b", re.I
)  # fmt: skip
_DATED = re.compile(r"[-@](20\d{2}-?[01]\d-?[0-3]\d)$")


class Rates(NamedTuple):
    """USD per million tokens of each bucket of `Usage`, in its order; None where there is no price. `call`: USD for each call."""

    input: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    output: float | None = None
    reasoning: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    call: float = 0.0


class Priced(NamedTuple):
    """The price of one call, and by which rates it was found: what a span keeps, so that a later list changes nothing."""

    usd: float
    source: str  # "genai-prices 0.2.3" or "override"
    rates: Rates

    @property
    def snapshot(self) -> dict[str, Any]:
        """The source and the rates as JSON has them: {"source", "usd_per_million_tokens": {bucket: rate}, "usd_per_call"}."""
        rates = {
            name: rate for name, rate in zip(Usage._fields, self.rates, strict=False) if rate is not None
        }
        call = {"usd_per_call": self.rates.call} if self.rates.call else {}
        return {"source": self.source, "usd_per_million_tokens": rates, **call}


def cost(usage: Usage, rates: Rates) -> float | None:
    """USD for these tokens; None when some of them have no rate."""
    total = rates.call * 1e6
    for tokens, rate in zip(usage, rates, strict=False):
        if tokens:
            if rate is None:
                return None
            total += tokens * rate
    return total / 1e6


# ── Overrides ────────────────────────────────────────────────────────────────────────────────────────────────────


class Overrides:
    """Somebody's own prices, by "provider/model" or "model", either exact or a glob; of several globs the longest one wins.

    Upper and lower case are the same.
    """

    def __init__(self, rates: Mapping[str, Rates]) -> None:
        lowered = {pattern.lower(): value for pattern, value in rates.items()}
        self._exact = {pattern: value for pattern, value in lowered.items() if not _is_glob(pattern)}
        globs = (item for item in lowered.items() if _is_glob(item[0]))
        self._globs = sorted(globs, key=lambda item: (-len(item[0]), item[0]))
        self._found: dict[tuple[str | None, str], Rates | None] = {}

    def find(self, provider: str | None, model: str) -> Rates | None:
        """The rates of a model, or None when no pattern is about it."""
        if not (self._exact or self._globs):
            return None
        key = (provider, model)
        if key not in self._found:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[key] = self._look_up(provider, model)
        return self._found[key]

    def _look_up(self, provider: str | None, model: str) -> Rates | None:
        names = [f"{provider}/{model}".lower(), model.lower()] if provider else [model.lower()]
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for pattern, rates in self._globs:
            if any(fnmatchcase(name, pattern) for name in names):
                return rates
        return None


NO_OVERRIDES = Overrides({})


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def rates_of(given: Mapping[str, Any]) -> Rates:
    """Rates from names and numbers, USD per million tokens and `call` in USD per call.

    What is left out is priced as what it is a part of: reasoning as output, cached and audio tokens as input or output.
    Raises BadInput for a name that is no bucket, a number that is no price, or no price at all.
    """
    unknown = sorted(set(given) - set(Rates._fields))
    if unknown:
        raise BadInput(f"{unknown[0]!r} has no price", hint=f"give some of: {', '.join(Rates._fields)}")
    for name, rate in given.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1e9:
            raise BadInput(f"The price of {name} is {rate!r}, which is none", hint="give USD, from 0 on")
    if not given:
        raise BadInput("These prices price nothing", hint="give at least `input` and `output`")
    return _completed({name: float(rate) for name, rate in given.items()})


_PART_OF = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "audio_input": "input",
    "audio_output": "output",
}


def _completed(known: dict[str, float]) -> Rates:
    for part, whole in _PART_OF.items():
        if part not in known and whole in known:
            known[part] = known[whole]
    return Rates(**known)


# ── The list ─────────────────────────────────────────────────────────────────────────────────────────────────────

# Rates by how much input a call has more than, the highest first: crossing a step sets the rate of all its tokens.
_Steps = tuple[tuple[int, Rates], ...]


class _Day(NamedTuple):
    """The prices of a model on one day (UTC): each holds from its second of the day on."""

    starts_s: tuple[float, ...]
    steps: tuple[_Steps, ...]

    @property
    def only(self) -> Rates | None:
        """The rates, when they are the same for every call of the day."""
        found = [rates for steps in self.steps for _, rates in steps]
        return found[0] if len(found) == 1 else None


def price(
    usage: Usage,
    *,
    provider: str | None,
    model: str | None,
    at_s: float,
    overrides: Overrides = NO_OVERRIDES,
    service_tier: str | None = None,
) -> Priced | None:
    """What a call cost, or None when nobody knows.

    provider: as spans name it, or None. at_s: when it was made, unix seconds; prices have dates. service_tier: what the answer
    says it was served with ("flex", "priority", "batch"); a tier without a price of its own costs what any call does.
    """
    if not model:
        return None
    rates, source = overrides.find(provider, model), OVERRIDE
    if rates is None:
        day = _on_day(provider, model, service_tier, int(at_s // DAY_S))
        if day is None:
            return None
        rates, source = _at(day, at_s % DAY_S, usage.all_input), _source()
    usd = cost(usage, rates)
    return None if usd is None else Priced(usd, source, rates)


def flat_rates(
    provider: str | None, model: str, *, day: int, overrides: Overrides = NO_OVERRIDES
) -> tuple[float, float, float, float] | None:
    """USD per token sent, read from a cache, written to one and generated, when that is all there is to the price; else None.

    day: since 1970. None for a price with steps, hours, a fee per call, or reasoning priced apart, and for one that is unknown.
    """
    rates = overrides.find(provider, model)
    if rates is None:
        found = _on_day(provider, model, None, day)
        rates = found.only if found is not None else None
    if rates is None or rates.call:
        return None
    sent, read, written, got = rates.input, rates.cache_read, rates.cache_write, rates.output
    if sent is None or read is None or written is None or got is None or rates.reasoning != got:
        return None
    return sent / 1e6, read / 1e6, written / 1e6, got / 1e6


def _at(day: _Day, second: float, sent: int) -> Rates:
    steps = day.steps[0 if len(day.steps) == 1 else bisect_right(day.starts_s, second) - 1]
    for more_than, rates in steps:
        if sent > more_than:
            return rates
    return steps[-1][1]


@cache
def _source() -> str:
    return f"genai-prices {version('genai-prices')}"


@cache
def _list() -> "list[Provider]":
    # Loaded by the first call that is priced: it takes longer than much of the server's start. Not asked for through the
    # package's functions: those hand out what was downloaded in this process, and remember every name that they are asked for.
    from genai_prices.data import providers

    return providers


def load() -> None:
    """Read the list now, once per process: 0.1 s and 25 MB, which otherwise the first call that is priced pays for."""
    _list()


def is_loaded() -> bool:
    """Whether the list is in memory."""
    return _list.cache_info().currsize > 0


@lru_cache(maxsize=REMEMBERED)
def _on_day(provider: str | None, model: str, service_tier: str | None, day: int) -> _Day | None:
    found = _find(provider, model)
    if found is None or not 0 <= day < 200_000:
        return None
    return _prices(*found, service_tier=service_tier, day=day)


@lru_cache(maxsize=REMEMBERED)
def _find(provider: str | None, model: str) -> "tuple[Provider, ModelInfo] | None":
    """The entry of the list for a model; None when there is none."""
    if _OWN_MACHINE.match(provider or "") or (_OWN_MACHINE.match(model) and "/" in model):
        return None
    for at, name in _names(provider, model):
        seller = _provider(at, name)
        entry = seller.find_model(name, all_providers=_list()) if seller is not None else None
        if seller is not None and entry is not None:
            return seller, entry
    return None


def _provider(named: str | None, model: str) -> "Provider | None":
    """Who sells: the provider of that name, else the one that models of such a name are from."""
    from genai_prices.data_snapshot import find_provider_by_id

    if named is not None:
        return find_provider_by_id(_list(), named)
    makers = (
        maker for maker in _list() if maker.model_match is not None and maker.model_match.is_match(model)
    )
    return next(makers, None)


def _names(provider: str | None, model: str) -> Iterator[tuple[str | None, str]]:
    """What to look for, the surest first: (provider or None, name)."""
    model = model.lower()
    undated = _DATED.sub("", model)
    for name in dict.fromkeys((model, undated, model.replace(".", "-"), undated.replace(".", "-"))):
        if provider:
            yield provider, name
        maker, slash, rest = name.partition("/")
        if slash and maker and rest:
            yield maker, rest
        yield None, name


def _prices(provider: "Provider", model: "ModelInfo", *, service_tier: str | None, day: int) -> _Day | None:
    midnight = datetime.fromtimestamp(day * DAY_S, UTC)
    # A model that was found at another provider has that one's standard prices alone, as the library does it.
    is_own = any(model is own for own in provider.models)
    context = _context(service_tier) if service_tier and is_own else None
    starts = sorted({0.0, *_changes(model)})
    steps = [
        _steps(model.get_prices(datetime.fromtimestamp(midnight.timestamp() + start, UTC), context)) for start in starts
    ]  # fmt: skip
    known = [step for step in steps if step is not None]
    return _Day(tuple(starts), tuple(known)) if len(known) == len(steps) else None


def _context(service_tier: str) -> dict[str, str]:
    tier = service_tier.lower()
    return {"service_tier": tier, **({"processing": "batch"} if tier == "batch" else {})}


def _changes(model: "ModelInfo") -> Iterator[float]:
    """Seconds of the day (UTC) at which prices that hold for a part of it begin or end."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    dated = [] if isinstance(model.prices, ModelPrice) else [price.constraint for price in model.prices]
    for constraint in (*dated, *(variant.constraint for variant in model.price_variants or ())):
        if isinstance(constraint, TimeOfDateConstraint):
            for time in (constraint.start_time, constraint.end_time):
                moment = datetime.combine(date(1970, 1, 2), time if time.tzinfo else time.replace(tzinfo=UTC))
                yield moment.timestamp() % DAY_S


# Which prices of the list hold for a bucket: the first that there is.
_PRICED_AS = {
    "input": ("input_mtok", "input_text_mtok"),
    "cache_read": ("cache_read_mtok", "cache_text_read_mtok"),
    "cache_write": ("cache_write_5m_mtok", "cache_write_mtok", "cache_text_write_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok"),
    "output": ("output_mtok", "output_text_mtok"),
    "reasoning": ("output_reasoning_mtok",),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
}


def _steps(prices: "ModelPrice") -> _Steps | None:
    """Prices of the list as rates; None when they price no tokens."""
    from genai_prices.types import TieredPrices

    listed = {name: value for name, value in vars(prices).items() if value is not None}
    limits = {
        tier.start for value in listed.values() if isinstance(value, TieredPrices) for tier in value.tiers
    }
    steps = tuple((limit, _rates(listed, above=limit)) for limit in sorted({-1, *limits}, reverse=True))
    is_priced = any(rate is not None for rate in steps[-1][1][:-1])
    return steps if is_priced else None


def _rates(listed: Mapping[str, Any], *, above: int) -> Rates:
    """The rates of calls with more input than `above`."""
    known = {
        bucket: _amount(listed[name], above)
        for bucket, names in _PRICED_AS.items()
        if (name := next((name for name in names if name in listed), None)) is not None
    }
    if "requests_kcount" in listed:
        known["call"] = _amount(listed["requests_kcount"], above) / 1000
    return _completed(known)


def _amount(listed: Any, above: int) -> float:
    from genai_prices.types import TieredPrices

    if not isinstance(listed, TieredPrices):
        return float(listed)
    steps = [tier.price for tier in listed.tiers if tier.start <= above]
    return float(steps[-1] if steps else listed.base)
