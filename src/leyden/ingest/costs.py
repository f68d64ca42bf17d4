"""The cost of model calls whose spans report tokens and no cost: one pass over a batch, whichever decoder read it.

Promises: a cost that was reported stays; a span without tokens, without a model or without a known price stays without a cost.
What is found is what `prices.price` says.
"""

from collections.abc import Sequence
from typing import Any, cast

from leyden.ingest.plain import CALLS
from leyden.ingest.prices import DAY_S, NO_OVERRIDES, Overrides, flat_rates, price
from leyden.ingest.record import SpanRecord
from leyden.ingest.usage import usage_of

_DAY_NS = DAY_S * 1_000_000_000
_KIND, _START, _PROVIDER, _MODEL, _SENT, _COST = map(
    SpanRecord._fields.index, ("kind", "start_ns", "provider", "model", "input_tokens", "cost_usd")
)
_TOKENS = slice(_SENT, _COST)  # input, output, cache read, cache write, reasoning
_NEVER = (0.0, 0.0, 0.0, 0.0)


def with_costs(records: Sequence[SpanRecord], overrides: Overrides = NO_OVERRIDES) -> list[SpanRecord]:
    """The same records, with what their model calls cost where nobody said it and it can be known.

    A call without a start costs what it would have at the beginning of 1970: the oldest prices hold.
    """
    rows = cast(Sequence[tuple[Any, ...]], records)
    found: list[SpanRecord] = list(records)
    known: dict[Any, tuple[float, float, float, float] | None] = {}
    # Every span of every agent passes here: written out, half a microsecond each instead of two.
    for place, row in enumerate(rows):
        if row[_KIND] not in CALLS or row[_COST] is not None:
            continue
        start_ns, provider, model = row[_START], row[_PROVIDER], row[_MODEL]
        sent, got, read, written, thought = row[_TOKENS]
        if model is None or (sent is None and got is None):
            continue
        key = (provider, model, start_ns // _DAY_NS if start_ns else 0)
        rates = known.get(key, _NEVER)
        if rates is _NEVER:
            rates = known[key] = flat_rates(provider, model, day=key[2], overrides=overrides)
        if rates is not None and sent is not None and got is not None:
            usd = sent * rates[0] + got * rates[3]
            if read:
                usd += read * (rates[1] - rates[0])
            if written:
                usd += written * (rates[2] - rates[0])
            if thought and thought > got:  # counted apart: see `usage_of`
                usd += thought * rates[3]
        else:
            usd = _usd(records[place], overrides)
        if usd is not None:
            columns: list[Any] = list(row)
            columns[_COST] = usd
            # Twice as fast as calling the class, which unpacks every field by name.
            found[place] = tuple.__new__(SpanRecord, columns)  # pyright: ignore[reportUnknownMemberType]
    return found


def _usd(record: SpanRecord, overrides: Overrides) -> float | None:
    """The cost of one call, with all that a price may depend on."""
    usage = usage_of(
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cache_read_tokens=record.cache_read_tokens,
        cache_write_tokens=record.cache_write_tokens,
        reasoning_tokens=record.reasoning_tokens,
    )
    at_s = (record.start_ns or 0) / 1e9
    found = price(usage, provider=record.provider, model=record.model, at_s=at_s, overrides=overrides)
    return found.usd if found is not None else None
