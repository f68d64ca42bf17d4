"""Web pages of strangers neither call nor read a server that asks for no key."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from leyden.server.app import Server, create_app
from leyden.settings import Settings
from server.test_auth import bearer, create_key

OWN_HOSTS = [
    "localhost", "localhost:4747", "LOCALHOST:4747", "127.0.0.1:4747", "[::1]:4747", "192.168.1.7", "8.8.8.8:80", "leyden", "testserver:1",
    "app.localhost", "box.local", "host.docker.internal:4747", "nas.lan", "localhost.", socket.gethostname(),
]  # fmt: skip
FOREIGN_HOSTS = ["evil.example:4747", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example.", "a.locals", "user@evil.example", "[::1", "127.1"]  # fmt: skip
OWN_ORIGINS = [
    "http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]", "http://10.1.2.3", "http://dashboard", "http://nas.lan:80",
    "tauri://localhost",
]  # fmt: skip
FOREIGN_ORIGINS = ["https://evil.example", "http://localhost.evil.example", "null", "http://8.8.8.8", "http://[2606:4700::1111]", "nonsense", "http://[::1"]  # fmt: skip


def served(tmp_path: Path, **settings: object) -> Server:
    return create_app(Settings(db=str(tmp_path / "leyden.db"), **settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(served(tmp_path_factory.mktemp("pages"))) as http:
        yield http


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_a_server_without_keys_answers_to_names_that_are_its_own(http: TestClient, host: str) -> None:
    assert http.get("/api/info", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_domain_that_was_made_to_point_here_reads_nothing(http: TestClient, host: str) -> None:
    answer = http.get("/api/info", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "localhost" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("origin", OWN_ORIGINS)
def test_pages_of_this_machine_and_its_network_change_things(http: TestClient, origin: str) -> None:
    assert http.post("/v1/agl/rollouts", json={"input": 1}, headers={"origin": origin}).status_code == 201


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_pages_of_strangers_change_nothing(http: TestClient, origin: str) -> None:
    before = http.get("/api/info").json()
    plain = {"origin": origin, "content-type": "text/plain"}
    for path in ("/v1/agl/rollouts", "/v1/chat/completions", "/api/gateway/pause", "/v1/messages"):
        answer = http.post(path, content='{"input": 1, "model": "m", "messages": []}', headers=plain)
        assert answer.status_code == 403, path
        assert "no key" in answer.text
    assert http.get("/api/info", headers={"origin": origin}).json() == before


def test_a_key_serves_pages_of_everybody(http: TestClient) -> None:
    key = create_key(http, "run")["key"]
    headers = {**bearer(key), "origin": "https://app.example", "host": "leyden.example"}
    assert http.post("/v1/agl/rollouts", json={"input": 1}, headers=headers).status_code == 201


def test_origins_that_are_listed_may_call(tmp_path: Path) -> None:
    app = served(tmp_path)
    with TestClient(app) as http:
        statuses: list[int] = []
        for listed in ({"https://app.example"}, {"*"}):
            app.context.cors_origins = frozenset(listed)
            for origin in ("https://app.example", "https://evil.example"):
                answer = http.post("/v1/agl/rollouts", json={"input": 1}, headers={"origin": origin})
                statuses.append(answer.status_code)
    assert statuses == [201, 403, 201, 201]


def test_an_open_bind_goes_by_any_name_and_still_refuses_pages_of_others(tmp_path: Path) -> None:
    with TestClient(served(tmp_path, host="0.0.0.0", open_bind=True)) as http:
        host = {"host": "leyden.example:4747"}
        assert http.get("/api/info", headers=host).status_code == 200
        statuses = [
            http.post("/v1/agl/rollouts", json={"input": 1}, headers={**host, "origin": origin}).status_code
            for origin in ("http://leyden.example:4747", "https://evil.example")
        ]
    assert statuses == [201, 403]
