"""The filter parameter over HTTP: answers, errors that point, values that stay values, projects that stay apart."""

from typing import Any

import pytest

from leyden.errors import BadInput
from leyden.sdk.client import Client

SPAN = {
    "trace_id": "t1", "parent_id": None, "name": "search", "status": {"status_code": "ERROR", "description": "connection refused"},
    "attributes": {"gen_ai.tool.name": "search", "gen_ai.operation.name": "execute_tool", "user.id": "42"}, "events": [], "links": [],
    "end_time": None, "context": None, "parent": None, "resource": {"attributes": {}, "schema_url": ""}, "sequence_id": 1,
}  # fmt: skip


@pytest.fixture
def rollout_id(client: Client) -> str:
    """A rollout with five spans of a failing tool."""
    started = client.start_rollout({"question": "why?"})
    for n in range(5):
        ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id, "span_id": f"s{n}"}
        client.add_span({**SPAN, **ids, "start_time": 1_700_000_000.0 + n})
    return started.rollout_id


def test_spans_are_filtered_and_walked_by_cursor(client: Client, rollout_id: str) -> None:
    page = client.find_spans('tool:search status:error "connection refused" attr.user.id:42', limit=2)
    assert [item.span_id for item in page.items] == ["s4", "s3"]
    assert (page.total > 2, page.next_cursor is not None) == (True, True)
    rest = client.find_spans("tool:search", limit=10, cursor=page.next_cursor)
    assert [item.span_id for item in rest.items] == ["s2", "s1", "s0"]
    assert rest.next_cursor is None
    counted = client.find_spans("tool:search status:error", limit=2)
    assert (counted.total, counted.total_is_exact) == (5, True)
    assert client.find_spans("status:error", tool="other").total == 0


def test_rollouts_and_analysis_are_filtered(client: Client, rollout_id: str) -> None:
    client.start_rollout("another")
    found = client.list_rollouts("errors>=5 question")
    assert [item.rollout_id for item in found.items] == [rollout_id]
    assert client.analyze("span.tool:search", save=False)["totals"]["runs"] == 1
    assert client.analyze("span.tool:other", save=False)["totals"]["runs"] == 0


@pytest.mark.parametrize("call", ["find_spans", "list_rollouts", "analyze"])
def test_a_filter_that_is_none_is_refused_with_its_column(client: Client, call: str) -> None:
    with pytest.raises(BadInput) as caught:
        getattr(client, call)("status:* stauts:error")
    assert caught.value.message == "unknown field 'stauts' at column 10; did you mean 'status'?"
    assert (caught.value.hint or "").endswith("\n         ^")


INJECTIONS = [
    "' OR 1=1 --",
    "'; DROP TABLE span; --",
    "%' OR '1'='1",
    "\\",
    "x') OR ('1'='1",
    ":name",
    "%(name)s",
    "?1",
    "{}",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.usefixtures("rollout_id")
def test_what_looks_like_sql_stays_a_value(client: Client, text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for field in ("agent", "name", "message", "error", "attr.user.id"):
        assert client.find_spans(f"{field}:{quoted}").total == 0
    assert client.find_spans(quoted).total == 0
    for field in ("id", "input", "worker", "span.tool"):
        assert client.list_rollouts(f"{field}:{quoted}").total == 0
    assert client.find_spans().total == 5


@pytest.mark.parametrize("cursor", ["x", "1", "1.", ".x", "1.2.3", "9" * 30 + ".1", "1." + "9" * 30, "٣.٣"])
def test_a_cursor_that_is_none_is_refused(client: Client, cursor: str) -> None:
    with pytest.raises(BadInput, match="cursor"):
        client.find_spans(cursor=cursor)


def test_filters_never_show_another_project(client: Client, rollout_id: str) -> None:
    key: Any = client.create_key("other", scopes=["read"], project="other")["key"]
    client.wire.key = key
    for text in ("", "-agent:nobody", "tool:search OR status:*", "attr.user.id:42", "refused"):
        assert client.find_spans(text).total == 0
    assert client.list_rollouts("span.tool:search OR -id:x").total == 0
