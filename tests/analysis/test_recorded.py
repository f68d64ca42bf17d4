"""The analysis against an independent recount of the recorded runs, and against the published figures of both."""

import recorded
import recount
from leyden.analysis.report import analyze


def tools(report):
    return {t.name: t for t in report.tools}


def assert_agree(report, truth):
    assert report.totals.runs == truth.runs
    assert {t.name: t.calls for t in report.tools} == dict(truth.calls)
    assert {t.name: t.failures for t in report.tools if t.failures} == dict(+truth.failures)
    assert {r.tool: r.retried for r in report.retries} == dict(+truth.same_tool_after_error)
    immediate = {r.tool: r.immediate for r in report.repeats if r.immediate}
    assert immediate == dict(+truth.identical_repeats)
    assert (report.totals.input_tokens or 0) == truth.tokens_in
    assert (report.totals.output_tokens or 0) == truth.tokens_out
    assert report.totals.errors >= report.totals.tool_failures == sum(truth.failures.values())


def test_trail_gaia_agrees_with_the_recount():
    assert_agree(analyze(recorded.trail(), now=0), recount.recount(recount.trail_runs()))


def test_trail_swe_bench_agrees_with_the_recount():
    assert_agree(
        analyze(recorded.trail("SWE_Bench"), now=0), recount.recount(recount.trail_runs("SWE_Bench"))
    )


def test_tau_bench_agrees_with_the_recount():
    assert_agree(analyze(recorded.tau(), now=0), recount.recount(recount.tau_runs()))


def test_trail_gaia_gives_the_answer_key():
    report = analyze(recorded.trail(), now=0)
    found = tools(report)
    page, inspect, search = (found[n] for n in ("PageDownTool", "TextInspectorTool", "SearchInformationTool"))
    assert [(t.calls, t.failures) for t in (page, inspect, search)] == [(40, 39), (13, 12), (33, 6)]
    assert sum(r.retried for r in report.retries) == 40
    assert sum(r.immediate for r in report.repeats) == 17
    assert (report.totals.input_tokens or 0) + (report.totals.output_tokens or 0) == 2_774_399
    assert (report.totals.spans, report.totals.tool_failures) == (988, 57)
    # Of 61 failed steps, all but three only pass on what failed inside them.
    assert report.totals.errors == 57 + 1 + 3


def test_leaf_token_totals_of_swe_bench_are_the_known_ones():
    report = analyze(recorded.trail("SWE_Bench"), now=0)
    # 1,863,920 over the LLM spans as written; one of them, of 8,032 tokens, stands in its file twice.
    assert report.totals.input_tokens + report.totals.output_tokens == 1_863_920 - 8_032
    assert [(p.kind, p.count) for p in report.data_problems] == [("duplicate_id", 1)]


def test_tau_bench_says_that_tool_errors_do_not_explain_most_failures():
    report = analyze(recorded.tau(), now=0)
    assert (report.totals.failed, report.totals.failed_without_error) == (71, 50)
    silent = next(f for f in report.findings if f.kind == "failed_rollouts")
    assert silent.title.startswith("50 of 71 failed runs")


def test_the_first_findings_over_both_sets_are_the_failures_that_happen_most():
    report = analyze([*recorded.trail(), *recorded.tau()], now=0)
    truth = recount.recount([*recount.trail_runs(), *recount.tau_runs()])
    failures = [f for f in report.findings if f.kind == "tool_failure"]
    first = report.findings[0]
    assert (first.tool, first.severity, first.impact.occurrences, first.impact.runs) == (
        "PageDownTool",
        "high",
        39,
        8,
    )
    assert "tool signature mismatch" in first.title
    assert "does not take" in first.recommendation
    assert "again does not help" in first.recommendation
    commonest = [tool for tool, _ in truth.failures.most_common(4)]
    assert {f.tool for f in failures[:5]} == set(commonest)
    for finding in failures:
        words = finding.error_message.split("'")[0][:40]
        assert any(words in message for message in truth.messages[finding.tool]), finding.title


def test_every_piece_of_evidence_is_a_span_of_the_data():
    runs = [*recorded.trail(), *recorded.tau()]
    known = {(s.rollout_id, s.attempt_id, s.span_id) for r in runs for s in r.spans}
    report = analyze(runs, now=0)
    assert all(0 < len(f.evidence) <= 20 and set(f.evidence) <= known for f in report.findings)
