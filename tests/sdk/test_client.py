import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import leyden
from fakes.sink import Sink
from leyden import errors
from leyden.sdk.client import UNSET, Client
from leyden.types import LLM, AttemptedRollout, Finding, KeyLimits, Rollout, RolloutStatus, Span, SpanSummary

ROLLOUT = {"rollout_id": "ro-1", "input": 1, "start_time": 5.5, "status": "running", "config": {}}
ATTEMPT = {
    "rollout_id": "ro-1",
    "attempt_id": "at-1",
    "sequence_id": 1,
    "start_time": 5.5,
    "status": "running",
}
ATTEMPTED = ROLLOUT | {"attempt": ATTEMPT}
WORKER = {"worker_id": "w", "status": "idle"}
RESOURCES = {
    "resources_id": "rs-1",
    "create_time": 1.0,
    "update_time": 2.0,
    "version": 1,
    "resources": {"main": {"resource_type": "llm", "endpoint": "http://x", "model": "m"}},
}
SPAN = {
    "rollout_id": "ro-1",
    "attempt_id": "at-1",
    "sequence_id": 1,
    "trace_id": "t",
    "span_id": "s",
    "parent_id": None,
    "name": "n",
    "status": {"status_code": "OK", "description": None},
    "attributes": {},
    "events": [],
    "links": [],
    "start_time": 1.0,
    "end_time": 2.0,
    "context": None,
    "parent": None,
    "resource": {"attributes": {}, "schema_url": ""},
    "kind_of_mine": "kept",
}
SUMMARY = {
    k: SPAN[k]
    for k in ("rollout_id", "attempt_id", "sequence_id", "trace_id", "span_id", "parent_id", "name")
} | {
    "kind": "tool",
    "status": "ok",
    "start_ns": 1,
    "end_ns": 2,
}
FINDING = {
    "fingerprint": "f",
    "kind": "error",
    "severity": "high",
    "title": "t",
    "recommendation": "r",
    "impact": {"occurrences": 1, "runs": 1},
    "evidence": [["ro-1", "at-1", "s"]],
}
SCORE = {"rollout_id": "ro-1", "name": "reward", "value": 1.0, "time": 1.0}


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "limit": -1, "offset": 0, "total": len(items)}


class Scripted:
    """An application that gives one answer and remembers the request."""

    def __init__(self) -> None:
        self.status, self.answer = 200, None
        self.seen: list[tuple[str, str, Any]] = []
        self.headers: dict[str, str] = {}
        self.app = Starlette(
            routes=[Route("/{path:path}", self.handle, methods=["GET", "POST", "PUT", "DELETE"])]
        )

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        path = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append((request.method, path, json.loads(body) if body else None))
        self.headers = dict(request.headers)
        return (
            JSONResponse(self.answer, self.status) if self.answer is not None else Response(status_code=204)
        )


@pytest.fixture
def server() -> Scripted:
    return Scripted()


A, B = "/v1/agl", "/api"
UPDATED = {"status": "failed", "failure_reason": "x"}
CALLS: list[tuple[Callable[[Client], Any], Any, str, str, Any, Any]] = [
    (lambda c: c.enqueue({"t": 1}, idempotency_key="k").rollout_id, [ROLLOUT], "POST", f"{A}/queues/rollouts/enqueue", {"rollouts": [{"input": {"t": 1}, "mode": None, "resources_id": None, "config": None, "metadata": None, "idempotency_key": "k"}]}, "ro-1"),
    (lambda c: c.dequeue("w", limit=2), [ATTEMPTED], "POST", f"{A}/queues/rollouts/dequeue", {"limit": 2, "worker_id": "w"}, list),
    (lambda c: c.dequeue(wait_seconds=3), [], "POST", f"{A}/queues/rollouts/dequeue", {"limit": 1, "worker_id": None, "wait_seconds": 3}, []),
    (lambda c: c.start_rollout(1, mode="val"), ATTEMPTED, "POST", f"{A}/rollouts", {"input": 1, "mode": "val", "resources_id": None, "config": None, "metadata": None, "worker_id": None}, AttemptedRollout),
    (lambda c: c.register_rollout("r", "a", input=1, start_time=2.0), ATTEMPTED, "POST", f"{B}/rollouts", {"rollout_id": "r", "attempt_id": "a", "input": 1, "mode": None, "resources_id": None, "metadata": None, "config": None, "start_time": 2.0}, AttemptedRollout),
    (lambda c: c.start_attempt("ro-1", worker_id="w"), ATTEMPTED, "POST", f"{A}/rollouts/ro-1/attempts", {"worker_id": "w"}, AttemptedRollout),
    (lambda c: type(c.rollout("a/b ü")), ROLLOUT, "GET", f"{A}/rollouts/a%2Fb%20%C3%BC", None, Rollout),
    (lambda c: [type(i) for i in c.rollouts(status_in=[], limit=5).items], page(ROLLOUT, ATTEMPTED), "POST", f"{A}/rollouts/search", {"status_in": [], "filter_logic": "and", "sort_order": "asc", "limit": 5, "offset": 0}, [Rollout, AttemptedRollout]),
    (lambda c: c.update_rollout("ro-1", mode=None), ROLLOUT, "POST", f"{A}/rollouts/ro-1", {"mode": None}, Rollout),
    (lambda c: c.update_rollout("ro-1", status=RolloutStatus.CANCELLED), ROLLOUT, "POST", f"{A}/rollouts/ro-1", {"status": "cancelled"}, Rollout),
    (lambda c: c.delete_rollout("ro-1"), None, "DELETE", f"{A}/rollouts/ro-1", None, None),
    (lambda c: c.wait(["ro-1"], 0), [ROLLOUT], "POST", f"{A}/waits/rollouts", {"rollout_ids": ["ro-1"], "timeout": 0.0}, list),
    (lambda c: c.attempts("ro-1").total, page(ATTEMPT), "GET", f"{A}/rollouts/ro-1/attempts?sort_by=sequence_id&sort_order=asc&limit=-1&offset=0", None, 1),
    (lambda c: c.latest_attempt("ro-1").attempt_id, ATTEMPT, "GET", f"{A}/rollouts/ro-1/attempts/latest", None, "at-1"),
    (lambda c: c.update_attempt("ro-1", status="failed", failure_reason="x").attempt_id, ATTEMPT, "POST", f"{A}/rollouts/ro-1/attempts/latest", UPDATED, "at-1"),
    (lambda c: c.list_rollouts(mode="train", q="x").items[0].reward, page(ROLLOUT | {"attempts": 1, "spans": 2, "errors": 0, "reward": 0.5}), "GET", f"{B}/rollouts?mode=train&q=x&limit=50&offset=0", None, 0.5),
    (lambda c: c.rollout_detail("ro-1").scores[0].value, ROLLOUT | {"scores": [SCORE], "attempt_list": [ATTEMPT]}, "GET", f"{B}/rollouts/ro-1", None, 1.0),
    (lambda c: c.import_runs([{"rollout_id": "r"}])["imported"], {"imported": 1, "unchanged": 0, "spans": 0, "rejected": []}, "POST", f"{B}/runs", {"runs": [{"rollout_id": "r"}]}, 1),
    (lambda c: c.add_span(SPAN).model_extra, SPAN, "POST", f"{A}/spans", SPAN, {"kind_of_mine": "kept"}),
    (lambda c: [type(s) for s in c.add_spans([SPAN, SPAN])], [SPAN, None], "POST", f"{A}/spans", [SPAN, SPAN], [Span, type(None)]),
    (lambda c: c.next_sequence_id("r", "a"), {"sequence_id": 7}, "POST", f"{A}/spans/next", {"rollout_id": "r", "attempt_id": "a"}, 7),
    (lambda c: c.spans("r", attempt_id="latest", name="n").items[0].name, page(SPAN), "POST", f"{A}/spans/search", {"rollout_id": "r", "attempt_id": "latest", "name": "n", "filter_logic": "and", "sort_order": "asc", "limit": -1, "offset": 0}, "n"),
    (lambda c: c.span("r", "a", "s"), SPAN, "GET", f"{B}/rollouts/r/attempts/a/spans/s", None, Span),
    (lambda c: c.span_summaries("r").items[0], page(SUMMARY), "GET", f"{B}/rollouts/r/spans?limit=-1&offset=0", None, SpanSummary),
    (lambda c: c.find_spans(tool="t", attributes={"a": 1, "b": "x"}).total, page(SUMMARY), "GET", f"{B}/spans?tool=t&attribute=a%3A1&attribute=b%3Ax&limit=50&offset=0", None, 1),
    (lambda c: c.add_resources({"main": LLM(endpoint="http://x", model="m")}).version, RESOURCES, "POST", f"{A}/resources", {"main": {"resource_type": "llm", "endpoint": "http://x", "model": "m", "api_key": None, "sampling_parameters": {}}}, 1),
    (lambda c: c.update_resources("v 0", {}).version, RESOURCES, "POST", f"{A}/resources/v%200", {}, 1),
    (lambda c: c.get_resources("rs-1").resources["main"], RESOURCES, "GET", f"{A}/resources/rs-1", None, LLM),
    (lambda c: c.latest_resources().resources_id, RESOURCES, "GET", f"{A}/resources/latest", None, "rs-1"),
    (lambda c: c.resources(resources_id="rs-1").total, page(RESOURCES), "GET", f"{A}/resources?resources_id=rs-1&sort_order=asc&limit=-1&offset=0", None, 1),
    (lambda c: c.update_worker("w", heartbeat_stats={"cpu": 1}).worker_id, WORKER, "POST", f"{A}/workers/w", {"heartbeat_stats": {"cpu": 1}}, "w"),
    (lambda c: c.update_worker("w").worker_id, WORKER, "POST", f"{A}/workers/w", {}, "w"),
    (lambda c: c.worker("w").status, WORKER, "GET", f"{A}/workers/w", None, "idle"),
    (lambda c: c.workers(status_in=["busy"]).total, page(WORKER), "POST", f"{A}/workers/search", {"status_in": ["busy"], "filter_logic": "and", "sort_order": "asc", "limit": -1, "offset": 0}, 1),
    (lambda c: c.analyze(since=1.0)["x"], {"x": 1}, "POST", f"{B}/analyze", {"rollout_ids": None, "since": 1.0, "until": None, "save": True}, 1),
    (lambda c: c.findings(status="open").items[0].evidence[0].span_id, page(FINDING), "GET", f"{B}/findings?status=open&limit=50&offset=0", None, "s"),
    (lambda c: c.finding("f"), FINDING, "GET", f"{B}/findings/f", None, Finding),
    (lambda c: c.set_finding_status("f", "fixed"), FINDING, "POST", f"{B}/findings/f", {"status": "fixed"}, Finding),
    (lambda c: c.add_scores([SCORE]), [], "POST", f"{B}/scores", [SCORE], None),
    (lambda c: c.scores("ro-1")[0].value, [SCORE], "GET", f"{B}/rollouts/ro-1/scores", None, 1.0),
    (lambda c: c.create_key("ci", scopes=["ingest"])["key"], {"id": "1", "key": "lk_1"}, "POST", f"{B}/keys", {"name": "ci", "scopes": ["ingest"], "project": "default"}, "lk_1"),
    (lambda c: c.create_key("ci", scopes=["gateway"], project="p", limits=KeyLimits(concurrency=2))["key"], {"key": "lk_1"}, "POST", f"{B}/keys", {"name": "ci", "scopes": ["gateway"], "project": "p", "limits": {"concurrency": 2}}, "lk_1"),
    (lambda c: c.prices(), [], "GET", f"{B}/prices", None, []),
    (lambda c: c.set_price("a/*", {"input": 1}).rates, {"pattern": "a/*", "rates": {"input": 1}, "create_time": 1}, "PUT", f"{B}/prices", {"pattern": "a/*", "rates": {"input": 1}}, {"input": 1.0}),
    (lambda c: c.delete_price("a/*"), None, "DELETE", f"{B}/prices/a%2F%2A", None, None),
    (lambda c: c.keys(), [{"id": "1"}], "GET", f"{B}/keys", None, [{"id": "1"}]),
    (lambda c: c.revoke_key("1"), None, "DELETE", f"{B}/keys/1", None, None),
    (lambda c: c.info()["version"], {"version": "1"}, "GET", f"{B}/info", None, "1"),
    (lambda c: c.statistics()["total_spans"], {"total_spans": 3}, "GET", f"{A}/statistics", None, 3),
    (lambda c: c.health(), {"status": "ok"}, "GET", f"{A}/health", None, {"status": "ok"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "answer", "method", "path", "body", "result"),
    CALLS,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_each_method_asks_its_route_and_types_the_answer(
    server: Scripted,
    call: Callable[[Client], Any],
    answer: Any,
    method: str,
    path: str,
    body: Any,
    result: Any,
) -> None:
    server.answer = answer
    with Client(app=server.app) as client:
        got = call(client)
    assert server.seen == [(method, path, body)]
    assert (
        isinstance(got, result) if isinstance(result, type) and not isinstance(got, type) else got == result
    )


def test_null_answers_are_none(server: Scripted) -> None:
    server.app = Starlette(
        routes=[Route("/{path:path}", lambda _: JSONResponse(None), methods=["GET", "POST"])]
    )
    with Client(app=server.app) as client:
        assert client.latest_attempt("x") is None
        assert client.get_resources("x") is None
        assert client.latest_resources() is None
        assert client.worker("x") is None
        assert client.add_span(SPAN) is None


def test_a_heartbeat_moves_the_attempts_time(server: Scripted) -> None:
    server.answer = ATTEMPT
    with Client(app=server.app) as client:
        client.heartbeat("ro-1", "at-1")
    assert server.seen[0][2]["last_heartbeat_time"] > 1e9


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            404,
            {"error": {"code": "not_found", "message": "Rollout 'x' not found", "hint": "look"}},
            errors.NotFound,
            "Rollout 'x' not found",
        ),
        (409, {"error": {"code": "invalid_transition", "message": "no"}}, errors.InvalidTransition, "no"),
        (400, {"error": {"code": "bad_format", "message": "no"}}, errors.BadFormat, "no"),
        (413, {"error": {"code": "too_large", "message": "no"}}, errors.TooLarge, "no"),
        (401, {"error": {"code": "unauthorized", "message": "no"}}, errors.Unauthorized, "no"),
        (403, {"error": {"code": "forbidden", "message": "no"}}, errors.Forbidden, "no"),
        (503, {"error": {"code": "store_busy", "message": "no"}}, errors.StoreBusy, "no"),
        (507, {"error": {"code": "store_full", "message": "no"}}, errors.StoreFull, "no"),
        (422, {"detail": [{"msg": "field required"}]}, errors.BadInput, "field required"),
        (404, {"detail": "Not Found"}, errors.NotFound, "Not Found"),
        (500, {}, errors.LeydenError, "500"),
        (418, {"error": {"code": "invented", "message": "teapot"}}, errors.LeydenError, "teapot"),
    ],
)
def test_an_error_answer_is_raised_as_its_class(
    server: Scripted, status: int, body: Any, kind: type[errors.LeydenError], message: str
) -> None:
    server.status, server.answer = status, body
    with Client(app=server.app) as client, pytest.raises(kind) as caught:
        client.rollout("x")
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert caught.value.hint == body.get("error", {}).get("hint")


def test_an_answer_of_another_shape_is_one_clear_error(server: Scripted) -> None:
    server.answer = {"surprise": 1}
    with Client(app=server.app) as client, pytest.raises(leyden.LeydenError, match="no Rollout"):
        client.rollout("x")


def test_no_server_is_one_clear_error_with_what_to_do() -> None:
    sink = Sink()
    sink.close()
    with Client(sink.url) as client, pytest.raises(errors.ServerUnreachable) as caught:
        client.health()
    assert str(caught.value).startswith(f"No Leyden server answers at {sink.url}")
    assert "leyden up" in (caught.value.hint or "")


def test_a_client_survives_pickling_and_speaks_with_its_key(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_URL", sink.url)
    monkeypatch.setenv("LEYDEN_API_KEY", "lk_env")
    with pickle.loads(pickle.dumps(Client())) as client:
        client.add_scores([])
    assert sink.requests[0][2]["authorization"] == "Bearer lk_env"
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET


def test_a_client_with_an_app_refuses_to_be_pickled(server: Scripted) -> None:
    with Client(app=server.app) as client, pytest.raises(leyden.LeydenError, match="cannot be pickled"):
        pickle.dumps(client)


def test_a_proxy_from_the_environment_never_comes_between_loopback(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Client(sink.url) as client:
        client.add_scores([])
    assert len(sink.requests) == 1


def test_the_lifespan_of_an_app_runs_from_construction_to_close() -> None:
    from contextlib import asynccontextmanager

    events = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        events.append("up")
        yield
        events.append("down")

    client = Client(app=Starlette(lifespan=lifespan))
    assert events == ["up"]
    client.close()
    client.close()
    assert events == ["up", "down"]
    with pytest.raises(errors.ServerUnreachable):
        client.health()


def test_the_sdk_can_send_to_a_server_in_its_own_process(server: Scripted) -> None:
    server.answer = {}
    with Client(app=server.app) as client:
        leyden.init(client=client)
        with leyden.rollout("x"), leyden.trace("step"):
            pass
        assert leyden.flush()
        assert [path for _, path, _ in server.seen][:2] == ["/api/rollouts", "/v1/traces"]
        with leyden.trace("unflushed"):
            pass
    assert "unflushed" in json.dumps(server.seen[-1])


EMBEDDED = """
import leyden
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def take(request):
    print(request.url.path)
    return JSONResponse({})

leyden.init(client=leyden.Client(app=Starlette(routes=[Route("/{p:path}", take, methods=["POST"])])), flush_s=600)
with leyden.trace("last"): pass
"""


def test_an_embedded_server_left_open_gets_the_last_spans_and_hangs_no_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED], capture_output=True, text=True, timeout=30, env=os.environ
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "/v1/traces\n", "")
