"""A project out of one store and into another: everything that can be asked for comes back equal."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingest.otlp_bodies import request
from leyden.errors import BadFormat, BadInput
from leyden.ingest.export_lines import Seal, encode
from leyden.ingest.readers import READERS
from leyden.ingest.record import RecordedRun
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.server.auth import scope_needed
from leyden.settings import Settings
from leyden.store import model_calls, spend, tables
from leyden.store.model_calls import Seen
from leyden.store.opening import open_store
from leyden.types import PromptTemplate, RolloutConfig
from store.test_spend import DAY, make_call

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


def spend_some(db: str, client: Client, *, usd: float = 0.25) -> list[str]:
    """What a gateway leaves behind: prices, spend per day and rollout, and calls that an SDK may still report."""
    client.set_price("ollama/*", {"input": 1.5, "output": 2.0})
    ids = [one.rollout_id for one in client.rollouts().items][:3]
    store = open_store(Settings(db=db))
    calls = [make_call(rollout_id=id_, usd=usd, day=DAY + n, agent=ODD) for n, id_ in enumerate(ids)]
    seen = [
        Seen(id_, (f"chatcmpl-{n:05}",), n, n + 10)
        for id_ in ids[:2]
        for n in range(model_calls.MOST_IDS + 5)
    ]
    store.writer.run(lambda tx: spend.add(tx, calls))
    store.writer.run(lambda tx: model_calls.remember(tx, seen))
    store.close()
    return ids


def booked(db: str) -> dict[str, Any]:
    """Rows of what a gateway leaves behind."""
    found: dict[str, Any] = {}
    store = open_store(Settings(db=db))
    with store.database.read() as tx:
        for table in (tables.price_override, tables.spend, tables.spend_rollout):
            found[table.name] = sorted(tuple(row) for row in tx.all(sa.select(table)))
    store.close()
    return found


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
        "chart": client.request(
            "GET", "/api/metrics/chart", params={"since": 0, "by": "tool", "grain": "day"}
        ),
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


def test_what_calls_cost_comes_back_once_with_prices_and_calls_that_may_be_reported(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    fill(client)
    ids = spend_some(settings.db, client)
    made, other_db = exported(client), str(tmp_path / "other.db")
    with opened(other_db) as other:
        answer = other.import_export([made])
        assert (answer["left"], answer["conflicts"]) == (0, [])
        counts = {noun: answer["added"][noun] for noun in ("price", "spend", "rollout_spend", "model_call")}
        assert counts == {"price": 1, "spend": 3, "rollout_spend": 3, "model_call": 2 * model_calls.MOST_IDS}
        again = other.import_export([made])
        assert (sum(again["added"].values()), again["left"]) == (0, 0)
        assert body(exported(other)) == body(made)
        assert booked(other_db) == booked(settings.db)
        # The last call is reported late: it is counted as the call that the gateway saw.
        told = {
            "gen_ai.response.id": f"chatcmpl-{model_calls.MOST_IDS + 4:05}",
            "gen_ai.operation.name": "chat",
        }
        attempt_id = other.attempts(ids[0]).items[-1].attempt_id
        other.add_spans([span(ids[0], attempt_id, "f" * 16, name="chat", attributes=told)])
        kinds = other.request("GET", f"/api/rollouts/{ids[0]}/spans")["items"]
        assert [one["kind"] for one in kinds if one["span_id"] == "f" * 16] == ["span"]


def test_spend_that_differs_stays_as_it_is_and_is_named(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    fill(client)
    spend_some(settings.db, client)
    before = exported(client)
    spend_some(settings.db, client)
    with opened(str(tmp_path / "other.db")) as other:
        other.import_export([exported(client)])
        held = booked(str(tmp_path / "other.db"))
        answer = other.import_export([before])
        assert answer["left"] == 7  # three days, three rollouts, and the price that was set again
        assert sum(answer["added"].values()) == 0
        assert any(line.startswith(f"spend {DAY} key-1 ") for line in answer["conflicts"])
        assert booked(str(tmp_path / "other.db")) == held


def test_spend_and_prices_go_with_the_whole_and_a_rollouts_with_it(
    client: Client, settings: Settings
) -> None:
    fill(client)
    [one, *_] = spend_some(settings.db, client)
    nouns = Counter(json.loads(line)["type"] for line in exported(client, rollout_ids=[one]).splitlines())
    assert (nouns["rollout_spend"], nouns["model_call"]) == (1, model_calls.MOST_IDS)
    assert (nouns["spend"], nouns["price"]) == (0, 0)


def test_an_export_of_version_1_is_read(client: Client) -> None:
    assert client.rollouts().total == 0
    seal = Seal()
    seal.add(ROLLOUT, "rollout")
    client.import_export([HEAD, ROLLOUT, seal.end()])
    assert client.rollouts().total == 1


def test_a_price_that_is_none_is_left_out(client: Client) -> None:
    seal, bad = Seal(), [encode("price", ("m", rates, 1.0)) for rates in ('{"input": -1}', "nonsense", "[]")]
    for line in bad:
        seal.add(line, "price")
    answer = client.import_export([HEAD, *bad, seal.end()])
    assert answer["conflicts"] == ["price m: its rates are none"] * 3
    assert client.prices() == []


def test_a_store_survives_the_way_to_the_other_database_and_back(
    postgres_database: str, tmp_path: Path
) -> None:
    with opened(str(tmp_path / "a.db")) as first, opened(postgres_database) as second:
        fill(first)
        made = exported(first)
        assert second.import_export([made])["left"] == 0
        assert everything(second) == everything(first)
        with opened(str(tmp_path / "b.db")) as third:
            third.import_export([exported(second)])
            assert body(exported(third)) == body(made)
            assert everything(third) == everything(first)


@pytest.mark.parametrize(
    ("reader", "parts"),
    [
        ("otel-json", ("trail", "data", "GAIA")),
        ("tau-bench", ("tau-bench", "gpt-4o-airline.json")),
        ("claude-code", ("claude-code-offline", "messages.jsonl")),
    ],
)
def test_recorded_runs_come_back_byte_for_byte(
    client: Client, tmp_path: Path, data_dir: Path, reader: str, parts: tuple[str, ...]
) -> None:
    runs = [run for run in READERS[reader].read(data_dir.joinpath(*parts)) if isinstance(run, RecordedRun)][
        :12
    ]
    client.import_runs(runs)
    made = exported(client)
    with opened(str(tmp_path / "other.db")) as other:
        answer = other.import_export([made])
        assert (answer["added"]["rollout"], answer["left"]) == (len(runs), 0)
        assert body(exported(other)) == body(made)
        ours, theirs = (which.analyze(save=False) | {"generated_at": 0} for which in (client, other))
        assert ours == theirs


def test_otlp_json_of_an_export_is_filed_under_the_same_rollouts(client: Client) -> None:
    fill(client)
    before = everything(client)
    for line in exported(client, format="otlp-json").splitlines():
        client.export_otlp(line, "application/json")
    after = everything(client)
    assert [item["spans"] for item in after["runs"]["items"]] == [
        item["spans"] for item in before["runs"]["items"]
    ]


def test_packed_rollouts_are_exported_as_they_were(client: Client, tmp_path: Path) -> None:
    fill(client)
    made = exported(client)
    client.pack()
    assert body(exported(client)) == body(made)
    with opened(str(tmp_path / "other.db")) as other:
        other.import_export([made])
        other.pack()
        assert sum(other.import_export([made])["added"].values()) == 0
        assert body(exported(other)) == body(made)


def test_a_rollout_larger_than_a_slice_keeps_its_order(client: Client, tmp_path: Path) -> None:
    made = client.start_rollout({"task": 1})
    ids = made.rollout_id, made.attempt.attempt_id
    client.add_spans([span(*ids, f"{i:016x}", sequence_id=i % 7) for i in range(1, 2600)])
    with opened(str(tmp_path / "other.db")) as other:
        other.import_export([exported(client)])
        assert [s.span_id for s in other.spans(ids[0]).items] == [
            s.span_id for s in client.spans(ids[0]).items
        ]
        assert body(exported(other)) == body(exported(client))


def test_an_import_that_broke_off_goes_on_where_it_stopped(client: Client, tmp_path: Path) -> None:
    fill(client)
    made = exported(client)
    lines = made.splitlines(keepends=True)
    with opened(str(tmp_path / "other.db")) as other:
        for cut in (len(lines) // 3, len(lines) // 2, len(lines) - 1):
            with pytest.raises(BadFormat, match="cut short"):
                other.import_export(lines[:cut])
        answer = other.import_export(lines)
        assert answer["left"] == 0
        assert everything(other) == everything(client)


def test_a_broken_line_keeps_what_came_before_it(client: Client) -> None:
    with pytest.raises(
        BadFormat, match=r"^Line 3 of the export: .*; 1 rollouts and 0 spans before it are in the store$"
    ):
        client.import_export([HEAD, ROLLOUT, b'{"type":"span","rollout_id":7}\n'])
    assert client.rollouts().total == 1


HEAD = b'{"type":"header","format":"leyden-export","version":1}\n'
ROLLOUT = b'{"type":"rollout","rollout_id":"ro-1","status":"running","input":1,"config":{},"start_time":1.0,"attempts":0,"span_seq":0}\n'


def test_a_rollout_of_another_project_is_left_alone(client: Client) -> None:
    fill(client)
    client.wire.key, made = (
        client.create_key("theirs", scopes=["admin"], project="theirs")["key"],
        exported(client),
    )
    answer = client.import_export([made])
    assert answer["added"]["rollout"] == 0
    assert answer["added"]["resources"] == 2
    assert answer["left"] == 7
    assert client.rollouts().total == 0


def test_over_a_port_both_ways_stream_and_say_what_is_wrong(client: Client, server_url: str) -> None:
    fill(client)
    made = exported(client)
    with Client(server_url) as remote:
        pieces = (made[i : i + 1000] for i in range(0, len(made), 1000))
        assert remote.import_export(pieces)["left"] == 0
        assert body(exported(remote)) == body(made)
        with pytest.raises(BadFormat, match="no export of Leyden"):
            remote.import_export(iter([b"x" * 100_000 + b"\n"] * 100))
        with remote.export() as pieces:
            next(pieces)  # and leave


def test_what_fails_while_it_is_read_is_told_as_it_is(client: Client) -> None:
    def broken() -> Iterator[bytes]:
        yield HEAD
        raise BadInput("the disk is gone")

    with pytest.raises(BadInput, match="the disk is gone"):
        client.import_export(broken())


def test_importing_needs_an_admin_and_exporting_a_reader() -> None:
    assert scope_needed("POST", "/api/import") == "admin"
    assert scope_needed("GET", "/api/export") == "read"


def test_secrets_stay(client: Client) -> None:
    made = client.create_key("mine", scopes=["read"])
    assert made["key"].encode() not in exported(client)
    assert b"hash" not in exported(client).replace(b"content_hash", b"").replace(b"call_hash", b"")
