import random

from hypothesis import given
from hypothesis import strategies as st

from analysis.build import SECOND, run, span, tool
from leyden.analysis.report import analyze
from leyden.analysis.run import read


def problems(events):
    return sorted((p.kind, p.span_id) for p in events.problems)


def test_a_span_without_an_agent_has_that_of_the_nearest_agent_span_above():
    events = read(
        run(
            span(1, "agent", "boss.run", agent="boss"),
            span(2, "agent", "helper.run", agent="helper", parent_id="s1"),
            span(3, "chain", parent_id="s2"),
            tool(4, parent_id="s3"),
            tool(5, parent_id="s1"),
        )
    )
    assert [(c.agent, c.lane) for c in events.tool_calls] == [("helper", "s2"), ("boss", "s1")]


def test_agents_are_found_when_children_arrive_before_their_parents():
    events = read(
        run(tool(1, parent_id="s2"), span(2, "chain", parent_id="s3"), span(3, "agent", agent="boss"))
    )
    assert events.tool_calls[0].agent == "boss"


def test_an_llm_span_around_another_with_usage_is_not_counted_again():
    events = read(
        run(
            span(1, "agent", input_tokens=100, output_tokens=100),
            span(2, "llm", "gateway", parent_id="s1", input_tokens=10, output_tokens=5),
            span(3, "chain", parent_id="s2"),
            span(4, "llm", "client", parent_id="s3", input_tokens=10, output_tokens=5),
        )
    )
    assert [(c.span.span_id, c.tokens) for c in events.model_calls] == [("s4", 15)]


def test_an_inner_llm_span_that_knows_no_usage_leaves_the_count_to_the_outer():
    events = read(run(span(1, "llm", input_tokens=10), span(2, "llm", parent_id="s1")))
    assert [c.span.span_id for c in events.model_calls] == ["s1"]


def test_an_error_that_only_passes_through_is_counted_where_it_came_from():
    events = read(
        run(
            span(1, "agent", error="step failed"),
            span(2, "chain", parent_id="s1", error="tool failed"),
            tool(3, parent_id="s2", error="boom"),
            span(4, "chain", parent_id="s1", error="bad code"),
        )
    )
    assert [c.span.span_id for c in events.causes] == ["s3", "s4"]
    assert events.failed_spans == 4


def test_a_fingerprint_alone_makes_a_failure():
    events = read(run(tool(1, error="no such user", status="unset")))
    assert events.tool_calls[0].failed


def test_an_end_before_the_start_is_reported_and_kept_out_of_latency():
    report = analyze([run(tool(1, end_ns=0), tool(2))], now=0)
    assert report.tools[0].time_s == 0.5
    assert [(p.kind, p.count) for p in report.data_problems] == [("negative_duration", 1)]


def test_spans_without_times_are_reported_and_counted():
    report = analyze([run(tool(1, start_ns=None, end_ns=None, error="x"))], now=0)
    assert (report.tools[0].failures, report.tools[0].latency_p50_s) == (1, None)
    assert [(p.kind, p.count) for p in report.data_problems] == [("no_time", 1)]


def test_a_parent_that_never_arrived_is_reported():
    assert problems(read(run(tool(1, parent_id="gone")))) == [("orphan_parent", "s1")]


def test_a_circle_of_parents_is_cut_and_its_error_still_counted():
    events = read(
        run(span(1, parent_id="s2", error="a"), span(2, parent_id="s1", error="b"), span(3, parent_id="s3"))
    )
    assert [kind for kind, _ in problems(events)] == ["parent_cycle", "parent_cycle"]
    assert len(events.causes) == 1


def test_a_span_sent_twice_counts_once():
    events = read(run(tool(1), tool(1)))
    assert len(events.tool_calls) == 1
    assert problems(events) == [("duplicate_id", "s1")]


def test_impossible_usage_is_unknown_and_reported():
    report = analyze(
        [run(span(1, "llm", input_tokens=-5, cost_usd=1.0), span(2, "llm", cost_usd=float("nan")))], now=0
    )
    assert (report.totals.input_tokens, report.totals.cost_usd) == (None, None)
    assert [(p.kind, p.count) for p in report.data_problems] == [("bad_usage", 2)]


def test_a_run_without_spans_keeps_its_outcome():
    report = analyze([run(status="failed")], now=0)
    assert (report.totals.runs, report.totals.failed) == (1, 1)
    assert report.data_problems[0].kind == "no_spans"


IDS = st.one_of(st.none(), st.sampled_from([f"s{i}" for i in range(8)] + ["gone", ""]))
TIMES = st.one_of(st.none(), st.integers(-(10**18), 2 * 10**18))
SPANS = st.lists(
    st.builds(
        span,
        st.integers(0, 7),
        st.sampled_from(["agent", "llm", "tool", "chain", "retriever", "embedding", "reward", "span"]),
        st.text(max_size=5),
        parent_id=IDS,
        start_ns=TIMES,
        end_ns=TIMES,
        tool=st.one_of(st.none(), st.text(max_size=3)),
        agent=st.one_of(st.none(), st.text(max_size=3)),
        error=st.one_of(st.none(), st.text(max_size=10)),
        call_hash=st.one_of(st.none(), st.sampled_from(["a", "b"])),
        input_tokens=st.one_of(st.none(), st.integers(-5, 10**9)),
        cost_usd=st.one_of(st.none(), st.floats()),
    ),
    max_size=12,
)


@given(SPANS, st.sampled_from(["succeeded", "failed", "odd"]), st.one_of(st.none(), st.floats()))
def test_no_telemetry_however_broken_stops_the_analysis(spans, status, reward):
    report = analyze([run(*spans, status=status, reward=reward), run(id="ro-2")], now=0)
    ids = {s.span_id for s in spans}
    assert report.totals.tool_calls + report.totals.model_calls <= len(ids)
    assert report.totals.errors <= report.totals.failed_spans <= len(ids)
    assert (report.totals.errors == 0) == (report.totals.failed_spans == 0)
    assert type(report).model_validate_json(report.model_dump_json()).totals.spans == len(spans)


def test_the_order_of_arrival_does_not_change_who_failed():
    spans = [
        span(1, "agent", agent="a", error="x"),
        span(2, "chain", parent_id="s1", error="x"),
        tool(3, parent_id="s2", error="x"),
    ]
    random.Random(1).shuffle(spans)
    assert [c.span.span_id for c in read(run(*spans)).causes] == ["s3"]
    assert read(run(*spans)).tool_calls[0].duration_s == SECOND / 2 / 1e9
