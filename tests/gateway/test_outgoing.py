"""What an upstream is sent, and that only what the configuration says is changed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams import JSON
from leyden.gateway.call import Call, Door, Identity
from leyden.gateway.outgoing import Request, Settled, request

NOBODY = Identity("p", None, None, None, None, None, "none")
PLAIN = Settled({}, {})


def call(door: Door = "chat", **asked: Any) -> Call:
    body = json.dumps(asked, indent=1).encode()
    is_stream = asked.get("stream") is True
    family = "anthropic" if door == "messages" else "openai"
    return Call(
        door, family, NOBODY, "POST", "/x", b"", [], body, asked, str(asked.get("model")), is_stream, 0
    )


def sent(settled: Settled, door: Door = "chat", **asked: Any) -> Request:
    return request(call(door, **asked), settled, model="m")


@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name != "stream"), JSON, max_size=6))
def test_a_request_without_anything_to_set_is_the_clients_bytes(asked: dict[str, Any]) -> None:
    one = call(**asked | {"model": "m"})
    assert request(one, PLAIN, model="m") == (one.body, one.asked, {}, False)


def test_defaults_fill_in_and_forced_values_override() -> None:
    settled = Settled({"temperature": 0.1, "top_p": 0.5}, {"seed": 7, "max_tokens": 10})
    done = sent(settled, model="m", temperature=1.0, max_tokens=99)
    assert json.loads(done.body) == {
        "model": "m",
        "temperature": 1.0,
        "top_p": 0.5,
        "seed": 7,
        "max_tokens": 10,
    }
    assert done.changed == {"top_p": 0.5, "seed": 7, "max_tokens": 10}


def test_embeddings_are_not_sampled() -> None:
    assert sent(Settled({"temperature": 0.1}, {"seed": 7}, "system"), "embeddings", model="m").changed == {}


def test_the_model_is_named_as_the_target_knows_it() -> None:
    assert sent(PLAIN, model="alias").changed == {"model": "m"}
    assert "model" not in sent(PLAIN, messages=[]).asked


@pytest.mark.parametrize(
    ("asked", "asks"),
    [
        ({"stream": True}, True),
        ({"stream": True, "stream_options": None}, True),
        ({"stream": True, "stream_options": {"include_usage": False}}, True),
        ({"stream": True, "stream_options": {"include_usage": True}}, False),
        ({"stream": False}, False),
        ({}, False),
    ],
)
def test_counts_are_asked_for_where_a_stream_does_not(asked: dict[str, Any], asks: bool) -> None:
    done = sent(PLAIN, model="m", **asked)
    assert done.asks_usage is asks
    assert sent(Settled({}, {}, ask_usage=False), model="m", **asked).changed == {}
    if asks:
        assert done.asked["stream_options"] == {**(asked.get("stream_options") or {}), "include_usage": True}


@pytest.mark.parametrize("door", ["messages", "responses"])
def test_other_protocols_count_by_themselves(door: Door) -> None:
    assert sent(PLAIN, door, model="m", stream=True).asks_usage is False


def test_other_stream_options_stay() -> None:
    options = sent(PLAIN, model="m", stream=True, stream_options={"chunk": 3}).asked["stream_options"]
    assert options == {"chunk": 3, "include_usage": True}


@pytest.mark.parametrize(("door", "logprobs"), [("chat", True), ("completions", 0)])
def test_token_ids_and_logprobs_are_asked_for(door: Door, logprobs: Any) -> None:
    settled = Settled({}, {}, ask_tokens=True)
    assert sent(settled, door, model="m").changed == {"return_token_ids": True, "logprobs": logprobs}
    assert sent(settled, door, model="m", return_token_ids=True, logprobs=logprobs).changed == {}


@pytest.mark.parametrize(
    ("door", "changed"),
    [
        ("messages", {"system": "be kind"}),
        ("responses", {"instructions": "be kind"}),
        ("completions", {}),
        (
            "chat",
            {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]},
        ),
    ],
)
def test_a_released_prompt_takes_the_place_of_the_one_that_was_sent(
    door: Door, changed: dict[str, Any]
) -> None:
    messages = [{"role": "system", "content": "old"}, {"role": "user", "content": "hi"}]
    asked = {"messages": messages, "system": "old", "instructions": "old"}
    assert sent(Settled({}, {}, "be kind"), door, model="m", **asked).changed == changed
