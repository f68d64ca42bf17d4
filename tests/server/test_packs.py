"""Packing over HTTP: nobody who reads can tell."""

from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings


def span(rollout_id: str, attempt_id: str, number: int) -> dict[str, object]:
    return {
        "rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": number, "trace_id": "7" * 32,
        "span_id": f"{number:016x}", "parent_id": None, "name": "chat", "status": {"status_code": "OK"},
        "attributes": {"gen_ai.prompt": f"say {number}", "tier": "gold"}, "events": [], "links": [],
        "start_time": 1.0, "end_time": 2.0, "context": None, "parent": None, "resource": {"attributes": {}},
    }  # fmt: skip


def test_spans_read_the_same_before_and_after_packing(settings: Settings) -> None:
    with Client(app=create_app(settings)) as client:
        begun = client.request("POST", "/v1/agl/rollouts", body={"input": 1})
        rollout_id, attempt_id = begun["rollout_id"], begun["attempt"]["attempt_id"]
        path = f"/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}"
        body = [span(rollout_id, attempt_id, n) for n in range(1, 40)]
        client.request("POST", "/v1/agl/spans", body=body)
        queries = [
            f"/v1/agl/spans?rollout_id={rollout_id}",
            f"/v1/agl/spans?rollout_id={rollout_id}&limit=3&offset=5",
            f"/api{path[7:]}/spans/{7:016x}",
            "/api/spans?attribute=tier:gold&limit=5",
        ]
        before = [client.request("GET", query) for query in queries]
        assert client.pack()["spans"] == 0, "it has not ended"
        client.request("POST", path, body={"status": "succeeded"})
        assert client.pack(after_s=3600)["spans"] == 0, "it ended just now"
        done = client.pack()
        assert (done["rollouts"], done["spans"], done["failed"]) == (1, 39, 0)
        assert done["packed_bytes"] < done["raw_bytes"]
        assert [client.request("GET", query) for query in queries] == before
