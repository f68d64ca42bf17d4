"""`leyden up` and `agl store`: what they bind, say, refuse, and how they stop."""

import http.client
import json
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.program import AGL, LEYDEN
from cli.runs import run, span
from fakes.model_server import Gate, ModelServer, stream
from faults.processes import until
from gateway.serving import QUESTION, only, written
from leyden.sdk.client import Client

Leyden = Callable[..., Any]
Started = Callable[..., Any]


def test_the_address_is_printed_once_it_answers_and_data_survives_a_restart(
    started: Started, leyden: Leyden, db: Path
) -> None:
    with started("up", "--port", "0") as server:
        assert re.fullmatch(r"Leyden \S+ listens on http://127\.0\.0\.1:\d+\n", server.first)
        with Client(server.url) as client:
            client.import_runs([run("ro-1", span("ro-1", "s1"))])
        said = server.stop(signal.SIGTERM)
    assert (said.code, said.err) == (0, "")
    assert str(db) in said.out
    assert f"leyden analyze --store {server.url}" in said.out
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={server.url}" in said.out
    assert leyden("rollouts", "--json").json["total"] == 1


def test_ctrl_c_ends_it_quietly_and_does_not_wait_for_long_polls(started: Started) -> None:
    with started("up", "--port", "0") as server:
        asked = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        body = json.dumps({"worker_id": "w1", "wait_seconds": 3600})
        asked.request("POST", "/v1/agl/queues/rollouts/dequeue", body, {"content-type": "application/json"})
        with Client(server.url) as client:
            while client.worker("w1") is None:  # an empty claim leaves a trace of who asked
                time.sleep(0.01)
        said = server.stop(signal.SIGINT)
        assert asked.getresponse().read() == b"[]"
    assert said.code == 130
    assert said.err.strip() == ""


def test_a_terminal_that_closes_ends_it_as_sigterm_does(started: Started) -> None:
    with started("up", "--port", "0") as server:
        said = server.stop(signal.SIGHUP)
    assert (said.code, said.err) == (0, "")


def test_nohup_is_respected(started: Started) -> None:
    with started("up", "--port", "0", program=["nohup", *LEYDEN]) as server:
        server.process.send_signal(signal.SIGHUP)
        with Client(server.url) as client:
            assert client.info()["project"] == "default"
        assert server.stop(signal.SIGTERM).code == 0


def test_a_second_ctrl_c_ends_it_at_once_in_one_line(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    with ModelServer() as model:
        model.script(stream(gate))
        monkeypatch.setenv("LEYDEN_CONFIG", written(tmp_path, only(model)))
        with started("up", "--port", "0") as server:
            asked = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
            asked.request("POST", "/v1/chat/completions", json.dumps({**QUESTION, "stream": True}))
            assert gate.reached.wait(30)
            server.process.send_signal(signal.SIGINT)
            until(lambda: is_refused(server.url))
            began = time.monotonic()
            said = server.stop(signal.SIGINT)
            assert time.monotonic() - began < 3
            asked.close()
        gate.open()
    assert said.code == 130
    assert said.err == "Ended at once: what was not stored yet is lost.\n"


def is_refused(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
    except OSError:
        return True
    return False


def test_a_port_that_is_taken_is_named_with_what_to_do(leyden: Leyden, db: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = leyden("up", "--port", str(port))
    assert (said.code, said.out) == (1, "")
    assert f"Port {port} on 127.0.0.1 is already in use" in said.err
    assert "--port" in said.err.splitlines()[1]
    assert not db.exists()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine_is_named(
    leyden: Leyden, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_OPEN_BIND", "1")
    said = leyden("up", "--host", host, "--port", "0")
    assert said.code == 1
    assert host in said.err
    assert "--host" in said.err


def test_other_machines_are_served_only_when_a_key_exists(leyden: Leyden, started: Started) -> None:
    refused = leyden("up", "--host", "0.0.0.0", "--port", "0")
    assert refused.code == 1
    assert "leyden keys create" in refused.err
    key = leyden("keys", "create", "--name", "me", "--scope", "admin").out.strip()
    with started("up", "--host", "0.0.0.0", "--port", "0") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert leyden("info", "--store", server.url).code == 1
        with Client(server.url, key=key) as client:
            assert client.info()["project"] == "default"
        server.stop(signal.SIGTERM)


def test_the_database_is_named_once_and_postgres_is_postgres(leyden: Leyden) -> None:
    assert leyden("up", "--db", "x.db", "--postgres", "postgresql://localhost/x").code == 2
    assert leyden("up", "--postgres", "x.db").code == 2


def test_a_bad_log_level_of_the_environment_is_named(leyden: Leyden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_LOG_LEVEL", "loud")
    said = leyden("up", "--port", "0")
    assert said.code == 1
    assert "'loud'" in said.err


def test_a_port_of_the_environment_that_is_none_is_named(
    leyden: Leyden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_PORT", "99999")
    said = leyden("up")
    assert said.code == 1
    assert "99999" in said.err


def test_agl_store_runs_the_same_server_in_memory_with_cors(started: Started, db: Path) -> None:
    words = ("store", "--port", "0", "--backend", "memory", "--log-level", "WARNING", "--n-workers", "1")
    page = {"Origin": "https://app.example", "Content-Type": "application/json"}
    with started(*words, "--cors-origin", page["Origin"], program=AGL) as server:
        for path, body in (("health", None), ("rollouts", b'{"input": 1}')):
            asked = urllib.request.Request(f"{server.url}/v1/agl/{path}", data=body, headers=page)
            with urllib.request.urlopen(asked) as answer:
                assert answer.headers["access-control-allow-origin"] == page["Origin"]
        with Client(server.url) as client:
            client.start_rollout({"task": 1})
            assert client.statistics()["total_rollouts"] == 2
        said = server.stop(signal.SIGTERM)
    assert (said.code, said.err) == (0, "")
    assert ":memory:" in said.out
    assert not db.exists()
