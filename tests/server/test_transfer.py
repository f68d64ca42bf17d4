"""A project out of one store and into another: everything that can be asked for comes back equal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest.otlp_bodies import request
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings
from leyden.types import PromptTemplate, RolloutConfig

ODD = 'Grüße "日本" \U0001f600 \t\n end'


@contextmanager
def opened(db: str) -> Iterator[Client]:
    with Client(app=create_app(Settings(db=db))) as client:
        yield client


def span(rollout_id: str, attempt_id: str, span_id: str, **over: Any) -> dict[str, Any]:
    return {
        "rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": 0, "trace_id": "0" * 31 + "1", "span_id": span_id,
        "parent_id": None, "name": "work", "status": {"status_code": "OK", "description": None}, "attributes": {}, "events": [],
        "links": [], "start_time": 1_800_000_000.1, "end_time": 1_800_000_001.7, "context": None, "parent": None,
        "resource": {"attributes": {}, "schema_url": ""}, **over,
    }  # fmt: skip


def fill(client: Client) -> None:
    """Something of every kind."""
    client.update_resources("res", {"p": PromptTemplate(template="a {x}", engine="f-string")})
    client.update_resources("res", {"p": PromptTemplate(template="b {x}", engine="f-string")})
    config = RolloutConfig(max_attempts=3, retry_condition=["failed"], timeout_seconds=1e6)  # pyright: ignore[reportArgumentType]
    for n in range(6):
        client.enqueue(
            {"task": n, "text": ODD},
            mode="train",
            metadata={"n": n, "ü": None},
            config=config,
            idempotency_key=f"key-{n}",
        )
    claimed = client.dequeue("w-1", limit=4)
    for n, item in enumerate(claimed):
        ids = item.rollout_id, item.attempt.attempt_id
        odd = {"reward": 0.1 + n, "big": 2**53 + 1, "text": ODD, "nul": "a\0b", "list": [1, {"x": None}]}
        client.add_spans(
            [span(*ids, f"{i:016x}", attributes=odd, sequence_id=5 * (i % 2)) for i in range(1, 5)]
        )
        resource = {"agentlightning.rollout_id": ids[0], "agentlightning.attempt_id": ids[1]}
        client.export_otlp(
            request({"attributes": {"x": 1}, "name": ODD}, resource=resource).SerializeToString()
        )
        client.add_scores(
            [{"rollout_id": ids[0], "name": "helpful", "value": 0.1 + n, "source": "human", "time": 1.5}]
        )
        client.update_attempt(*ids, status=["succeeded", "failed", "failed", "running"][n], metadata={"a": 1})
    client.update_rollout(claimed[2].rollout_id, status="cancelled")
    client.export_otlp(request({"trace_id": bytes(range(3, 19)), "status": (2, "broke")}).SerializeToString())
    client.analyze()
    for finding in client.findings().items[:1]:
        client.set_finding_status(finding.fingerprint, "accepted")


def exported(client: Client, **which: Any) -> bytes:
    with client.export(**which) as pieces:
        return b"".join(pieces)


def body(export: bytes) -> bytes:
    return export.split(b"\n", 1)[1]


def everything(client: Client) -> dict[str, Any]:
    """What the store protocol and the API show."""
    shown: dict[str, Any] = {
        "rollouts": client.request("POST", "/v1/agl/rollouts/search", body={"limit": -1}),
        "runs": client.request("GET", "/api/rollouts", params={"limit": -1}),
        "resources": client.request("GET", "/v1/agl/resources", params={"limit": -1}),
        "workers": client.request("GET", "/v1/agl/workers", params={"limit": -1}),
        "findings": client.request("GET", "/api/findings"),
    }
    for item in shown["rollouts"]["items"]:
        rollout_id = item["rollout_id"]
        shown[rollout_id] = [
            client.request("GET", f"/api/rollouts/{rollout_id}"),
            client.request("GET", f"/api/rollouts/{rollout_id}/spans"),
            client.request("POST", "/v1/agl/spans/search", body={"rollout_id": rollout_id}),
        ]
    return shown


def test_an_export_put_into_another_store_shows_the_same_and_exports_the_same(
    client: Client, tmp_path: Path
) -> None:
    fill(client)
    made = exported(client)
    with opened(str(tmp_path / "other.db")) as other:
        answer = other.import_export([made])
        assert (answer["left"], answer["conflicts"]) == (0, [])
        assert everything(other) == everything(client)
        assert body(exported(other)) == body(made)
        again = other.import_export([made[i : i + 100] for i in range(0, len(made), 100)])
        assert sum(again["added"].values()) == 0
        assert again["unchanged"] == answer["added"]
        assert body(exported(other)) == body(made)
        assert [r.rollout_id for r in other.dequeue(limit=9)] == [
            r.rollout_id for r in client.dequeue(limit=9)
        ]
