"""Calls, clients and answers that nobody means, and some do: each is one answer in the client's protocol and one record."""

import json
import socket
from pathlib import Path
from typing import Any

import anthropic
import pytest

from fakes.model_answers import chat_events
from fakes.model_server import CLOSE, Answer, Gate, ModelServer, answer, raw, stream
from faults.processes import until
from gateway.serving import QUESTION, Calling, Gateway, at, gateway, only
from gateway.test_keys import key

DOORS = ("/chat/completions", "/messages", "/responses")
TRANSLATED = {"upstreams": {"claude": {"kind": "anthropic"}}, "models": {"*": "claude"}}


def recorded(gate: Gateway, calls: int = 1) -> None:
    """Every call is recorded, and none lost."""
    state = gate.settled(calls)
    assert (state["recorded"], state["lost"]) == (calls, 0)


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_no_server_may_answer_with_is_a_502(tmp_path: Path, status: int) -> None:
    odd = raw(b"HTTP/1.1 %d Odd\r\ncontent-length: 2\r\n\r\n{}" % status)
    with ModelServer(odd) as model, gateway(tmp_path, only(model)) as gate:
        assert gate.post().status_code == 502
        recorded(gate)
        assert str(status) in gate.span()["description"]


def test_a_header_that_no_server_may_send_is_left_out(gate: Gateway, model: ModelServer) -> None:
    model.script(answer({"id": "x", "choices": []}, headers={"x-odd": "a\x01b", "x-fine": "yes"}))
    given = gate.post()
    assert (given.status_code, given.headers.get("x-odd"), given.headers["x-fine"]) == (200, None, "yes")
    assert gate.span()["leyden.gateway.outcome"] == "ok"


@pytest.mark.parametrize("door", DOORS)
def test_a_stream_of_a_stated_length_that_breaks_off_ends_in_an_error_event(
    gate: Gateway, model: ModelServer, door: str
) -> None:
    begun = b"data: {}\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 4000\r\n\r\n"
    model.script(raw(head + begun, CLOSE))
    name = "claude-x" if door == "/messages" else "gpt-x"
    given = Calling(gate, door=door, model=name, stream=True, stream_options={"include_usage": True}).answer()
    assert given.content.startswith(begun)
    assert b"broke off" in given.content
    assert gate.span()["leyden.gateway.outcome"] == "broken"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_none_where_one_has_to_be_translated(
    tmp_path: Path, status: int, is_stream: bool
) -> None:
    with ModelServer(Answer(status, {}, ())) as model:
        config = TRANSLATED | {"upstreams": {"claude": at(model, kind="anthropic")}}
        with gateway(tmp_path, config) as gate:
            for _ in range(2):  # on one connection, which stays in order
                given = gate.post(stream=is_stream)
                assert (given.status_code, given.json()["error"]["code"]) == (502, "upstream_broken")
            recorded(gate, 2)


def test_a_defect_is_told_in_the_clients_protocol_and_recorded(
    gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr("leyden.gateway.forward.request", failing)
    before = gate.state()["recorded"]
    given = gate.post("/messages", model="claude-x")
    assert (given.status_code, given.json()["type"]) == (500, "error")
    assert until(lambda: gate.state()["recorded"] == before + 1)


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rollout", ["a%0ab", "%01", "x" * 257])
def test_an_id_that_nothing_can_be_recorded_under_is_refused_before_anything_is_asked(
    gate: Gateway, model: ModelServer, rollout: str
) -> None:
    before = len(model.requests)
    given = gate.http.post(f"/rollout/{rollout}/attempt/at-1/v1/messages", json=QUESTION)
    assert (given.status_code, given.json()["type"]) == (400, "error")
    assert (
        gate.http.post("/v1/messages", json=QUESTION, headers={"x-leyden-rollout": "x" * 257}).status_code
        == 400
    )
    assert len(model.requests) == before


def test_ids_are_what_their_path_spells(gate: Gateway) -> None:
    for spelled, meant in (("q%2541", "q%41"), ("a%2Fb", "a/b"), ("%C3%BC", "ü")):
        assert gate.http.post(
            f"/rollout/{spelled}/attempt/at-1/v1/chat/completions", json=QUESTION
        ).is_success
        assert until(lambda meant=meant: gate.client.spans(meant).items)


@pytest.mark.parametrize("body", [b"", b"no json", b"[]"])
def test_a_call_whose_body_cannot_be_read_is_recorded_as_refused(gate: Gateway, body: bytes) -> None:
    given = gate.http.post(f"{gate.base}/v1/chat/completions", content=body)
    assert given.status_code == 400
    span = gate.span()
    assert (span["leyden.gateway.outcome"], span["status"]) == ("refused", "ERROR")


def test_a_websocket_is_told_at_once_to_take_plain_http(gate: Gateway) -> None:
    offer = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x"}
    given = gate.http.get(f"{gate.base}/v1/responses", headers=offer)
    assert (given.status_code, given.json()["error"]["code"]) == (426, "websocket_refused")


def test_what_a_client_names_in_any_alphabet_arrives_as_its_bytes(gate: Gateway, model: ModelServer) -> None:
    name = "müller 東".encode()
    gate.http.post(f"{gate.base}/v1/chat/completions", json=QUESTION, headers=[(b"x-name", name)])
    assert model.requests[-1].headers["x-name"].encode("latin-1") == name


def test_a_client_that_takes_nothing_holds_its_call_no_longer_than_calls_may_take(tmp_path: Path) -> None:
    events = [chat_events("x" * 60_000)[1]] * 400
    with ModelServer(stream(*events)) as model:
        upstream = at(model, timeouts={"total_s": 0.5})
        with gateway(tmp_path, {"upstreams": {"a": upstream}, "models": {"*": "a"}}) as gate:
            body = json.dumps(QUESTION | {"stream": True}).encode()
            host = gate.http.base_url
            with socket.create_connection((host.host, host.port or 80)) as lazy:
                head = f"POST {gate.base}/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
                lazy.sendall(head.encode() + body)
                assert until(lambda: not gate.state()["in_flight"] and gate.state()["recorded"])
            assert gate.span()["leyden.gateway.outcome"] == "timeout"


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_one_after_the_other_need_one_place(gate: Gateway) -> None:
    headers = key(gate, concurrency=1)
    assert {gate.post(headers=headers).status_code for _ in range(20)} == {200}


def test_a_call_left_before_its_first_byte_has_used_its_tokens(gate: Gateway, model: ModelServer) -> None:
    headers = key(gate, tokens_per_minute=200)
    waiting = Gate()
    model.script(stream(waiting, *chat_events("late")))
    body = json.dumps(QUESTION | {"stream": True, "max_tokens": 150}).encode()
    head = f"POST {gate.base}/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    url, before = gate.http.base_url, len(model.requests)
    with socket.create_connection((url.host, url.port or 80)) as impatient:
        impatient.sendall(f"{head}authorization: {headers['authorization']}\r\n\r\n".encode() + body)
        model.wait_for(before + 1)
    span = gate.span()
    waiting.open()
    assert (span["leyden.gateway.outcome"], span["leyden.gateway.tries"]) == ("cancelled", 1)
    assert gate.post(headers=headers, max_tokens=150).status_code == 429


def test_an_anthropic_clients_list_of_models_is_asked_of_anthropic_alone(tmp_path: Path) -> None:
    with ModelServer() as one, ModelServer() as other:
        upstreams = {"openai": at(one), "anthropic": at(other, kind="anthropic")}
        config = {"upstreams": upstreams, "models": {"*": "openai"}}
        with (
            gateway(tmp_path, config) as gate,
            anthropic.Anthropic(base_url=gate.url, api_key="sk-ant-mine", max_retries=0) as client,
        ):
            client.models.list()
            assert "sk-ant-mine" in str(other.requests[0].headers)
            client.messages.create(model="x", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        assert [request.path for request in one.requests] == ["/v1/chat/completions"]
        assert "sk-ant" not in str(one.requests[0].headers)


def test_a_list_of_models_that_nobody_can_be_asked_for_is_empty(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, {"upstreams": {"a": at(model)}, "models": {"*": "a"}}) as gate:
        given = gate.http.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
        assert (given.status_code, given.json()["data"]) == (200, [])


# ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pipelined_calls_are_answered_in_their_order(gate: Gateway) -> None:
    body = json.dumps(QUESTION).encode()
    head = f"POST {gate.base}/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    url = gate.http.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as line:
        line.sendall((head.encode() + body) * 3)
        came = b""
        while came.count(b"Hello from the scripted model") < 3:
            came += line.recv(65536)
    assert came.count(b"HTTP/1.1 200") == 3
    gate.spans(3)
