"""Agent Lightning 0.3's store protocol over HTTP, where clients rely on more than the shapes."""

import threading
from typing import Any

import pytest

SPAN: dict[str, Any] = {
    "attempt_id": "", "sequence_id": 0, "trace_id": "a" * 32, "parent_id": None, "name": "chat", "status": {"status_code": "OK"},
    "attributes": {"gen_ai.operation.name": "chat"}, "events": [], "links": [], "start_time": 1.25, "end_time": 2.5, "context": None,
    "parent": None, "resource": {"attributes": {}, "schema_url": ""},
}  # fmt: skip


def enqueue(http: Any, **item: Any) -> dict[str, Any]:
    answer = http.post("/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": {"q": 1}, **item}]})
    assert answer.status_code == 201
    return answer.json()[0]


def claim(http: Any, worker_id: str | None = None) -> dict[str, Any]:
    return http.post("/v1/agl/queues/rollouts/dequeue", json={"worker_id": worker_id}).json()[0]


def post_attempt(http: Any, rollout_id: str, attempt_id: str = "latest", **change: Any) -> Any:
    return http.post(f"/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}", json=change)


def test_the_key_attempt_is_absent_until_there_is_one(http: Any) -> None:
    queued = enqueue(http)
    assert "attempt" not in queued
    assert "attempt" not in http.get(f"/v1/agl/rollouts/{queued['rollout_id']}").json()
    assert claim(http)["attempt"]["sequence_id"] == 1
    assert "attempt" not in http.post(f"/v1/agl/rollouts/{queued['rollout_id']}", json={}).json()


def test_times_come_back_as_the_very_same_doubles(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    claim(http)
    for written in (1234.5, 1795218059.5859444, 0.1 + 0.2, 1e-9):
        post_attempt(http, rollout_id, last_heartbeat_time=written)
        assert (
            http.get(f"/v1/agl/rollouts/{rollout_id}/attempts/latest").json()["last_heartbeat_time"]
            == written
        )


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/agl/rollouts/ro-x", {"status": "failed"}, "Item does not exist with primary key(s): ro-x"),
        ("/v1/agl/rollouts/ro-x/attempts", {}, "Rollout ro-x not found"),
        ("/v1/agl/rollouts/ro-x/attempts/latest", {"status": "failed"}, "Rollout ro-x not found"),
        (
            "/v1/agl/spans",
            {**SPAN, "rollout_id": "ro-x", "attempt_id": "at-x", "span_id": "b" * 16},
            "Rollout ro-x not found",
        ),
    ],
)
def test_an_unknown_id_is_a_404_with_the_words_that_clients_look_for(
    http: Any, path: str, body: Any, text: str
) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["detail"]) == (404, text)
    assert answer.json()["error"]["code"] == "not_found"


def test_an_unknown_attempt_is_told_from_a_rollout_without_any(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    assert (
        post_attempt(http, rollout_id, status="failed").json()["detail"]
        == f"No attempts found for rollout {rollout_id}"
    )
    claim(http)
    assert (
        post_attempt(http, rollout_id, "at-x", status="failed").json()["detail"]
        == f"Attempt at-x not found for rollout {rollout_id}"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/agl/workers/nobody",
        "/v1/agl/resources/none",
        "/v1/agl/resources/latest",
        "/v1/agl/rollouts/ro-x/attempts/latest",
    ],
)
def test_where_nothing_is_a_normal_answer_it_is_null(http: Any, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()) == (200, None)


def test_null_where_no_null_may_be_is_named(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    claim(http, "w1")
    for path, field in [
        (f"rollouts/{rollout_id}", "status"),
        (f"rollouts/{rollout_id}/attempts/latest", "metadata"),
        ("workers/w1", "heartbeat_stats"),
    ]:
        answer = http.post(f"/v1/agl/{path}", json={field: None})
        assert (answer.status_code, answer.json()["detail"]) == (
            400,
            f"{field} is invalid; it cannot be a null value.",
        )


def test_an_absent_list_is_no_filter_and_an_empty_one_matches_nothing(http: Any) -> None:
    enqueue(http)
    assert http.post("/v1/agl/rollouts/search", json={}).json()["total"] == 1
    assert http.post("/v1/agl/rollouts/search", json={"status_in": []}).json()["total"] == 0
    assert http.get("/v1/agl/rollouts").json()["total"] == 1


def test_nulls_sort_where_the_protocol_puts_them(http: Any) -> None:
    modes = ["val", None, "train"]
    for mode in modes:
        enqueue(http, mode=mode)
    done = claim(http)
    post_attempt(http, done["rollout_id"], status="succeeded")

    def column(field: str, order: str) -> list[Any]:
        found = http.post("/v1/agl/rollouts/search", json={"sort_by": field, "sort_order": order}).json()[
            "items"
        ]
        return [item[field] is None if field == "end_time" else item[field] for item in found]

    assert column("mode", "asc") == [None, "train", "val"]
    assert column("mode", "desc") == ["val", "train", None]
    assert column("end_time", "asc") == [False, True, True]
    assert column("end_time", "desc") == [True, True, False]


def test_the_stock_dashboards_extra_filters_and_sorts_are_accepted(http: Any) -> None:
    enqueue(http, mode="train")
    for name in ("attempt_id", "duration", "last_heartbeat_time", "worker_id"):
        assert http.get("/v1/agl/rollouts", params={"mode_in": "train", "sort_by": name}).json()["total"] == 1
    rollout_id = claim(http)["rollout_id"]
    for name in ("status_code", "duration"):
        assert (
            http.get("/v1/agl/spans", params={"rollout_id": rollout_id, "sort_by": name}).status_code == 200
        )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": 0}, "Limit must be greater than 0 or -1 for no limit"),
        ({"limit": -2}, "Limit must be greater than 0 or -1 for no limit"),
        ({"offset": -1}, "Offset must be greater than or equal to 0"),
        ({"sort_by": "colour"}, "Invalid sort_by: colour, allowed fields are: "),
    ],
)
def test_a_page_that_cannot_be_is_a_400_in_the_known_words(
    http: Any, query: dict[str, Any], text: str
) -> None:
    answer = http.get("/v1/agl/rollouts", params=query)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(text)


def test_fields_that_a_span_does_not_have_in_the_protocol_come_back_unchanged(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    sent = {
        **SPAN,
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "span_id": "b" * 16,
        "sequence_id": 3,
        "kind": "CLIENT",
        "mine": {"a": [1, None]},
    }
    answer = http.post("/v1/agl/spans", json=sent)
    assert (answer.status_code, answer.json()) == (201, sent)
    assert http.post("/v1/agl/spans", json=sent).json() is None
    assert http.get("/v1/agl/spans", params={"rollout_id": rollout_id}).json()["items"] == [sent]


def test_a_list_of_spans_is_taken_at_once_and_each_stands_alone(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    good = {**SPAN, "rollout_id": rollout_id, "attempt_id": attempt_id, "span_id": "1" * 16}
    answer = http.post(
        "/v1/agl/spans",
        json=[good, good, {**good, "rollout_id": "ro-x"}, {"name": "no ids"}, {**good, "span_id": "2" * 16}],
    )
    kinds = ["null" if item is None else "error" if "error" in item else "span" for item in answer.json()]
    assert (answer.status_code, kinds) == (201, ["span", "null", "error", "error", "span"])


def test_a_resources_id_that_was_made_is_rs_and_twelve_characters_and_updates_count_up(http: Any) -> None:
    llm = {"resource_type": "llm", "endpoint": "http://x/v1", "model": "m"}
    made = http.post("/v1/agl/resources", json={"z": llm, "a": llm}).json()
    assert (len(made["resources_id"]), made["resources_id"][:3], made["version"]) == (15, "rs-", 1)
    assert list(made["resources"]) == ["z", "a"]  # agents take the first of a type
    again = http.post(f"/v1/agl/resources/{made['resources_id']}", json={"a": llm}).json()
    assert (again["version"], again["create_time"]) == (2, made["create_time"])
    assert again["update_time"] > made["update_time"]
    http.post("/v1/agl/resources/team%2Fv0", json={"a": llm})
    assert http.get("/v1/agl/resources/latest").json()["resources_id"] == "team/v0"
    assert enqueue(http)["resources_id"] == "team/v0"


def test_a_wait_wakes_up_when_the_rollout_ends(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    claim(http)
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            http.post(
                "/v1/agl/waits/rollouts", json={"rollout_ids": [rollout_id, "ro-x"], "timeout": 30}
            ).json()
        )
    )
    waiting.start()
    assert http.post("/v1/agl/waits/rollouts", json={"rollout_ids": [rollout_id], "timeout": 0}).json() == []
    post_attempt(http, rollout_id, status="succeeded")
    waiting.join(10)
    assert [item["rollout_id"] for item in answers[0]] == [rollout_id]
    assert "attempt" not in answers[0][0]


def test_a_long_poll_gets_work_that_arrives_later(http: Any) -> None:
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            http.post("/v1/agl/queues/rollouts/dequeue", json={"wait_seconds": 30}).json()
        )
    )
    waiting.start()
    rollout_id = enqueue(http)["rollout_id"]
    waiting.join(10)
    assert [item["rollout_id"] for item in answers[0]] == [rollout_id]


def test_an_ended_attempt_may_be_relabelled_but_not_revived(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    claim(http)
    post_attempt(http, rollout_id, status="succeeded")
    assert (
        post_attempt(http, rollout_id, status="failed", failure_reason="checked").json()["failure_reason"]
        == "checked"
    )
    assert http.get(f"/v1/agl/rollouts/{rollout_id}").json()["status"] == "succeeded"
    revived = post_attempt(http, rollout_id, status="running")
    assert (revived.status_code, revived.json()["error"]["code"]) == (409, "invalid_transition")
    assert "start a new attempt" in revived.json()["error"]["hint"]
    assert http.post(f"/v1/agl/rollouts/{rollout_id}/attempts").json()["attempt"]["sequence_id"] == 2
    assert http.get(f"/v1/agl/rollouts/{rollout_id}").json()["end_time"] is None


def test_deleting_a_rollout_makes_it_unknown(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    assert http.delete(f"/v1/agl/rollouts/{rollout_id}").status_code == 204
    assert http.get(f"/v1/agl/rollouts/{rollout_id}").status_code == 404


def test_spans_are_found_across_rollouts_by_time_column_and_attribute(http: Any) -> None:
    for number, attributes in enumerate(
        [{"user.id": "42", "retry": True}, {"user.id": "421"}, {"user.id": "42", "n": 7}]
    ):
        rollout_id = enqueue(http)["rollout_id"]
        attempt_id = claim(http)["attempt"]["attempt_id"]
        span = {
            **SPAN,
            "rollout_id": rollout_id,
            "attempt_id": attempt_id,
            "span_id": f"{number:016x}",
            "start_time": 10.0 + number,
        }
        http.post("/v1/agl/spans", json={**span, "attributes": {**SPAN["attributes"], **attributes}})

    def found(**query: Any) -> list[str]:
        answer = http.get("/api/spans", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == len(answer.json()["items"])
        return [item["span_id"][-1] for item in answer.json()["items"]]

    assert found() == ["2", "1", "0"]
    assert found(attribute="user.id:42") == ["2", "0"]
    assert found(attribute=["user.id:42", "n:7"]) == ["2"]
    assert found(attribute="retry:true") == ["0"]
    assert found(since_ns=11_000_000_000, until_ns=12_000_000_000) == ["1"]
    assert found(kind="llm", since_ns=12_000_000_000) == ["2"]
    assert found(tool="none") == []
    assert http.get("/api/spans", params={"attribute": "no colon"}).status_code == 400
