"""Model calls through a running gateway: what the client gets, what the upstream gets, what is recorded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fakes.model_answers import anthropic_events, chat_events, default_body, event
from fakes.model_server import Gate, ModelServer, answer, chat, failing, gzipped, stream
from faults.processes import until
from gateway.serving import QUESTION, Gateway, at, gateway, only
from gateway.streams import pieces_of

DOORS = ("/chat/completions", "/completions", "/responses", "/messages")


# ── What is recorded ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", [*DOORS, "/embeddings"])
def test_a_call_is_one_span_of_its_rollout(gate: Gateway, model: ModelServer, door: str) -> None:
    name = "claude-x" if door == "/messages" else "gpt-x"
    given = gate.post(door, model=name)
    assert given.json() == default_body(door, "Hello from the scripted model")
    [span] = gate.spans()
    said = span.attributes
    assert (span.rollout_id, span.attempt_id, span.parent_id) == (gate.rollout, "at-1", None)
    operations = {"/embeddings": "embeddings", "/completions": "text_completion"}
    assert said["gen_ai.operation.name"] == operations.get(door, "chat")
    assert span.name == f"{said['gen_ai.operation.name']} {name}"
    assert said["gen_ai.provider.name"] == ("anthropic" if door == "/messages" else "openai")
    assert said["gen_ai.request.model"] == name
    assert said["gen_ai.usage.input_tokens"] == 7
    assert said["leyden.gateway.outcome"] == "ok"
    assert span.status.status_code == "OK"
    assert 0 < (span.end_time or 0) - (span.start_time or 0) < 20
    assert json.loads(said["leyden.request.body"]) == model.requests[-1].json


@pytest.mark.parametrize("door", ["/messages/count_tokens", "/models"])
def test_what_is_no_model_call_leaves_no_span(gate: Gateway, door: str) -> None:
    path = f"{gate.base}/v1{door}"
    given = gate.http.get(path) if door == "/models" else gate.http.post(path, json=QUESTION)
    assert given.json().keys() & {"data", "input_tokens"}
    gate.post()
    gate.spans(1)


def test_the_record_has_no_key_that_was_sent(gate: Gateway, model: ModelServer) -> None:
    gate.post(headers={"authorization": "Bearer sk-secret-of-the-client"})
    assert model.requests[-1].headers["authorization"] == "Bearer sk-secret-of-the-client"
    [span] = gate.spans()
    assert "sk-secret" not in span.model_dump_json()


def test_what_belongs_to_us_is_not_sent_on(gate: Gateway, model: ModelServer) -> None:
    gate.post(headers={"x-leyden-agent": "planner", "x-own": "1", "x-leyden-mode": "train"})
    sent = model.requests[-1].headers
    assert sent["x-own"] == "1"
    assert not [name for name in sent if name.startswith("x-leyden")]
    assert gate.span()["gen_ai.agent.name"] == "planner"
    assert gate.span()["leyden.mode"] == "train"


def test_a_request_goes_out_byte_for_byte(gate: Gateway, model: ModelServer) -> None:
    body = b'{ "model":"gpt-x",\n "unknown_field": [1.0, 1e400, "\\u00e9"], "messages": [] }'.replace(
        b"1e400", b"1e40"
    )
    gate.http.post(f"{gate.base}/v1/chat/completions", content=body)
    assert model.requests[-1].body == body


def test_how_much_of_a_request_repeats_the_one_before_it_is_recorded(gate: Gateway) -> None:
    first = [{"role": "user", "content": "x" * 1000}]
    more = [*first, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "y" * 20}]
    gate.post(messages=first)
    gate.spans(1)
    gate.post(messages=more)
    shares = [span.attributes.get("leyden.prompt.shared_prefix") for span in gate.spans(2)]
    assert shares[0] is None
    assert 0.8 < shares[1] < 1


def test_without_content_only_counts_are_recorded(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, only(model, record={"content": "none"})) as gate:
        model.script(chat("the secret answer"))
        assert gate.post(messages=[{"role": "user", "content": "a secret"}]).status_code == 200
        [span] = gate.spans()
        assert span.attributes["gen_ai.usage.output_tokens"] == 3
        assert "secret" not in span.model_dump_json()


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_call_is_recorded_by_the_configuration_that_let_it_in(
    tmp_path: Path, model: ModelServer, is_refused: bool
) -> None:
    quiet = {"record": {"content": "none"}}
    before = {"upstreams": {"gpu": at(model, kind="vllm")}, "models": {"gpt-4o": "gpu"}, "gateway": quiet}
    with gateway(tmp_path, before) as gate:
        if is_refused:
            assert gate.post(model="nobodys", stream=True).status_code == 404
            assert gate.http.put("/api/gateway/config", json=only(model)).status_code == 200
        else:
            wait, events = Gate(), chat_events("a secret answer")
            model.script(stream(events[0], wait, *events[1:]))
            with gate.streaming(model="gpt-4o", messages=[{"role": "user", "content": "a secret"}]) as given:
                pieces = given.iter_raw()
                next(pieces)
                assert gate.http.put("/api/gateway/config", json=only(model)).status_code == 200
                wait.open()
                b"".join(pieces)
        said = gate.span()
        assert said["gen_ai.provider.name"] == ("openai" if is_refused else "vllm")
        assert not {"gen_ai.usage.cost", "leyden.request.body", "gen_ai.prompt.0.content"} & said.keys()


def test_a_long_answer_is_recorded_in_part_and_passes_whole(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, only(model, record={"max_bytes": 1_000})) as gate:
        events = chat_events(" ".join(["word"] * 500))
        model.script(stream(*events))
        with gate.streaming(stream_options={"include_usage": True}) as given:
            assert given.read() == b"".join(events)
        said = gate.span()
        assert said["leyden.gateway.cut"] is True
        assert said["gen_ai.completion.0.content"].startswith("word word word")
        assert len(said["gen_ai.completion.0.content"]) < 1_100
        assert said["gen_ai.usage.output_tokens"] == 500


def test_the_counts_at_the_end_of_a_stream_of_24_mb_are_recorded(gate: Gateway, model: ModelServer) -> None:
    events = chat_events("one")
    long = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "x" * 2**20}}]})
    model.script(stream(*events[:2], *[long] * 24, *events[2:]))
    with gate.streaming(stream_options={"include_usage": True}) as given:
        assert len(given.read()) > 24 * 2**20
    said = gate.span()
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (7, 1)
    assert (said["leyden.gateway.outcome"], said["leyden.gateway.cut"]) == ("ok", True)


# ── Streams ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
def test_a_stream_reaches_the_client_event_by_event(gate: Gateway, model: ModelServer, door: str) -> None:
    name, events = (
        ("claude-x", anthropic_events("a b c")) if door == "/messages" else ("gpt-x", chat_events("a b c"))
    )
    gates = [Gate() for _ in events]
    model.script(stream(*(step for pair in zip(events, gates, strict=True) for step in pair)))
    with gate.streaming(door, model=name, stream_options={"include_usage": True}) as given:
        pieces = given.iter_raw()
        for one, opened in zip(events, gates, strict=True):
            assert next(pieces) == one
            opened.open()
        assert next(pieces, None) is None
    said = gate.span()
    assert said["gen_ai.completion.0.content"] == "a b c"
    assert 0 < said["gen_ai.response.time_to_first_chunk"] < 20


def test_token_counts_are_asked_for_and_kept_from_a_client_who_did_not_ask(
    gate: Gateway, model: ModelServer
) -> None:
    events = chat_events("a b c")
    model.script(stream(*events))
    with gate.streaming() as given:
        assert given.read() == b"".join(one for one in events if b'"usage"' not in one)
    assert model.requests[-1].json["stream_options"] == {"include_usage": True}
    said = gate.span()
    assert said["gen_ai.usage.output_tokens"] == 3
    assert json.loads(said["leyden.gateway.changed"]) == {"stream_options": {"include_usage": True}}


def test_a_stream_that_comes_compressed_all_the_same_stays_readable(
    gate: Gateway, model: ModelServer
) -> None:
    model.script(gzipped(stream(*chat_events("a b c"))))
    with gate.streaming() as given:
        assert b'"content": " c"' in given.read()
    assert gate.span()["gen_ai.completion.0.content"] == "a b c"


def scripted(door: str) -> bytes:
    """A stream with umlauts, tool calls and token ids."""
    if door == "/messages":
        use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
        more = [
            {"type": "content_block_start", "index": 1, "content_block": use},
            *(
                {
                    "type": "content_block_delta",
                    "index": 1,
                    "delta": {"type": "input_json_delta", "partial_json": part},
                }
                for part in ('{"wo', 'rd": "Grüße 🎈', '"}')
            ),
            {"type": "content_block_stop", "index": 1},
        ]
        events = anthropic_events("Zürich grüßt 🎈")
        return b"".join([*events[:-2], *map(event, more), *events[-2:]])
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"wo', 'rd": "Grüße 🎈', '"}')]
    chunks = [
        {"id": "chatcmpl-1", "model": "gpt-x", "choices": [{"index": 0, "delta": {"tool_calls": [one]}}]}
        for one in (call, *parts)
    ]
    events = chat_events("Zürich grüßt 🎈")
    return b"".join([*events[:-3], *map(event, chunks), *events[-3:]])


def comparable(span: dict[str, Any]) -> dict[str, Any]:
    of_the_call = ("gen_ai.response.time_to_first_chunk", "leyden.gateway.request_id")
    return {k: v for k, v in span.items() if k not in of_the_call and "prefix" not in k}


@pytest.fixture(scope="module")
def in_one_piece(served: Gateway, model: ModelServer) -> dict[str, dict[str, Any]]:
    """What is recorded of the scripted streams that come in one piece."""
    return {
        door: _recorded(served, model, door, [scripted(door)]) for door in ("/chat/completions", "/messages")
    }


def _recorded(served: Gateway, model: ModelServer, door: str, pieces: list[bytes]) -> dict[str, Any]:
    gate = replace(served, rollout=f"ro-{len(model.requests)}")
    model.script(stream(*pieces))
    name = "claude-x" if door == "/messages" else "gpt-x"
    with gate.streaming(door, model=name, stream_options={"include_usage": True}) as given:
        assert given.read() == b"".join(pieces)
    return comparable(gate.span())


@pytest.mark.parametrize("door", ["/chat/completions", "/messages"])
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.lists(st.integers(0, 10_000), max_size=30))
def test_the_span_of_a_stream_is_the_same_wherever_its_bytes_are_cut(
    served: Gateway, model: ModelServer, in_one_piece: dict[str, dict[str, Any]], door: str, places: list[int]
) -> None:
    whole = in_one_piece[door]
    assert whole["gen_ai.completion.0.content"] == "Zürich grüßt 🎈"
    assert whole["gen_ai.completion.0.tool_calls.0.function.arguments"].endswith('Grüße 🎈"}')
    assert whole["gen_ai.usage.input_tokens"] == 7
    assert _recorded(served, model, door, pieces_of(scripted(door), places)) == whole


# ── Upstreams ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_that_succeeds_at_last_is_one_span_that_says_how_often_it_was_tried(
    tmp_path: Path, model: ModelServer
) -> None:
    with gateway(tmp_path, only(model, retry={"tries": 3, "base_s": 0})) as gate:
        model.script(failing(529), failing(503))
        given = gate.post()
        assert (given.status_code, given.headers["x-leyden-tries"]) == (200, "3")
        assert (gate.span()["leyden.gateway.tries"], gate.span()["status"]) == (3, "OK")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_the_last_refusal_of_an_upstream_is_what_the_client_gets(
    gate: Gateway, model: ModelServer, status: int
) -> None:
    model.script(failing(status, message="so it goes", headers={"x-request-id": "r1"}))
    given = gate.post(stream=True)
    assert (given.status_code, given.json()["error"]["message"]) == (status, "so it goes")
    assert given.headers["x-request-id"] == "r1"
    said = gate.span()
    assert (said["status"], said["error.type"], said["description"]) == (
        "ERROR",
        "scripted_error",
        "so it goes",
    )
    assert (said["http.response.status_code"], said["leyden.gateway.outcome"]) == (status, "error")


def test_a_call_moves_on_to_an_upstream_that_lives(tmp_path: Path, model: ModelServer) -> None:
    with ModelServer() as dying:
        config = only(model) | {
            "upstreams": {"first": at(dying), "second": at(model)},
            "models": {"m": [{"upstream": "first"}, {"upstream": "second", "priority": 1, "model": "other"}]},
        }
        with gateway(tmp_path, config) as gate:
            dying.close()
            given = gate.post()
            assert (given.status_code, given.headers["x-leyden-upstream"]) == (200, "second")
            said = gate.span()
            assert (said["leyden.gateway.upstream"], said["leyden.gateway.model"]) == ("second", "other")
            assert (said["gen_ai.request.model"], said["leyden.gateway.tries"]) == ("m", 2)
            assert model.requests[-1].json["model"] == "other"


def test_an_upstream_that_is_not_there_is_an_error_in_the_clients_protocol(tmp_path: Path) -> None:
    with ModelServer() as gone:
        config = only(gone)
    with gateway(tmp_path, config) as gate:
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            openai_client(gate).chat.completions.create(**QUESTION)
        said = gate.span()
        assert (said["leyden.gateway.outcome"], said["http.response.status_code"]) == ("unreachable", 502)
        assert (said["status"], said["error.type"]) == ("ERROR", "unreachable")


def test_a_translated_answer_that_comes_compressed_is_read(tmp_path: Path, model: ModelServer) -> None:
    config = {"upstreams": {"local": at(model, kind="vllm")}, "models": {"claude-*": "local/qwen"}}
    with gateway(tmp_path, config) as gate, anthropic_client(gate) as client:
        model.script(gzipped(chat("zip")))
        message = client.messages.create(**QUESTION | {"model": "claude-x"})
        assert [block.text for block in message.content if block.type == "text"] == ["zip"]
        assert gate.span()["gen_ai.completion.0.content"] == "zip"


@pytest.mark.parametrize("is_stream", [False, True])
def test_anthropics_client_talks_to_a_model_that_knows_openais_protocol_alone(
    tmp_path: Path, model: ModelServer, is_stream: bool
) -> None:
    config = {"upstreams": {"local": at(model, kind="vllm")}, "models": {"claude-*": "local/qwen"}}
    with gateway(tmp_path, config) as gate, anthropic_client(gate) as client:
        asked = {**QUESTION, "model": "claude-x"}
        if is_stream:
            with client.messages.stream(**asked) as streamed:
                message = streamed.get_final_message()
        else:
            message = client.messages.create(**asked)
        assert [block.text for block in message.content if block.type == "text"] == [
            "Hello from the scripted model"
        ]
        assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
            "end_turn",
            7,
            5,
        )
        assert model.requests[-1].path == "/v1/chat/completions"
        said = gate.span()
        assert (said["gen_ai.usage.output_tokens"], said["leyden.gateway.model"]) == (5, "qwen")
        assert said["gen_ai.completion.0.content"] == "Hello from the scripted model"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>Sign in</html>", "no JSON"),
        (200, b'"text"', "no JSON"),
        (503, b"<html>Later</html>", "Later"),
        (503, b'[{"error": {"code": 503, "message": "Busy"}}]', "Busy"),
    ],
)
def test_a_translated_answer_that_is_no_object_is_an_error(
    tmp_path: Path, model: ModelServer, status: int, body: bytes, says: str
) -> None:
    config = only(model) | {
        "upstreams": {"local": at(model, kind="vllm")},
        "models": {"claude-*": "local/qwen"},
    }
    with gateway(tmp_path, config) as gate, anthropic_client(gate) as client:
        model.script(answer(body, status=status))
        with pytest.raises(anthropic.InternalServerError, match=says):
            client.messages.create(**QUESTION | {"model": "claude-x"})
        assert gate.span()["status"] == "ERROR"


def test_a_chat_client_of_anthropic_gets_token_counts_only_when_it_asks(
    tmp_path: Path, model: ModelServer
) -> None:
    config = {"upstreams": {"anthropic": at(model, kind="anthropic")}, "models": {"*": "anthropic"}}
    with gateway(tmp_path, config) as gate, openai_client(gate) as client:
        chunks = list(client.chat.completions.create(**QUESTION, stream=True))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        asked = {"stream_options": {"include_usage": True}}
        *_, last = client.chat.completions.create(**QUESTION, **asked, stream=True)
        assert last.usage is not None
        for span in gate.spans(2):
            assert span.attributes["gen_ai.usage.output_tokens"] == 5
            assert "leyden.gateway.changed" not in span.attributes


def openai_client(gate: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gate.url}{gate.base}/v1", api_key="sk-test", max_retries=0)


def anthropic_client(gate: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{gate.url}{gate.base}", api_key="sk-test", max_retries=0)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def narrow(tmp_path: Path, model: ModelServer) -> Iterator[Gateway]:
    """A gateway that knows one model."""
    with gateway(tmp_path, only(model) | {"models": {"m": "openai"}}) as gate:
        yield gate


def test_an_unknown_model_is_refused_in_the_clients_protocol_and_recorded(narrow: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        openai_client(narrow).chat.completions.create(**QUESTION | {"model": "nobody"})
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        anthropic_client(narrow).messages.create(**QUESTION | {"model": "nobody"})
    for span in narrow.spans(2):
        assert (span.attributes["leyden.gateway.outcome"], span.status.status_code) == ("refused", "ERROR")
        assert span.attributes["http.response.status_code"] == 404


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'"text"', b"\xff{}"])
@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_no_json_object_is_a_400_of_the_protocol(
    gate: Gateway, door: str, body: bytes
) -> None:
    given = gate.http.post(f"{gate.base}/v1{door}", content=body)
    assert given.status_code == 400
    error = given.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in given.text


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": None},
        {"model": 7, "messages": "x"},
        {"model": "m", "messages": [None, 1, {"role": 3, "content": {"a": []}}]},
        {"model": "m", "stream": "yes", "stream_options": 3, "tools": {"a": 1}, "metadata": [], "user": {}},
        {"model": "m", "messages": [{"role": "user", "content": "\ud800"}]},
        {"model": "m" * 5000, "messages": []},
        {"model": "m", "messages": [{"role": "user", "content": nested(190)}]},
        {"model": "m", "messages": [{"role": "user", "content": nested(190)}], "stream": True},
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_odd_requests_go_through_and_are_recorded(gate: Gateway, door: str, body: dict[str, Any]) -> None:
    asked = body | {"model": "claude-x"} if door == "/messages" else body
    given = gate.http.post(f"{gate.base}/v1{door}", content=json.dumps(asked).encode())
    assert given.status_code == 200, given.text
    assert gate.span()["leyden.gateway.outcome"] == "ok"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_request_that_nests_without_end_is_refused_in_the_protocol(gate: Gateway, is_stream: bool) -> None:
    given = gate.post(messages=[{"role": "user", "content": nested(400)}], stream=is_stream)
    assert (given.status_code, given.json()["error"]["type"]) == (413, "invalid_request_error")


def test_arguments_that_nest_without_end_are_recorded_as_they_came(gate: Gateway, model: ModelServer) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": nested(400)}}
    whole = default_body("/messages", "x") | {"content": [use]}
    model.script(answer(whole))
    assert gate.post("/messages", model="claude-x").json() == whole
    said = gate.span()
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.response.id"]) == (7, "msg_scripted")
    assert json.loads(said["leyden.response.body"]) == whole


def test_streamed_arguments_that_nest_without_end_are_recorded_as_they_came(
    gate: Gateway, model: ModelServer
) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps({"a": nested(400)})}
    more = [
        {"type": "content_block_start", "index": 1, "content_block": use},
        {"type": "content_block_delta", "index": 1, "delta": delta},
        {"type": "content_block_stop", "index": 1},
    ]
    events = anthropic_events("x")
    model.script(stream(*events[:-2], *map(event, more), *events[-2:]))
    with gate.streaming("/messages", model="claude-x") as given:
        given.read()
    assert gate.span()["gen_ai.usage.input_tokens"] == 7


def test_the_models_that_are_spelled_out_are_listed_for_both_clients(narrow: Gateway) -> None:
    assert [one.id for one in openai_client(narrow).models.list()] == ["m"]
    assert [one.id for one in anthropic_client(narrow).models.list()] == ["m"]
    assert openai_client(narrow).models.retrieve("m").id == "m"


# ── Leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_cancels_the_upstream(
    gate: Gateway, model: ModelServer, is_stream: bool
) -> None:
    waiting = Gate()
    model.script(stream(*(chat_events("a b c")[:3] if is_stream else ()), waiting))
    before = len(model.requests)
    with httpx.Client(base_url=gate.url, timeout=60) as leaving:
        asked = QUESTION | {"stream": is_stream}
        sending = leaving.build_request("POST", f"{gate.base}/v1/chat/completions", json=asked)
        if is_stream:
            given = leaving.send(sending, stream=True)
            next(given.iter_raw())
            given.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post(f"{gate.base}/v1/chat/completions", json=asked, timeout=1.0)
    assert model.wait_for(before + 1)[-1].left.wait(20)
    said = gate.span()
    assert (said["leyden.gateway.outcome"], said["status"]) == ("cancelled", "UNSET")
    if is_stream:
        assert said["gen_ai.completion.0.content"] in ("", "a", "a b")
        assert said["leyden.usage.estimated"] is True
        assert said["gen_ai.usage.input_tokens"] > 0
    waiting.open()


# ── Another configuration ────────────────────────────────────────────────────────────────────────────────────────


def test_another_configuration_counts_from_the_next_call_on_and_the_old_ones_connections_end_with_their_calls(
    tmp_path: Path,
) -> None:
    with ModelServer() as before, ModelServer() as after, gateway(tmp_path, only(before)) as gate:
        half = Gate()
        before.script(stream(*chat_events("one two")[:2], half, *chat_events("one two")[2:]))
        with gate.streaming() as given:
            rest = given.iter_bytes()
            next(rest)
            assert gate.http.put("/api/gateway/config", json=only(after)).status_code == 200
            assert gate.post().status_code == 200
            assert len(after.requests) == 1
            half.open()
            assert b"[DONE]" in b"".join(rest)
        until(lambda: before.open_connections == 0)
        refused = gate.http.put("/api/gateway/config", json={"models": {"x": "nowhere"}})
        assert refused.status_code == 400
        assert gate.http.put("/api/gateway/config", json={}).json()["error"]["message"] == (
            "The configuration names no upstreams"
        )
        assert gate.post().status_code == 200
        assert [span.attributes["leyden.gateway.outcome"] for span in gate.spans(3)] == ["ok"] * 3
