"""What no one should send: one clear status and line, and nothing else lost."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from starlette.testclient import TestClient

from leyden.server.app import create_app
from leyden.settings import Settings
from server.test_store_protocol import SPAN, claim, enqueue

HOT_AND_COLD = [
    "/v1/agl/queues/rollouts/enqueue",
    "/v1/agl/rollouts/search",
    "/v1/agl/spans",
    "/api/runs",
    "/v1/agl/resources",
    "/api/analyze",
]


def complaint(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert "Traceback" not in answer.text
    assert "\n" not in body["error"]["message"]
    return answer.status_code, body["error"]["code"]


@pytest.mark.parametrize("path", HOT_AND_COLD)
@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'"text"', b"[[[[", b"NaN", b'{"rollouts": NaN}'])
def test_a_body_that_is_not_what_a_route_takes_is_a_4xx(http: Any, path: str, body: bytes) -> None:
    status, code = complaint(http.post(path, content=body))
    assert (status, code) in {(400, "bad_format"), (422, "invalid_body"), (400, "bad_input")}


@pytest.mark.parametrize("path", [*HOT_AND_COLD, "/v1/traces"])
def test_a_body_nested_ten_thousand_deep_is_refused_before_it_is_parsed(http: Any, path: str) -> None:
    body = b'{"rollouts":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert http.get("/readyz").status_code == 200


def zstd_stream(plain: bytes) -> bytes:
    """A frame that does not declare its size."""
    sender = zstandard.ZstdCompressor().compressobj()
    return sender.compress(plain) + sender.flush()


def test_a_body_may_be_zstd_and_half_of_one_is_refused(http: Any) -> None:
    plain = json.dumps({"rollouts": [{"input": "x" * 20_000}]}).encode()
    path, headers = "/v1/agl/queues/rollouts/enqueue", {"content-encoding": "zstd"}
    for packed in (zstandard.compress(plain), zstd_stream(plain)):
        assert http.post(path, content=packed, headers=headers).json()[0]["input"] == "x" * 20_000
        for broken in (packed[:-2], packed[:6], b"", packed + b"more", b"junk"):
            assert complaint(http.post(path, content=broken, headers=headers)) == (400, "bad_format")


def test_a_body_over_the_limit_is_refused_zipped_or_not(tmp_path: Any) -> None:
    with TestClient(create_app(Settings(db=str(tmp_path / "a.db"), max_body_bytes=10_000))) as http:
        plain = json.dumps({"rollouts": [{"input": "x" * 20_000}]}).encode()
        for path in HOT_AND_COLD:
            assert complaint(http.post(path, content=plain)) == (413, "too_large")
            zipped = http.post(path, content=gzip.compress(plain), headers={"content-encoding": "gzip"})
            assert complaint(zipped) == (413, "too_large")
            for packed in (zstandard.compress(plain), zstd_stream(plain)):
                zipped = http.post(path, content=packed, headers={"content-encoding": "zstd"})
                assert complaint(zipped) == (413, "too_large")
        assert complaint(
            http.post("/v1/agl/spans", content=b"junk", headers={"content-encoding": "gzip"})
        ) == (400, "bad_format")
        assert complaint(http.post("/v1/agl/spans", content=b"x", headers={"content-encoding": "br"})) == (
            400,
            "bad_format",
        )


def test_a_span_of_fifty_megabytes_is_refused_alone(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    good = {**SPAN, "rollout_id": rollout_id, "attempt_id": attempt_id, "span_id": "1" * 16}
    huge = {**good, "span_id": "2" * 16, "attributes": {"big": "x" * 50_000_000}}
    answer = http.post("/v1/agl/spans", json=[good, huge])
    assert answer.status_code == 201
    assert answer.json()[1]["error"]["code"] == "too_large"
    assert http.get("/v1/agl/spans", params={"rollout_id": rollout_id}).json()["total"] == 1


@pytest.mark.parametrize("bad", ["a\x00b", "x" * 10_000, ""])
@pytest.mark.parametrize("field", ["rollout_id", "attempt_id", "trace_id", "span_id"])
def test_an_id_that_no_database_should_hold_is_refused_alone(http: Any, field: str, bad: str) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    good = {**SPAN, "rollout_id": rollout_id, "attempt_id": attempt_id, "span_id": "1" * 16}
    answer = http.post("/v1/agl/spans", json=[{**good, field: bad}, good]).json()
    assert answer[0]["error"]["code"] in ("bad_input", "not_found")
    assert answer[1]["span_id"] == "1" * 16


@pytest.mark.parametrize(
    "rollout_id", ["a%2Fb", "%00", "x" * 10_000, "..%2F..%2Fetc", "ro-1%0A", "%F0%9F%92%A9"]
)
def test_a_strange_id_in_a_path_is_an_unknown_one(http: Any, rollout_id: str) -> None:
    for path in (
        f"/v1/agl/rollouts/{rollout_id}",
        f"/api/rollouts/{rollout_id}",
        f"/api/findings/{rollout_id}",
    ):
        assert http.get(path).status_code in (400, 404)
    assert http.post(
        f"/v1/agl/rollouts/{rollout_id}/attempts/latest", json={"status": "failed"}
    ).status_code in (400, 404, 405)
    assert http.get("/readyz").status_code == 200


def test_nul_inside_text_is_kept_out_of_the_columns_and_loses_nothing(http: Any) -> None:
    rollout_id = enqueue(http, input={"q": "a\x00b"}, metadata={"k": "\x00"})["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    odd = {
        **SPAN,
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "span_id": "1" * 16,
        "name": "a\x00b",
        "attributes": {"gen_ai.agent.name": "x\x00y"},
    }
    assert http.post("/v1/agl/spans", json=odd).json() == odd
    assert http.get("/v1/agl/spans", params={"rollout_id": rollout_id}).json()["items"] == [odd]
    assert "\x00" not in http.get(f"/api/rollouts/{rollout_id}/spans").json()["items"][0]["name"]
    assert http.get(f"/v1/agl/rollouts/{rollout_id}").json()["input"] == {"q": "a\x00b"}
    http.post(
        f"/v1/agl/rollouts/{rollout_id}/attempts/latest",
        json={"status": "failed", "failure_reason": "a\x00b"},
    )
    assert http.get(f"/v1/agl/rollouts/{rollout_id}").json()["failure_reason"] == "a\ufffdb"


def test_clocks_that_run_backwards_are_stored_as_they_came(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    attempt_id = claim(http)["attempt"]["attempt_id"]
    backwards = {
        **SPAN,
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "span_id": "1" * 16,
        "start_time": 9.5,
        "end_time": 2.25,
    }
    assert http.post("/v1/agl/spans", json=backwards).status_code == 201
    row = http.get(f"/api/rollouts/{rollout_id}/spans").json()["items"][0]
    assert (row["start_ns"], row["end_ns"]) == (9_500_000_000, 2_250_000_000)
    assert http.post("/api/analyze", json={}).status_code == 200


def test_numbers_that_no_column_holds_are_refused(http: Any) -> None:
    rollout_id = enqueue(http)["rollout_id"]
    claim(http)
    for change in ({"last_heartbeat_time": 1e400}, {"last_heartbeat_time": "soon"}, {"status": "sleeping"}):
        assert http.post(
            f"/v1/agl/rollouts/{rollout_id}/attempts/latest", content=json.dumps(change).encode()
        ).status_code in (400, 422)
    assert http.post(
        "/api/scores",
        content=b'[{"rollout_id":"%b","name":"x","value":1e999,"time":1}]' % rollout_id.encode(),
    ).status_code in (400, 422)


def test_malformed_otlp_is_a_400_with_a_status_and_keeps_the_server_up(http: Any) -> None:
    answer = http.post(
        "/v1/traces", content=b"\x0a\xff\xff", headers={"content-type": "application/x-protobuf"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/x-protobuf")
    answer = http.post("/v1/traces", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert http.post("/v1/traces", content=b"", headers={"content-type": "text/plain"}).status_code == 400
    assert http.get("/readyz").status_code == 200


def test_an_unknown_path_and_a_wrong_method_are_plain_errors(http: Any) -> None:
    assert complaint(http.get("/v1/nothing")) == (404, "not_found")
    assert http.get("/v1/nothing").json()["detail"] == "Not Found"
    assert complaint(http.put("/v1/agl/rollouts", content=b"{}"))[0] == 405


@pytest.mark.parametrize("start_time", [1e13, 1e300])
def test_a_rollout_that_says_it_began_in_a_far_age_leaves_the_queue_as_it_is(
    http: Any, start_time: float
) -> None:
    odd = {"rollout_id": "ro-odd", "attempt_id": "at-odd", "start_time": start_time}
    assert http.post("/api/rollouts", json=odd).status_code == 201
    first = enqueue(http, input="a task")["rollout_id"]
    assert claim(http)["rollout_id"] == first


ZIPPED = {"content-encoding": "gzip", "content-type": "application/json"}


def test_a_gzip_body_of_several_members_is_read_to_its_end(http: TestClient) -> None:
    plain = json.dumps({"input": "x" * 200_000}).encode()
    body = b"".join(gzip.compress(plain[at : at + 50_000]) for at in range(0, len(plain), 50_000))
    answer = http.post("/v1/agl/rollouts", content=body, headers=ZIPPED)
    assert (answer.status_code, answer.json()["input"]) == (201, "x" * 200_000)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b'{"input": 1}') + b"junk",
        gzip.compress(b'{"input": ') + gzip.compress(b"1}")[:-4],
        gzip.compress(b'{"input": 1}') + gzip.compress(b"") * 100_000,
        b"",
    ],
)
def test_a_gzip_body_that_is_none_to_its_end_is_refused(http: TestClient, body: bytes) -> None:
    answer = http.post("/v1/agl/rollouts", content=body, headers=ZIPPED)
    assert complaint(answer) == (400, "bad_format")


def test_many_members_grow_no_further_than_one(settings: Settings) -> None:
    with TestClient(create_app(replace(settings, max_body_bytes=1000))) as http:
        body = gzip.compress(b" " * 600)
        answer = http.post("/v1/agl/rollouts", content=body * 2, headers=ZIPPED)
    assert complaint(answer) == (413, "too_large")
