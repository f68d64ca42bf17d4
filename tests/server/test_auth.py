"""Keys: kept as hashes, shown once, bounded by scope and project, asked for wherever others can reach the server."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from conftest import Clock
from leyden.server import auth
from leyden.server.app import HOT, create_app
from leyden.server.auth import OPEN_PATHS, Caller, may, scope_needed
from leyden.settings import Settings
from leyden.store.engine import Tx
from leyden.store.notices import EVERYTHING
from server.test_store_protocol import SPAN, claim, enqueue

SCOPES = ("ingest", "read", "run", "gateway", "admin")


def create_key(http: Any, *scopes: str, project: str = "default", name: str = "me") -> dict[str, Any]:
    answer = http.post("/api/keys", json={"name": name, "scopes": scopes, "project": project})
    assert answer.status_code == 201, answer.text
    return answer.json()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def asking(settings: Settings) -> Iterator[TestClient]:
    """The server on the same database, asking everybody for a key."""
    app = create_app(replace(settings, require_keys=True))
    with TestClient(app, raise_server_exceptions=False) as http:
        yield http


@pytest.fixture
def keys(settings: Settings) -> dict[str, str]:
    """One key of each scope, and one of every scope in the project "other"."""
    with TestClient(create_app(settings)) as http:
        made = {scope: create_key(http, scope)["key"] for scope in SCOPES}
        return made | {"other": create_key(http, *SCOPES, project="other")["key"]}


# ── The secret ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_shown_once_and_nowhere_in_the_database_file(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(db=str(tmp_path / "leyden.db")))) as http:
        secret = create_key(http, "read", name="somebody-of-note")["key"]
        http.get("/api/info", headers=bearer(secret))
        assert secret not in http.get("/api/keys").text
        assert "hash" not in http.get("/api/keys").json()[0]
        files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    files |= {tmp_path / f"after-{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    assert any(b"somebody-of-note" in content for content in files.values())
    assert [path for path, content in files.items() if secret[3:].encode() in content] == []


def test_no_two_keys_are_the_same(http: TestClient) -> None:
    made = [create_key(http, "read") for _ in range(5)]
    assert len({key["key"] for key in made}) == len({key["id"] for key in made}) == 5
    assert all(len(key["key"]) > 40 for key in made)


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "everything"]])
def test_a_key_without_a_known_scope_is_not_made(http: TestClient, scopes: list[str]) -> None:
    answer = http.post("/api/keys", json={"name": "x", "scopes": scopes})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    assert http.get("/api/keys").json() == []


# ── Who is asked ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_this_machine_is_served_without_a_key(http: TestClient) -> None:
    assert http.get("/api/info").status_code == 200


@pytest.mark.parametrize("headers", [bearer("lk_wrong"), {"x-api-key": "lk_wrong"}])
def test_a_wrong_key_is_refused_also_where_none_is_needed(http: TestClient, headers: dict[str, str]) -> None:
    answer = http.get("/api/info", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_a_token_of_another_program_passes_where_no_key_is_needed(http: TestClient) -> None:
    assert http.get("/api/info", headers=bearer("sk-of-a-model-provider")).status_code == 200


def test_a_server_that_asks_for_keys_tells_so_and_still_answers_that_it_lives(
    settings: Settings, keys: dict[str, str]
) -> None:
    with asking(settings) as http:
        answer = http.get("/api/info")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert "Bearer" in answer.json()["error"]["hint"]
        assert http.get("/api/info", headers=bearer("sk-other")).status_code == 401
        assert http.get("/api/info", headers=bearer("lk_wrong")).status_code == 401
        assert http.get("/api/info", headers=bearer(keys["read"])).status_code == 200
        assert http.get("/api/info", headers={"x-api-key": keys["read"]}).status_code == 200
        assert {path: http.get(path).status_code for path in OPEN_PATHS} == dict.fromkeys(OPEN_PATHS, 200)


def test_a_revoked_key_is_refused_from_the_next_request_on(settings: Settings, keys: dict[str, str]) -> None:
    with asking(settings) as http:
        admin = bearer(keys["admin"])
        made = http.post("/api/keys", json={"name": "gone", "scopes": ["read"]}, headers=admin).json()
        assert http.get("/api/info", headers=bearer(made["key"])).status_code == 200
        assert http.delete(f"/api/keys/{made['id']}", headers=admin).json()["revoke_time"] is not None
        assert http.get("/api/info", headers=bearer(made["key"])).status_code == 401


@contextmanager
def silent(app: Any) -> Iterator[None]:
    """A store in memory that answers nobody meanwhile, for it writes."""
    begun, ended = threading.Event(), threading.Event()

    def change(tx: Tx) -> None:
        begun.set()
        ended.wait(30)

    writing = threading.Thread(target=app.context.store.writer.run, args=(change,))
    writing.start()
    begun.wait()
    yield
    ended.set()
    writing.join()


def test_a_key_that_was_good_lately_does_not_wait_for_a_store_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)
    monkeypatch.setattr(auth, "PATIENCE_S", 0.01)
    app = create_app(Settings(db=":memory:"))
    with TestClient(app, raise_server_exceptions=False) as http:
        good, old = (create_key(http, "read")["key"] for _ in range(2))
        assert [http.get("/healthz", headers=bearer(key)).status_code for key in (good, old)] == [200, 200]
        with silent(app):
            assert [http.get("/healthz", headers=bearer(good)).status_code for _ in range(3)] == [200] * 3
        monkeypatch.setattr(auth, "TRUST_S", 0.0)
        asked: list[int] = []
        with silent(app):
            asking = threading.Thread(
                target=lambda: asked.append(http.get("/healthz", headers=bearer(old)).status_code)
            )
            asking.start()
            asking.join(0.1)
            assert asked == []
        asking.join()
        assert asked == [200]


def test_a_key_that_may_have_been_revoked_is_asked_for_again(
    settings: Settings, keys: dict[str, str]
) -> None:
    with asking(settings) as http, TestClient(create_app(settings)) as other:
        (row,) = [key for key in other.get("/api/keys").json() if key["scopes"] == ["read"]]
        assert http.get("/api/info", headers=bearer(keys["read"])).status_code == 200
        other.delete(f"/api/keys/{row['id']}")
        http.app.context.store.writer.tell([EVERYTHING])  # type: ignore[attr-defined]
        assert http.get("/api/info", headers=bearer(keys["read"])).status_code == 401


def test_revoking_a_key_nobody_knows_is_a_404(http: TestClient) -> None:
    assert http.delete("/api/keys/key-none").status_code == 404


# ── Scopes ───────────────────────────────────────────────────────────────────────────────────────────────────────

READING_POSTS = {
    "/api/analyze",
    "/v1/agl/rollouts/search",
    "/v1/agl/rollouts/{rollout_id}/attempts/search",
    "/v1/agl/spans/search",
    "/v1/agl/workers/search",
}
INGESTING_POSTS = {
    "/v1/traces",
    "/v1/logs",
    "/v1/metrics",
    "/v1/agl/spans",
    "/v1/agl/spans/next",
    "/api/runs",
    "/api/rollouts",
    "/api/scores",
}


def expected_scope(method: str, path: str) -> str:
    if (
        path.startswith(("/api/keys", "/api/retention", "/api/db", "/api/import", "/api/gateway/config"))
        or method == "DELETE"
    ):
        return "admin"
    if (method, path) == ("PUT", "/api/prices"):
        return "admin"
    if method == "GET" or path in READING_POSTS:
        return "read"
    return "ingest" if path in INGESTING_POSTS else "run"


def every_route(app: Any) -> list[tuple[str, str]]:
    """Method and path template of all that is served."""
    found = {(method, path.replace("{}", "{rollout_id}")) for method, path in HOT}
    for path, methods in app.api.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in methods}
    return sorted(route for route in found if route[1] not in OPEN_PATHS)


def test_every_route_asks_for_its_scope_and_no_other_key_gets_in(
    settings: Settings, keys: dict[str, str]
) -> None:
    wrong: list[tuple[str, str, str, int]] = []
    with asking(settings) as http:
        routes = every_route(http.app)
        assert len(routes) > 40
        for method, template in routes:
            path = template.replace("{rollout_id}", "ro-x").replace("{", "").replace("}", "")
            if path == "/api/events":
                path += "?topics=none"  # refused behind the gate, for a stream has no end
            for scope in SCOPES:
                status = http.request(method, path, headers=bearer(keys[scope])).status_code
                let_in = status not in (401, 403)
                if let_in != (scope in (expected_scope(method, template), "admin")):
                    wrong.append((method, template, scope, status))
            if http.request(method, path).status_code != 401:
                wrong.append((method, template, "no key", 0))
    assert wrong == []


def test_a_key_that_may_only_read_cannot_write_resources_under_a_name_that_looks_like_a_search(
    settings: Settings, keys: dict[str, str]
) -> None:
    prompt = {"p": {"resource_type": "prompt_template", "template": "x", "engine": "f-string"}}
    with asking(settings) as http:
        for name in ("search", "a/search"):
            answer = http.post(f"/v1/agl/resources/{name}", json=prompt, headers=bearer(keys["read"]))
            assert answer.status_code == 403
        for name in ("search", "a/search"):
            assert (
                http.post(f"/v1/agl/workers/{name}", json={}, headers=bearer(keys["ingest"])).status_code
                == 403
            )


def test_a_refusal_names_the_scope_that_is_missing(settings: Settings, keys: dict[str, str]) -> None:
    with asking(settings) as http:
        error = http.get("/api/info", headers=bearer(keys["ingest"])).json()["error"]
    assert error == {
        "code": "forbidden",
        "message": "This key lacks the scope 'read'",
        "hint": "it has: ingest",
    }


MODEL_CALLS = [
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/messages",
    "/v1/messages/count_tokens", "/rollout/ro-1/attempt/at-1/v1/chat/completions", "/v1/files", "/openai/v1/batches",
]  # fmt: skip


@pytest.mark.parametrize("path", MODEL_CALLS)
def test_models_are_called_by_keys_that_may_run_agents_and_by_those_made_for_it(path: str) -> None:
    for method in ("GET",) if path == "/v1/models" else ("GET", "POST"):
        needed = scope_needed(method, path)
        let_in = [scope for scope in SCOPES if may(Caller("default", frozenset({scope})), needed)]
        assert let_in == ["run", "gateway", "admin"]


def test_a_key_past_its_time_is_refused(settings: Settings, clock: Clock) -> None:
    with asking(settings) as http:
        with TestClient(create_app(settings)) as open_http:
            body = {"name": "me", "scopes": ["read"], "limits": {"expire_time": clock.now + 60}}
            key = open_http.post("/api/keys", json=body).json()["key"]
        assert http.get("/api/info", headers=bearer(key)).status_code == 200
        clock.advance(60)
        answer = http.get("/api/info", headers=bearer(key))
        assert (answer.status_code, "has expired" in answer.json()["error"]["message"]) == (401, True)


# ── Projects ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def two_projects(settings: Settings, keys: dict[str, str]) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A server with a finished rollout, spans, a score, resources, a worker and a finding in "default", and the other's key."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as http:
        enqueue(http)
        item = claim(http, "worker-a")
        rollout_id, attempt_id = item["rollout_id"], item["attempt"]["attempt_id"]
        span = {
            **SPAN, "rollout_id": rollout_id, "attempt_id": attempt_id, "span_id": "b" * 16,
            "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"},
            "status": {"status_code": "ERROR", "description": "no such order"},
        }  # fmt: skip
        assert http.post("/v1/agl/spans", json=span).status_code == 201
        score = {"rollout_id": rollout_id, "name": "quality", "value": 1.0, "time": 1.0}
        assert http.post("/api/scores", json=[score]).status_code == 201
        prompt = {"p": {"resource_type": "prompt_template", "template": "x", "engine": "f-string"}}
        resources_id = http.post("/v1/agl/resources", json=prompt).json()["resources_id"]
        http.post(f"/v1/agl/rollouts/{rollout_id}/attempts/latest", json={"status": "failed"})
        http.post("/api/analyze", json={"save": True})
        (finding, *_) = http.get("/api/findings").json()["items"]
        ids = {"ro": rollout_id, "at": attempt_id, "rs": resources_id, "fp": finding["fingerprint"]}
        yield http, ids | {"key": keys["other"]}


def test_another_project_sees_nothing_of_this_one(two_projects: tuple[TestClient, dict[str, str]]) -> None:
    http, ids = two_projects
    other = bearer(ids["key"])
    pages = [
        "/v1/agl/rollouts", f"/v1/agl/rollouts/{ids['ro']}/attempts", f"/v1/agl/spans?rollout_id={ids['ro']}", "/v1/agl/resources",
        "/v1/agl/workers", "/api/rollouts", f"/api/rollouts/{ids['ro']}/spans", "/api/spans", "/api/findings",
    ]  # fmt: skip
    for path in pages:
        assert http.get(path).json()["total"] >= 1, path
        assert http.get(path, headers=other).json()["total"] == 0, path
    nulls = [f"/v1/agl/rollouts/{ids['ro']}/attempts/latest", f"/v1/agl/resources/{ids['rs']}", "/v1/agl/resources/latest", "/v1/agl/workers/worker-a"]  # fmt: skip
    for path in nulls:
        assert http.get(path).json() is not None, path
        assert http.get(path, headers=other).json() is None, path
    missing = [
        f"/v1/agl/rollouts/{ids['ro']}", f"/api/rollouts/{ids['ro']}", f"/api/rollouts/{ids['ro']}/scores",
        f"/api/rollouts/{ids['ro']}/attempts/{ids['at']}/spans/{'b' * 16}", f"/api/findings/{ids['fp']}",
    ]  # fmt: skip
    for path in missing:
        assert http.get(path).status_code == 200, path
        assert http.get(path, headers=other).status_code == 404, path
    assert http.get("/api/info", headers=other).json()["counts"] == {"rollouts": 0, "attempts": 0, "spans": 0}
    assert (
        http.post(
            "/v1/agl/waits/rollouts", json={"rollout_ids": [ids["ro"]], "timeout": 0}, headers=other
        ).json()
        == []
    )
    assert http.post("/api/analyze", json={}, headers=other).json()["totals"]["runs"] == 0


def test_another_project_changes_nothing_of_this_one(two_projects: tuple[TestClient, dict[str, str]]) -> None:
    http, ids = two_projects
    other = bearer(ids["key"])
    enqueue(http)
    assert http.post("/v1/agl/queues/rollouts/dequeue", headers=other).json() == []
    span = {**SPAN, "rollout_id": ids["ro"], "attempt_id": ids["at"], "span_id": "c" * 16}
    writes = [
        ("POST", "/v1/agl/spans", span), ("POST", f"/v1/agl/rollouts/{ids['ro']}", {"status": "succeeded"}),
        ("POST", f"/v1/agl/rollouts/{ids['ro']}/attempts", {}),
        ("POST", f"/v1/agl/rollouts/{ids['ro']}/attempts/latest", {"status": "succeeded"}),
        ("POST", "/api/scores", [{"rollout_id": ids["ro"], "name": "quality", "value": 0.0, "time": 2.0}]),
        ("POST", f"/api/findings/{ids['fp']}", {"status": "dismissed"}), ("DELETE", f"/v1/agl/rollouts/{ids['ro']}", None),
    ]  # fmt: skip
    for method, path, body in writes:
        assert http.request(method, path, json=body, headers=other).status_code == 404, path
    assert http.post("/v1/agl/spans", json=[span], headers=other).json()[0]["error"]["code"] == "not_found"
    http.post("/v1/agl/workers/worker-a", json={"heartbeat_stats": {"mine": 1}}, headers=other)
    assert http.get("/v1/agl/workers/worker-a").json()["heartbeat_stats"] is None
    rollout = http.get(f"/api/rollouts/{ids['ro']}").json()
    assert (rollout["status"], rollout["spans"], len(rollout["scores"])) == ("failed", 1, 1)
    assert http.get(f"/api/findings/{ids['fp']}").json()["status"] == "open"


def test_the_same_idempotency_key_in_another_project_is_another_rollout(
    two_projects: tuple[TestClient, dict[str, str]],
) -> None:
    http, ids = two_projects
    body = {"rollouts": [{"input": 1, "idempotency_key": "job-7"}]}
    (ours,) = http.post("/v1/agl/queues/rollouts/enqueue", json=body).json()
    (theirs,) = http.post("/v1/agl/queues/rollouts/enqueue", json=body, headers=bearer(ids["key"])).json()
    assert ours["rollout_id"] != theirs["rollout_id"]


# ── Binding ──────────────────────────────────────────────────────────────────────────────────────────────────────


def leyden(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from leyden.cli.main import main; main()", *words], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_address_that_others_reach_is_not_even_bound_while_nobody_has_a_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # Had it bound first, it would complain about the port.
        run = leyden(
            "up", "--host", "0.0.0.0", "--port", str(taken.getsockname()[1]), "--db", str(tmp_path / "x.db")
        )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.splitlines()[0] == "Error: 0.0.0.0 can be reached from other machines and no key exists"
    assert "leyden keys create" in run.stderr
    assert "Traceback" not in run.stderr
