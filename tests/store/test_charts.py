"""Charts equal what the spans add up to: sums exactly, quantiles within one percent."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.ingest.record import SpanRecord
from leyden.store import charts, rollouts, spans
from leyden.store.charts import Among, Chart, Measured
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from store.conftest import delete, make_span

NOW = 1_800_000_000
DAY = 86_400
CALLS = ("llm", "embedding")


@st.composite
def records(draw: st.DrawFn) -> list[SpanRecord]:
    found: list[SpanRecord] = []
    for number in range(draw(st.integers(1, 40))):
        start = (NOW - draw(st.integers(0, 6 * DAY))) * 10**9
        priced = draw(st.sampled_from([None, 0.25, 0.0, 0.003]))
        found.append(
            make_span(
                "ro-1", "at-1", number, start_ns=start, end_ns=start + draw(st.integers(1000, 10**11)),
                kind=draw(st.sampled_from(["llm", "embedding", "tool"])), model=draw(st.sampled_from(["a", "b", None])),
                status=draw(st.sampled_from(["ok", "error"])), input_tokens=draw(st.integers(0, 10**6)), cost_usd=priced,
            )
        )  # fmt: skip
    return found


def store_spans(store: Store, found: list[SpanRecord], project: str = "default") -> None:
    def change(tx: Any) -> None:
        if rollouts.find(tx, "ro-1", project=project):
            delete(tx, "ro-1", project=project)
        rollouts.start(
            tx,
            NewRollout("null"),
            project=project,
            rollout_id="ro-1",
            attempt_id="at-1",
            worker_id=None,
            now=NOW,
        )
        spans.insert(tx, found, project=project, now=NOW, quiet_s=900)

    store.writer.run(change)


def ask(store: Store, **asked: Any) -> Chart:
    with store.database.read() as tx:
        return charts.chart(tx, "default", **{"since": NOW - 7 * DAY, "until": NOW + 1, **asked})


def check(measured: Measured, of: list[SpanRecord]) -> None:
    called = [span for span in of if span.kind in CALLS]
    prices = [span.cost_usd for span in called if span.cost_usd is not None]
    took = sorted(((span.end_ns or 0) - (span.start_ns or 0)) / 1e9 for span in of)
    assert measured["spans"] == len(of)
    assert measured["errors"] == sum(span.status == "error" for span in of)
    assert measured["calls"] == len(called)
    assert measured["input_tokens"] == sum(span.input_tokens or 0 for span in called)
    assert measured["cost_usd"] == (pytest.approx(sum(prices), abs=1e-9) if prices else None)
    assert measured["priced_share"] == (pytest.approx(len(prices) / len(called)) if called else None)
    assert measured["mean_s"] == pytest.approx(sum(took) / len(took))
    for name, q in charts.QUANTILES.items():
        assert measured[name] == pytest.approx(took[int(q * (len(took) - 1))], rel=0.010001)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=records(),
    step=st.sampled_from(["hour", "day", "auto"]),
    by=st.sampled_from([(), ("model",), ("kind", "model")]),
)
def test_a_chart_is_what_the_spans_add_up_to(
    store: Store, found: list[SpanRecord], step: Any, by: Any
) -> None:
    store_spans(store, found)
    chart = ask(store, step=step, by=by)
    check(chart.total, found)
    assert sum(len(group.points) for group in chart.groups) > 0
    for group in chart.groups:
        own = [span for span in found if tuple(getattr(span, name) or "" for name in by) == group.by]
        check(group.total, own)
        for point in group.points:
            check(
                point.measured,
                [s for s in own if point.time <= (s.start_ns or 0) // 10**9 < point.time + chart.step_s],
            )


def test_groups_beyond_the_limit_are_put_together_and_filters_narrow(store: Store) -> None:
    store_spans(
        store,
        [make_span("ro-1", "at-1", n, start_ns=(NOW - n) * 10**9, model=f"m{n % 4}") for n in range(30)],
    )
    chart = ask(store, by=("model",), limit=2, measures=("spans",))
    assert [(group.by, group.total["spans"]) for group in chart.groups] == [
        (("m0",), 8),
        (("m1",), 8),
        ((None,), 14),
    ]
    assert ask(store, where={"model": Among(["m0", "m3"])}).total["spans"] == 15
    assert ask(store, where={"model": Among(["m0"], negated=True)}).total["spans"] == 22
    assert ask(store, where={"agent": Among([""])}).groups == []
    with store.database.read() as tx:
        facets = charts.facets(tx, "default", since=NOW - DAY, until=NOW + 1, where={"model": Among(["m0"])})
    assert facets["model"] == [("m0", 8), ("m1", 8), ("m2", 7), ("m3", 7)]
    assert facets["kind"] == [("llm", 8)]


def test_sums_beyond_64_bits_are_no_error(store: Store) -> None:
    store_spans(
        store,
        [
            make_span("ro-1", "at-1", n, start_ns=1, end_ns=2**63 - 1, cost_usd=1e300, agent=f"a{n}")
            for n in range(20)
        ],
    )
    chart = ask(store, since=-1.0, until=10.0)
    assert chart.total["spans"] == 20
    assert math.isfinite(chart.total["cost_usd"] or 0)


def test_what_cannot_be_asked_says_so(store: Store) -> None:
    with pytest.raises(BadInput, match="nothing to group"):
        ask(store, by=("name",))
    with pytest.raises(BadInput, match="time range"):
        ask(store, since=5.0, until=5.0)
    with pytest.raises(BadInput, match="hours"):
        ask(store, since=0.0, step="hour")
