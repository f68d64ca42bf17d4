"""Streams that an upstream compresses although it was asked not to, and that have to be translated."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anthropic
import brotli
import openai
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.model_answers import default_body
from fakes.model_server import CLOSE, Gate, ModelServer, answer, anthropic_events, chat_events, stream
from gateway.serving import Gateway, at, gateway
from gateway.streams import pieces_of

TEXT = "Zürich grüßt 🎈"
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}
ASKED: dict[str, Any] = {"max_tokens": 50, "messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def served(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose `claude-x` has chat completions only, and whose `gpt-x` is Anthropic's."""
    config = {
        "upstreams": {"local": at(model, kind="vllm"), "anthropic": at(model, kind="anthropic")},
        "models": {"claude-*": "local", "*": "anthropic"},
        "gateway": {"retry": {"tries": 1}},
    }
    with gateway(tmp_path_factory.mktemp("gateway"), config) as served:
        yield served


@pytest.fixture
def gate(served: Gateway) -> Gateway:
    return fresh(served)


def fresh(served: Gateway) -> Gateway:
    return replace(served, rollout=f"ro-{uuid4().hex[:12]}")


def packed(model: ModelServer, encoding: str, pieces: list[bytes], *more: Any) -> None:
    """Script a compressed stream in these pieces."""
    model.script(stream(*pieces, *more, headers={"content-encoding": encoding}))


def anthropic_client(gate: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{gate.url}{gate.base}", api_key="sk-test", max_retries=0)


def openai_client(gate: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gate.url}{gate.base}/v1", api_key="sk-test", max_retries=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 10_000), max_size=12))
def test_each_encoding_is_undone_and_translated_wherever_the_bytes_are_cut(
    served: Gateway, model: ModelServer, encoding: str, places: list[int]
) -> None:
    gate = fresh(served)
    sent = ENCODINGS[encoding](b"".join(chat_events(TEXT)))
    packed(model, encoding, [piece for piece in pieces_of(sent, places) if piece])
    with anthropic_client(gate) as client, client.messages.stream(**ASKED, model="claude-x") as streamed:
        message = streamed.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 3)
    said = gate.span()
    assert (said["gen_ai.completion.0.content"], said["gen_ai.usage.output_tokens"]) == (TEXT, 3)
    assert said["leyden.gateway.outcome"] == "ok"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_answer_of_anthropic_reaches_openais_clients(
    gate: Gateway, model: ModelServer, encoding: str
) -> None:
    sent = ENCODINGS[encoding](b"".join(anthropic_events(TEXT)))
    with openai_client(gate) as client:
        packed(model, encoding, [sent])
        chunks = list(client.chat.completions.create(model="gpt-x", messages=ASKED["messages"], stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        packed(model, encoding, [sent])
        with client.responses.stream(model="gpt-x", input="Hello?") as streamed:
            assert streamed.get_final_response().output_text == TEXT


def test_each_event_arrives_as_soon_as_the_upstream_flushed_it(gate: Gateway, model: ModelServer) -> None:
    squeeze = zlib.compressobj(wbits=31)
    events = chat_events(TEXT)
    first, rest = b"".join(events[:2]), b"".join(events[2:])
    waiting = Gate()
    flushed = squeeze.compress(first) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    packed(model, "gzip", [flushed], waiting, squeeze.compress(rest) + squeeze.flush())
    with anthropic_client(gate) as client, client.messages.stream(**ASKED, model="claude-x") as streamed:
        pieces = streamed.text_stream
        assert next(pieces) == "Zürich"
        waiting.open()
        assert "".join(pieces) == " grüßt 🎈"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_stream_whose_encoding_is_broken_ends_with_an_error_behind_what_came_before(
    gate: Gateway, model: ModelServer, encoding: str
) -> None:
    whole = b"".join(anthropic_events(" ".join(uuid4().hex for _ in range(2000))))
    sent = ENCODINGS[encoding](whole)
    half = len(sent) // 2
    packed(model, encoding, [sent[:half] + b"\xff\xfe" * 999 + sent[half:]])
    with openai_client(gate) as client:
        *before, last = client.responses.create(model="gpt-x", input="Hello?", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message
    assert [event.sequence_number for event in before] == list(range(len(before)))
    assert "response.output_text.delta" in {event.type for event in before}
    said = gate.span()
    assert said["gen_ai.completion.0.content"]


def test_a_fault_is_told_with_its_reason_in_each_protocol(gate: Gateway, model: ModelServer) -> None:
    packed(model, "gzip", [gzip.compress(b"".join(chat_events(TEXT)[:2])), b"no gzip at all"])
    with anthropic_client(gate) as client, pytest.raises(anthropic.APIError, match="is no gzip: broken"):
        list(client.messages.create(**ASKED, model="claude-x", stream=True))
    packed(model, "gzip", [gzip.compress(b"".join(anthropic_events(TEXT)[:3])), b"no gzip at all"])
    with openai_client(gate) as client, pytest.raises(openai.APIError, match="is no gzip: broken"):
        list(client.chat.completions.create(model="gpt-x", messages=ASKED["messages"], stream=True))
    for span in gate.spans(2):
        assert span.attributes["leyden.gateway.outcome"] == "broken"


def test_a_compressed_stream_that_dies_ends_with_an_error(gate: Gateway, model: ModelServer) -> None:
    squeeze = zlib.compressobj(wbits=31)
    begun = squeeze.compress(b"".join(chat_events(TEXT)[:2])) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    packed(model, "gzip", [begun], CLOSE)
    with anthropic_client(gate) as client, pytest.raises(anthropic.APIError, match="broke off"):
        list(client.messages.create(**ASKED, model="claude-x", stream=True))
    assert gate.span()["gen_ai.completion.0.content"] == "Zürich"


def test_an_encoding_without_its_end_is_no_fault_of_a_complete_answer(
    gate: Gateway, model: ModelServer
) -> None:
    squeeze = zlib.compressobj(wbits=31)
    sent = squeeze.compress(b"".join(chat_events(TEXT))) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    packed(model, "gzip", [sent])
    with anthropic_client(gate) as client, client.messages.stream(**ASKED, model="claude-x") as streamed:
        assert streamed.get_final_text() == TEXT


def test_an_encoding_that_nobody_knows_is_an_error_and_no_empty_answer(
    gate: Gateway, model: ModelServer
) -> None:
    packed(model, "rot13", [b"qngn: {}\n\n"])
    with anthropic_client(gate) as client, pytest.raises(anthropic.InternalServerError, match="rot13"):
        client.messages.create(**ASKED, model="claude-x", stream=True)
    assert gate.span()["leyden.gateway.outcome"] == "broken"


def test_a_whole_answer_that_does_not_decode_is_an_error_and_no_empty_answer(
    gate: Gateway, model: ModelServer
) -> None:
    cut = gzip.compress(json.dumps(default_body("/chat/completions", TEXT)).encode())[:-40]
    model.script(answer(cut, headers={"content-encoding": "gzip"}))
    with anthropic_client(gate) as client, pytest.raises(anthropic.InternalServerError, match="no JSON: cut"):
        client.messages.create(**ASKED, model="claude-x")
    assert gate.span()["leyden.gateway.outcome"] == "broken"
