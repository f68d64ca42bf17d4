"""Spans that report tokens and no cost get the one that pricing says; what was reported stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.ingest.costs import with_costs
from leyden.ingest.prices import Overrides, price, rates_of
from leyden.ingest.record import SpanRecord
from leyden.ingest.usage import usage_of
from store.conftest import make_span

START_NS = 1_767_225_600_000_000_000
OWN = Overrides({"house/*": rates_of({"input": 1, "output": 2, "reasoning": 5})})
MODELS = [
    ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5"), ("gcp.gemini", "gemini-2.5-pro"), ("deepseek", "deepseek-chat"),
    ("openai", "text-embedding-3-small"), ("ollama", "llama3"), ("house", "m1"), (None, "nobody's"), ("openai", None),
]  # fmt: skip
COUNT = st.integers(0, 10**7) | st.none()


@given(
    st.sampled_from(MODELS),
    st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT),
    st.sampled_from([None, START_NS, 1_600_000_000_000_000_000]),
)
def test_a_batch_is_priced_as_each_of_its_calls_alone(
    named: tuple[str | None, str | None], counts: tuple[int | None, ...], start_ns: int | None
) -> None:
    sent, got, read, written, thought = counts
    if sent is not None:  # as the rules derive it, the first contains the others
        sent += (read or 0) + (written or 0)
    columns = {
        "input_tokens": sent, "output_tokens": got, "cache_read_tokens": read, "cache_write_tokens": written, "reasoning_tokens": thought,
    }  # fmt: skip
    record = make_span("ro-1", "at-1", provider=named[0], model=named[1], start_ns=start_ns, **columns)
    (found,) = with_costs([record], OWN)
    at_s = (start_ns or 0) / 1e9
    expected = price(usage_of(**columns), provider=named[0], model=named[1], at_s=at_s, overrides=OWN)
    if expected is None or (sent is None and got is None):
        assert found == record
    else:
        assert found.cost_usd == pytest.approx(expected.usd, rel=1e-9, abs=1e-15)
        assert found._replace(cost_usd=None) == record


@pytest.mark.parametrize(
    "record",
    [
        make_span("ro-1", "at-1", cost_usd=7.0, provider="openai", model="gpt-4o"),
        make_span("ro-1", "at-1", cost_usd=0.0, provider="openai", model="gpt-4o"),
        make_span("ro-1", "at-1", kind="agent", provider="openai", model="gpt-4o"),
        make_span("ro-1", "at-1", input_tokens=None, output_tokens=None),
    ],
)
def test_a_reported_cost_and_a_span_that_is_no_counted_call_stay_as_they_are(record: SpanRecord) -> None:
    assert with_costs([record]) == [record]


def test_a_batch_keeps_its_order_and_other_spans() -> None:
    batch = [make_span("ro-1", "at-1", n, kind="tool" if n % 2 else "llm") for n in range(6)]
    found = with_costs(batch)
    assert [record.span_id for record in found] == [record.span_id for record in batch]
    assert [record.cost_usd is None for record in found] == [n % 2 == 1 for n in range(6)]
    assert with_costs([]) == []
