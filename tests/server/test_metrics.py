"""Charts and facets over HTTP, and counting them anew."""

import pytest

from leyden.errors import LeydenError
from leyden.sdk.client import Client

NOW = 1_800_000_000.0


@pytest.fixture
def filled(client: Client) -> Client:
    """Twelve model calls of two models over three days, one of them failed, and a tool call."""
    rollout = client.start_rollout("question")
    attempt_id = rollout.attempt.attempt_id
    for n in range(13):
        model = f"m{n % 2}"
        asked = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": 10,
        }
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look_up"}
        start = NOW - (n % 3) * 86_400
        client.add_span(
            {
                "rollout_id": rollout.rollout_id, "attempt_id": attempt_id, "sequence_id": n + 1, "trace_id": f"{1:032x}",
                "span_id": f"{n + 1:016x}", "parent_id": None, "name": "step", "events": [], "links": [], "context": None, "parent": None,
                "status": {"status_code": "ERROR" if n == 0 else "OK", "description": None}, "resource": {"attributes": {}, "schema_url": ""},
                "attributes": tool if n == 12 else asked, "start_time": start, "end_time": start + 2.0,
            }
        )  # fmt: skip
    return client


def test_a_chart_over_http(filled: Client) -> None:
    chart = filled.chart(since=NOW - 5 * 86_400, until=NOW + 60, by=["model"], where={"kind": ["llm"]})
    assert (chart.step_s, chart.by, chart.total.spans, chart.total.errors) == (86_400, ["model"], 12, 1)
    assert {group.by["model"]: group.total.input_tokens for group in chart.groups} == {"m0": 60, "m1": 60}
    assert [point.spans for point in chart.groups[0].points] == [2, 2, 2]
    assert chart.total.p95_s == pytest.approx(2.0, rel=0.01)
    assert (chart.total.cost_usd, chart.total.priced_share) == (None, 0.0)


def test_only_the_measures_asked_for_are_answered(filled: Client) -> None:
    answer = filled.request(
        "GET", "/api/metrics/chart", params={"since": NOW - 86_400, "until": NOW + 1, "measure": ["spans"]}
    )
    assert answer["total"] == {"spans": 9}


def test_facets_say_what_there_is_to_filter_by(filled: Client) -> None:
    facets = filled.facets(since=NOW - 5 * 86_400, until=NOW + 60, where={"tool": ["look_up"]})
    assert [(facet.value, facet.spans) for facet in facets["tool"]] == [("", 12), ("look_up", 1)]
    assert [(facet.value, facet.spans) for facet in facets["kind"]] == [("tool", 1)]


def test_nothing_stored_is_an_empty_chart(client: Client) -> None:
    chart = client.chart()
    assert (chart.groups, chart.total.spans, chart.total.p50_s) == ([], 0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "name"},
        {"since": "nan"},
        {"since": 1e300},
        {"since": 9.0, "until": 1.0},
        {"step": "year"},
        {"limit": 0},
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused(client: Client, wrong: dict[str, object]) -> None:
    with pytest.raises(LeydenError) as caught:
        client.request("GET", "/api/metrics/chart", params=wrong)
    assert caught.value.status in (400, 422)


def test_counting_anew_finds_nothing_wrong(filled: Client) -> None:
    assert filled.rebuild_rollups(dry_run=True) == {"wrong": 0, "corrected": 0}
    assert filled.rebuild_rollups() == {"wrong": 0, "corrected": 0}
