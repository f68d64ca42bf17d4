from analysis.build import run, span, tool
from leyden.analysis.report import analyze


def retries(*spans, **over):
    return analyze([run(*spans, **over)], now=0).retries


def repeats(*spans):
    return analyze([run(*spans)], now=0).repeats


def test_the_next_call_of_the_same_tool_after_an_error_is_a_retry():
    [found] = retries(tool(1, error="x", call="a"), tool(2, error="x", call="a"), tool(3, call="b"))
    assert (found.failures, found.retried, found.identical, found.succeeded, found.success_rate) == (
        2,
        2,
        1,
        1,
        0.5,
    )


def test_another_tool_in_between_ends_the_retry():
    assert retries(tool(1, error="x"), tool(2, "other"), tool(3)) == []


def test_a_success_followed_by_the_same_tool_is_no_retry():
    assert retries(tool(1), tool(2)) == []


def test_agents_side_by_side_do_not_hide_each_others_retries():
    [found] = retries(
        span(1, "agent", agent="a"),
        span(2, "agent", agent="b"),
        tool(3, error="x", parent_id="s1"),
        tool(4, "other", parent_id="s2"),
        tool(5, parent_id="s1"),
    )
    assert (found.retried, found.by_other_agent) == (1, 0)


def test_a_retry_by_another_agent_is_counted_as_such():
    [found] = retries(
        span(1, "agent", agent="a"),
        span(2, "agent", agent="b"),
        tool(3, error="x", parent_id="s1"),
        tool(4, parent_id="s2"),
    )
    assert (found.retried, found.by_other_agent) == (1, 1)


def test_calls_without_known_arguments_are_never_called_identical():
    [found] = retries(tool(1, error="x"), tool(2, error="x"))
    assert found.identical == 0


def test_three_equal_calls_with_equal_answers_are_a_loop_and_two_are_wasted():
    [found] = repeats(
        *(tool(i, call="a", output_preview="same") for i in (1, 2)),
        tool(3, "other"),
        tool(4, call="a", output_preview="same"),
    )
    assert (found.immediate, found.loops, found.wasted) == (1, 1, 2)


def test_two_equal_calls_are_counted_but_are_no_loop():
    [found] = repeats(tool(1, call="a"), tool(2, call="a"))
    assert (found.immediate, found.loops, found.wasted) == (1, 0, 0)


def test_equal_calls_with_changing_answers_are_polling():
    [found] = repeats(*(tool(i, call="a", output_preview=str(i)) for i in range(4)))
    assert (found.immediate, found.polling, found.loops) == (3, 3, 0)


def test_equal_calls_after_an_error_are_retries_and_no_loop():
    [found] = repeats(*(tool(i, call="a", error="x") for i in range(4)))
    assert (found.immediate, found.after_error, found.loops) == (3, 3, 0)


def test_equal_calls_in_different_runs_are_no_loop():
    report = analyze([run(tool(1, call="a"), id=f"ro-{i}") for i in range(5)], now=0)
    assert report.repeats == []
