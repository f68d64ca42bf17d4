import gc
import tracemalloc

import pytest

from analysis.build import SECOND, run, span, tool
from leyden.analysis.recommend import _RULES, _TOOL_RULES, diagnose
from leyden.analysis.report import analyze

_VERBS = {"Ask", "Check", "Fix", "Have", "Let", "List", "Make", "Measure", "Offer", "Reword", "Say", "Shorten", "State", "Tell"}  # fmt: skip


def findings(*runs):
    return analyze(runs, now=0).findings


def of_kind(kind, *runs):
    return [f for f in findings(*runs) if f.kind == kind]


@pytest.mark.parametrize(
    ("error_type", "message", "label"),
    [
        ("TypeError", "Tool.forward() got an unexpected keyword argument ''", "tool signature mismatch"),
        ("TypeError", "f() missing 1 required positional argument: 'q'", "tool signature mismatch"),
        ("ValidationError", "1 validation error for Args: query field required", "arguments fail validation"),
        ("InputValidationError", "Bash failed", "arguments fail validation"),
        ("RateLimitError", "Error code: 429 - Too many requests", "rate limit"),
        ("APIError", "HTTP 529 overloaded", "rate limit"),
        ("TimeoutError", "The read operation timed out", "timeout"),
        ("ReadTimeout", "", "timeout"),
        ("AuthenticationError", "Incorrect API key provided", "no permission"),
        ("HTTPError", "403 Forbidden", "no permission"),
        (None, "status code: 401", "no permission"),
        ("BadRequestError", "This model's maximum context length is 8192 tokens", "context too long"),
        ("UnsupportedFormatException", "Could not convert 'a.xyz' to Markdown", "unsupported format"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'a'", "not found"),
        (None, "user jane_1 not found", "not found"),
        (None, "No results found for query: 'x'", "nothing found"),
        ("ConnectError", "connection refused", "service unavailable"),
        (None, "not enough seats on flight 7", "not available or not enough"),
        (None, "payment amount does not add up, total price is 403, but paid 429", "refused by a rule"),
        ("UnboundLocalError", "cannot access local variable 'res'", "bug inside the code"),
        ("ValueError", "could not convert string to float: 'a'", ""),
        (None, "weird", ""),
        (None, "Exit code 2 ls: cannot access 'a': No such file or directory", "command fails"),
        (None, "already booked: 'oak' is taken from 13:00", "not available or not enough"),
        ("InterpreterError", "Code execution failed at line 'x' due to: forbidden", "generated code fails"),
        (None, None, "no message"),
    ],
)
def test_the_words_of_an_error_name_its_cause(error_type, message, label):
    found = diagnose(
        name="lookup", is_tool=True, error_type=error_type, message=message, share="3 of 9 calls"
    )
    assert found.label == label
    assert "lookup" in found.advice


def test_a_signature_mismatch_is_never_answered_with_retry():
    found = diagnose(
        name="scroll",
        is_tool=True,
        error_type="TypeError",
        message="got an unexpected keyword argument 'page'",
        share="",
    )
    assert "schema" in found.advice
    assert "“page”" in found.advice
    assert "Trying again does not help" in found.advice


def test_an_unknown_error_is_recommended_with_tool_message_and_share():
    found = diagnose(
        name="lookup", is_tool=True, error_type=None, message="weird thing", share="3 of 9 calls"
    )
    assert all(part in found.advice for part in ("lookup", "weird thing", "3 of 9 calls"))


def test_advice_begins_with_one_short_sentence_that_says_what_to_do():
    for rule in [*_TOOL_RULES, *_RULES]:
        first = rule.advice.split(". ")[0]
        assert first.split()[0] in _VERBS
        assert len(first) <= 115


def test_braces_in_a_recorded_message_are_plain_text():
    found = diagnose(name="{x}", is_tool=True, error_type=None, message="{0} {name} is odd", share="")
    assert "{0} {name}" in found.advice


def test_the_tool_that_fails_most_comes_first():
    runs = [
        run(tool(1, "often", error="e1"), tool(2, "rarely", error="e2" if i < 4 else None), id=f"ro-{i}")
        for i in range(9)
    ]
    assert [f.tool for f in of_kind("tool_failure", *runs)] == ["often", "rarely"]


def test_one_problem_in_many_words_is_one_finding():
    def step(n, error, **over):
        return span(n, name=f"Step {n}", error=error, **over)

    [code, limit] = of_kind(
        "error",
        run(*(step(n, f"Code execution failed at line 'f({n})'") for n in range(1, 5))),
        run(span(1, "llm", model="m", error="rate_limit_error: 8 of 7"), span(2, "llm", model="m", error="overloaded"), id="ro-2"),
    )  # fmt: skip
    assert code.title.startswith("Step fails 4 times: generated code fails")
    assert limit.title.startswith("m fails twice: rate limit")


def test_steps_that_fail_for_different_reasons_stay_apart():
    runs = run(*(span(n, name=f"Step {n}", error=f"e{n}") for n in range(1, 4)))
    assert len(of_kind("error", runs)) == 3


def test_a_model_that_takes_all_time_there_is_is_no_finding():
    calls = [span(n, "llm", model="m") for n in range(9)]
    assert of_kind("slow", run(*calls)) == []
    assert [f.title for f in of_kind("slow", run(*calls, tool(10)))] == [
        "m takes 90% of the time spent in calls"
    ]


def test_short_times_are_said_in_milliseconds():
    calls = [span(n, "llm", model="m", end_ns=n * SECOND + 25_000_000) for n in range(9)]
    [found] = of_kind("slow", run(*calls, tool(10, end_ns=10 * SECOND + 1)))
    assert "Half of its calls take up to 25 ms, one in twenty more than 25 ms." in found.recommendation


def test_a_finding_keeps_its_fingerprint_when_other_runs_surround_it():
    bad = run(tool(1, error="x"))
    first = of_kind("tool_failure", bad)[0]
    later = of_kind(
        "tool_failure",
        *(run(tool(1, "other", error="y"), id=f"ro-{i}") for i in range(5)),
        run(tool(9, error="x"), id="ro-9"),
    )
    assert first.fingerprint in {f.fingerprint for f in later}


def test_the_same_runs_in_another_order_give_the_same_ranking():
    def runs():
        return [run(tool(1, f"t{i % 4}", error=f"e{i % 4}"), id=f"ro-{i}") for i in range(20)]

    assert [f.fingerprint for f in findings(*runs())] == [f.fingerprint for f in findings(*reversed(runs()))]


def test_evidence_is_capped_and_spread_with_failed_runs_first():
    runs = [
        run(
            *(tool(n, error="x") for n in range(10)),
            id=f"ro-{i}",
            status="failed" if i >= 25 else "succeeded",
        )
        for i in range(30)
    ]
    found = of_kind("tool_failure", *runs)[0]
    ids = [e.rollout_id for e in found.evidence]
    assert found.impact.occurrences == 300
    assert len(set(ids)) == len(ids) == 20
    assert ids[:5] == [f"ro-{i}" for i in range(25, 30)]


def test_attempts_of_one_rollout_count_as_one_run():
    found = of_kind("tool_failure", run(tool(1, error="x")), run(tool(2, error="x")))[0]
    assert (found.impact.occurrences, found.impact.runs) == (2, 1)


def test_the_model_call_that_asked_for_a_failing_call_is_part_of_what_it_cost():
    found = of_kind(
        "tool_failure",
        run(
            span(1, "llm", input_tokens=100, output_tokens=10, cost_usd=0.5),
            tool(2, error="x"),
            tool(3, error="x"),
            span(4, "llm", input_tokens=7, cost_usd=0.25),
        ),
    )[0]
    assert (found.impact.tokens, found.impact.cost_usd, found.impact.time_s) == (110, 0.5, 1.5)


def test_first_and_last_seen_are_the_times_of_the_spans():
    found = of_kind("tool_failure", run(tool(5, error="x"), tool(3, error="x"), tool(9, error="x")))[0]
    assert (found.first_seen, found.last_seen) == (3.0, 9.0)


def test_failed_runs_without_any_error_are_said_to_be_unexplained():
    runs = [run(tool(1), id=f"ro-{i}", status="failed") for i in range(3)] + [
        run(tool(1, error="x"), id="ro-x", status="failed")
    ]
    [found] = of_kind("failed_rollouts", *runs)
    assert found.title.startswith("3 of 4 failed runs")
    assert {e.rollout_id for e in found.evidence} == {"ro-0", "ro-1", "ro-2"}


def test_a_reward_of_zero_is_a_failed_run_and_a_missing_one_is_not():
    report = analyze([run(tool(1), reward=0.0), run(tool(1), id="ro-2")], now=0)
    assert report.totals.failed == 1


def test_time_inside_an_agent_used_as_a_tool_is_not_counted_twice():
    runs = [
        run(
            tool(1, "delegate", end_ns=100 * SECOND),
            *(tool(i, "slow", parent_id="s1", end_ns=(i + 10) * SECOND) for i in range(2, 8)),
        )
    ]
    [found] = of_kind("slow", *runs)
    assert (found.tool, found.impact.time_s) == ("slow", 60.0)


def test_unknown_cost_is_not_zero_and_known_cost_says_how_much_is_known():
    report = analyze([run(span(1, "llm", model="m"), span(2, "llm", model="m", cost_usd=0.5))], now=0)
    assert (report.totals.cost_usd, report.totals.priced_calls, report.totals.model_calls) == (0.5, 1, 2)
    assert analyze([run(span(1, "llm"))], now=0).totals.cost_usd is None


def test_clean_runs_give_no_finding():
    report = analyze([run(tool(1), tool(2, "other"))], now=7)
    assert (report.findings, report.severity, report.generated_at) == ([], None, 7)


def test_memory_does_not_grow_with_the_number_of_runs():
    def held(n):
        def stream():
            for i in range(n):
                yield run(*(tool(k, error="x", call="a") for k in range(5)), id=f"ro-{i}")
            # Interpreter free lists are not what the analysis keeps.
            gc.collect()
            bytes_held.append(tracemalloc.get_traced_memory()[0])

        bytes_held: list[int] = []
        tracemalloc.start()
        analyze(stream(), now=0)
        tracemalloc.stop()
        return bytes_held[0]

    held(50)
    assert held(2000) < held(100) * 1.2
