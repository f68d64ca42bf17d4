import io
import re

from rich.console import Console

from analysis.build import run, span, tool
from leyden.analysis.report import analyze
from leyden.cli.report_view import print_findings, print_report, to_markdown

HOSTILE = "[bold red]x[/] \x1b[31m\x1b]0;title\x07 | `code` <script> \u202e\r\n# head \ud800"


def shown(report, width=80):
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=True)
    print_report(report, console)
    return console.export_text()


def report_of(*spans, **over):
    return analyze([run(*spans, **over)], now=0)


def test_the_terminal_shows_figures_findings_advice_and_where_to_look():
    text = shown(
        report_of(
            span(1, "agent", agent="boss"),
            span(2, "llm", parent_id="s1", model="m-1", input_tokens=1500, output_tokens=20),
            tool(3, parent_id="s1", error="got an unexpected keyword argument 'q'"),
            status="failed",
        )
    )
    for part in (
        "1 run, 1 failed",
        "1,500 tokens in",
        "cost unknown",
        "search",
        "boss",
        "m-1",
        "→",
        "leyden show ro-1",
    ):
        assert part in text


def test_the_first_thing_to_do_stands_above_the_findings():
    report = report_of(tool(1, "lookup", error="date must be YYYY-MM-DD"))
    before = " ".join(shown(report).partition("What to fix first")[0].split())
    assert (
        "Do first: State the rule in lookup's description, and have the agent check its values before the call."
        in before
    )
    assert "**Do first:** State the rule in lookup's description" in to_markdown(report)


def test_five_findings_are_shown_and_the_rest_counted():
    text = shown(report_of(*(tool(i, f"t{i}", error="x") for i in range(8))))
    assert text.count(" fails in its only call") == 5
    assert "… and 3 more: leyden findings\n" in text
    assert "more" not in shown(report_of(*(tool(i, f"t{i}", error="x") for i in range(5))))


def test_findings_that_were_not_kept_are_not_looked_for_among_those_that_were():
    console = Console(width=80, file=io.StringIO(), record=True)
    print_report(report_of(*(tool(i, f"t{i}", error="x") for i in range(8))), console, saved=False)
    text = console.export_text()
    assert "… and 3 more: leyden analyze --no-save --markdown" in text
    assert "leyden findings" not in text


def test_commands_name_the_program_and_the_store_and_stay_on_one_line():
    console = Console(width=40, file=io.StringIO(), record=True)
    place = "--store http://127.0.0.1:4747"
    print_report(report_of(tool(1, error="x")), console, command=".venv/bin/leyden", place=place)
    text = console.export_text()
    assert text.count(f"\n    .venv/bin/leyden show ro-1 {place}\n") == 2
    assert f"\n    .venv/bin/leyden findings {place}\n" in text


def test_a_column_that_says_nothing_is_left_out():
    untimed = shown(
        report_of(tool(1, start_ns=None, end_ns=None), span(2, "llm", start_ns=None, end_ns=None))
    )
    assert not any(word in untimed for word in ("p50", "p95", "tok in", "? not recorded"))
    timed = shown(report_of(tool(1), span(2, "llm", input_tokens=5)))
    assert all(word in timed for word in ("p50", "p95", "tok in"))


def test_the_latency_of_a_few_calls_does_not_pass_for_that_of_all():
    def latencies(timed):
        calls = [tool(i, **({} if i < timed else {"end_ns": None})) for i in range(4)]
        return shown(report_of(*calls, tool(9, "other"))).partition("Tools")[2]

    assert re.search(r"search +4 +– +1 +\? +\?", latencies(1))
    assert re.search(r"search +4 +– +1 +50\d ms", latencies(2))


def test_calls_of_a_model_without_a_name_are_explained():
    assert "do not say which model answered" in shown(report_of(span(1, "llm")))
    assert "do not say which model answered" not in shown(report_of(span(1, "llm", model="m")))


def test_no_line_ends_in_blanks():
    lines = shown(report_of(tool(1, error="long message " * 20), span(2, "llm", model="m"))).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


def test_no_line_is_wider_than_the_terminal():
    report = report_of(
        *(
            tool(
                i,
                "a_tool_with_a_remarkably_long_name_" * 4 + str(i % 3),
                error="long message " * 20,
                agent="agent " * 20,
            )
            for i in range(9)
        ),
        span(
            20,
            "llm",
            model="provider/very-long-model-name-" * 5,
            input_tokens=10**10,
            output_tokens=10**10,
            cost_usd=12345.678,
        ),
    )
    assert max(len(line) for line in shown(report).splitlines()) <= 80


def test_recorded_text_cannot_style_move_or_break_the_output():
    report = report_of(
        tool(1, HOSTILE, error=HOSTILE, agent=HOSTILE), span(2, "llm", model=HOSTILE), id="ro-" + HOSTILE
    )
    text = shown(report, width=200)
    assert "[bold red]x[/]" in text
    assert not any(c in text for c in "\x1b\x07\r\u202e\ud800")
    text.encode()


def test_recorded_text_stays_text_in_markdown():
    markdown = to_markdown(report_of(tool(1, HOSTILE, error=HOSTILE), id="ro-" + HOSTILE))
    assert "\\<script\\>" in markdown
    assert not any(line.startswith("# head") for line in markdown.splitlines())
    widths = {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert widths == {8}
    markdown.encode()


def test_markdown_names_every_finding():
    report = report_of(*(tool(i, f"t{i}", error="x") for i in range(30)))
    assert all(f"t{i} fails" in to_markdown(report) for i in range(30))


def test_no_runs_and_no_findings_are_said_plainly():
    assert "No run was read" in shown(analyze([], now=0))
    assert "No run was read" in to_markdown(analyze([], now=0))
    assert "Nothing to fix" in shown(report_of(tool(1)))
    assert "Nothing to fix" in to_markdown(report_of(tool(1)))


def test_findings_alone_can_be_printed():
    console = Console(width=80, file=io.StringIO(), record=True)
    print_findings(report_of(tool(1, error="boom")).findings, console)
    assert "search fails in its only call" in console.export_text()
