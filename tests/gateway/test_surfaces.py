"""The rest of both APIs: it passes as it is, and what a model does there leaves a span."""

from pathlib import Path
from typing import Any

import openai
import pytest

from fakes.model_server import CLOSE, Answer, Gate, ModelServer, answer, failing, raw, stream
from gateway.serving import Calling, Gateway, gateway, only
from gateway.test_keys import key

SOUND = bytes(range(256)) * 1000
TOKENS = {"input_tokens": 14, "output_tokens": 30, "total_tokens": 44}


def client(gate: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gate.url}{gate.base}/v1", api_key="sk-mine", max_retries=0)


def test_files_pass_both_ways_and_leave_no_span(gate: Gateway, model: ModelServer) -> None:
    with client(gate) as ours:
        model.script(answer({"id": "file-1", "object": "file", "filename": "a.jsonl", "purpose": "batch"}))
        assert ours.files.create(file=("a.jsonl", SOUND), purpose="batch").id == "file-1"
        assert SOUND in model.requests[-1].body
        assert model.requests[-1].headers["authorization"] == "Bearer sk-mine"
        model.script(Answer(200, {"content-type": "application/octet-stream"}, (SOUND,)))
        assert ours.files.content("file-1").read() == SOUND
        assert model.requests[-1].path == "/v1/files/file-1/content"
        model.script(answer({"id": "file-1", "object": "file", "deleted": True}))
        assert ours.files.delete("file-1").deleted
        assert [request.method for request in model.requests[-3:]] == ["POST", "GET", "DELETE"]
    gate.post()
    assert [span.name for span in gate.spans()] == ["chat m"]


def test_a_transcription_is_a_span_without_its_sound(gate: Gateway, model: ModelServer) -> None:
    model.script(answer({"text": "Where is my order?", "usage": {"type": "tokens", **TOKENS}}))
    with client(gate) as ours:
        ours.audio.transcriptions.create(file=("a.wav", SOUND), model="gpt-4o-transcribe")
    span = gate.span()
    assert (span["gen_ai.operation.name"], span["gen_ai.request.model"]) == (
        "transcription",
        "gpt-4o-transcribe",
    )
    assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (14, 30)
    assert span["gen_ai.completion.0.content"] == "Where is my order?"
    assert "leyden.request.body" not in span
    [narrow] = gate.client.span_summaries(gate.rollout).items
    assert (narrow.kind, narrow.input_tokens, narrow.cost_usd) == ("llm", 14, None)


def test_a_picture_is_a_span_with_its_prompt_alone(gate: Gateway, model: ModelServer) -> None:
    model.script(answer({"created": 1, "data": [{"b64_json": "iVBOR" * 40_000}], "usage": TOKENS}))
    with client(gate) as ours:
        made = ours.images.generate(model="gpt-image-1", prompt="A red fox")
    assert made.data is not None
    assert made.data[0].b64_json == "iVBOR" * 40_000
    span = gate.span()
    assert span["gen_ai.prompt.0.content"] == "A red fox"
    assert (span["gen_ai.operation.name"], span["gen_ai.usage.output_tokens"]) == ("image_generation", 30)
    assert "iVBOR" not in str(span)


def test_sound_is_played_as_it_comes(gate: Gateway, model: ModelServer) -> None:
    second = Gate()
    model.script(
        Answer(200, {"content-type": "audio/mpeg"}, (b"\xffone", second, b"\xfftwo"), framing="chunked")
    )
    asked = {"model": "tts-1", "voice": "alloy", "input": "Hello"}
    with gate.http.stream("POST", f"{gate.base}/v1/audio/speech", json=asked) as given:
        heard = given.iter_raw()
        assert next(heard) == b"\xffone"
        second.open()
        assert b"".join(heard) == b"\xfftwo"
    span = gate.span()
    assert (span["gen_ai.operation.name"], span["gen_ai.prompt.0.content"]) == ("text_to_speech", "Hello")
    assert "leyden.response.body" not in span


def test_a_stored_response_is_read_and_cancelled_where_it_was_made(gate: Gateway, model: ModelServer) -> None:
    with client(gate) as ours:
        for call in (ours.responses.retrieve, ours.responses.cancel):
            model.script(answer({"id": "resp_1", "object": "response", "output": []}))
            assert call("resp_1").id == "resp_1"
    assert [request.path for request in model.requests[-2:]] == [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
    ]


@pytest.mark.parametrize("path", ["/messages/batches", "/files"])
def test_what_belongs_to_anthropic_goes_there(tmp_path: Path, path: str) -> None:
    with ModelServer() as one, ModelServer() as other:
        config = only(one)
        config["upstreams"]["anthropic"]["base_url"] = f"{other.url}/v1"
        with gateway(tmp_path, config) as gate:
            headers = {"anthropic-version": "2023-06-01", "x-api-key": "sk-ant"}
            assert gate.http.get(f"/v1{path}", headers=headers).status_code == 200
        assert [request.path for request in other.requests] == [f"/v1{path}"]
        assert other.requests[0].headers["x-api-key"] == "sk-ant"


def test_what_no_upstream_takes_is_refused_in_the_clients_protocol(
    tmp_path: Path, model: ModelServer
) -> None:
    config: dict[str, Any] = only(model)
    del config["upstreams"]["anthropic"], config["models"]["claude-*"]
    with gateway(tmp_path, config) as gate:
        given = gate.http.get("/v1/messages/batches")
        assert (given.status_code, given.json()["type"]) == (404, "error")
        assert "Anthropic's API" in given.json()["error"]["message"]


def test_a_key_for_some_models_opens_nothing_that_names_none(gate: Gateway) -> None:
    headers = key(gate, models=("gpt-4*",))
    given = gate.http.get("/v1/files", headers=headers)
    assert given.status_code == 403
    assert "names none" in given.json()["error"]["message"]
    asked = {"model": "gpt-4o-transcribe", "input": "x"}
    assert gate.http.post("/v1/moderations", json=asked, headers=headers).status_code == 200


def test_what_makes_something_is_never_asked_for_twice(tmp_path: Path, model: ModelServer) -> None:
    with gateway(tmp_path, only(model, retry={"tries": 3, "base_s": 0})) as gate:
        before = len(model.requests)
        model.script(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", CLOSE))
        assert gate.http.post("/v1/batches", json={"endpoint": "/v1/responses"}).status_code == 502
        assert len(model.requests) == before + 1
        model.script(failing(404))
        assert gate.http.get("/v1/batches/b-1").status_code == 404


def test_events_pass_and_their_end_is_read(gate: Gateway, model: ModelServer) -> None:
    pieces = [
        b'data: {"type":"image_generation.partial_image","b64_json":"iVBOR"}\n\n',
        b'data: {"type":"image_generation.completed","usage":{"input_tokens":14,"output_tokens":30}}\n\n',
    ]
    model.script(stream(*pieces))
    asked = {"model": "gpt-image-1", "prompt": "fox", "stream": True}
    given = Calling(gate, door="/images/generations", **asked).answer()
    assert given.content == b"".join(pieces)
    assert gate.span()["gen_ai.usage.output_tokens"] == 30
