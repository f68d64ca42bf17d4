"""What is read and kept of a request that is far too much: the newest of it, in bounded memory, and said so."""

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.exchanges import call, exchange
from gateway.serving import Gateway
from gateway.test_recording import record, said_in, span_of
from leyden.gateway.call import Door
from leyden.gateway.fitting import MOST_MESSAGES, MOST_TOOLS, MOST_VALUES
from leyden.gateway.incoming import MAX_VALUES

MANY = 300_000
EMPTY: list[Any] = [{} for _ in range(MANY)]


def conversation(count: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"turn {n}"} for n in range(count)]


def prompts(said: Mapping[str, Any]) -> list[str]:
    """The flat messages in order, as an adapter reads them: from 0 until there is none."""
    found: list[str] = []
    while (content := said.get(f"gen_ai.prompt.{len(found)}.content")) is not None:
        found.append(content)
    return found


@pytest.mark.parametrize(
    ("door", "asked"),
    [
        ("chat", {"messages": EMPTY}),
        ("chat", {"messages": [[] for _ in range(MANY)]}),
        ("chat", {"messages": [{"role": "user", "content": EMPTY}]}),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": EMPTY}]}),
        ("chat", {"messages": [], "tools": EMPTY}),
        ("chat", {"messages": [], "tool_choice": EMPTY}),
        ("messages", {"messages": EMPTY}),
        ("messages", {"messages": [{"role": "user", "content": ["x" for _ in range(MANY)]}]}),
        ("messages", {"messages": [], "system": EMPTY}),
        ("responses", {"input": EMPTY}),
        ("embeddings", {"input": ["x" for _ in range(MANY)]}),
    ],
)
def test_a_request_of_a_million_little_things_is_recorded_in_bounded_memory(
    door: Door, asked: dict[str, Any]
) -> None:
    one = exchange(call(door, asked={"model": "m", **asked}))
    tracemalloc.start()
    try:
        found = record(one)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20
    assert len(found.record.payload) < 4 * 2**20


def test_the_newest_messages_stay_and_are_numbered_from_the_first_that_did() -> None:
    given = conversation(MOST_MESSAGES + 10)
    said = said_in(exchange(call(asked={"model": "m", "messages": given})))
    assert prompts(said) == [message["content"] for message in given[10:]]
    assert len(json.loads(said["gen_ai.input.messages"])) == MOST_MESSAGES
    assert (said["leyden.gateway.cut"], said["leyden.gateway.left_out.messages"]) == (True, 10)


def test_what_the_system_says_stays_in_front_of_the_newest_messages() -> None:
    system = {"role": "system", "content": "Be brief."}
    given = [system, *conversation(MOST_MESSAGES + 10)]
    said = said_in(exchange(call(asked={"model": "m", "messages": given})))
    assert prompts(said)[:2] == ["Be brief.", "turn 10"]
    small = said_in(exchange(call(asked={"model": "m", "messages": given[:500]})), max_bytes=8_000)
    assert prompts(small)[0] == "Be brief."
    assert prompts(small)[-1] == "turn 498"
    kept = json.loads(small["gen_ai.input.messages"])
    assert small["leyden.gateway.left_out.messages"] == 500 - len(kept)


def test_a_long_conversation_that_fits_is_kept_whole() -> None:
    given = conversation(MOST_MESSAGES)
    said = said_in(exchange(call(asked={"model": "m", "messages": given})))
    assert len(prompts(said)) == MOST_MESSAGES
    assert not [name for name in said if "left_out" in name or name == "leyden.gateway.cut"]


def test_the_first_tools_stay() -> None:
    tools = [
        {"type": "function", "function": {"name": f"tool-{n}", "parameters": {}}}
        for n in range(MOST_TOOLS + 5)
    ]
    said = said_in(exchange(call(asked={"model": "m", "messages": [], "tools": tools})))
    assert said["gen_ai.request.functions.0.name"] == "tool-0"
    assert f"gen_ai.request.functions.{MOST_TOOLS}.name" not in said
    assert said["leyden.gateway.left_out.tools"] == 5


def test_a_field_that_holds_too_much_is_left_out_and_counted() -> None:
    asked = {"model": "m", "messages": conversation(1), "tool_choice": [{}] * (MOST_VALUES + 1)}
    assert said_in(exchange(call(asked=asked)))["leyden.gateway.left_out.fields"] == 1


def test_a_long_prompt_of_token_ids_is_one_text() -> None:
    asked = {"model": "m", "prompt": list(range(100_000))}
    assert prompts(said_in(exchange(call("completions", asked=asked)))) == ["[100000 token ids]"]


def test_texts_are_cut_to_the_limit_in_every_form() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "x" * 50_000}]}
    answer = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "y" * 50_000}}]}
    found = record(exchange(call(asked=asked), body=json.dumps(answer).encode()), max_bytes=1_000)
    said = span_of(found)["attributes"]
    for text, letter in ((prompts(said)[0], "x"), (said["gen_ai.completion.0.content"], "y")):
        assert text.startswith(letter * 900)
        assert text.endswith(" characters]")
        assert len(text) < 1_100
    assert (said["gen_ai.prompt.0.role"], said["gen_ai.completion.0.role"]) == ("user", "assistant")
    assert len(found.record.payload) < 10_000


def test_token_ids_are_kept_whole_or_not_at_all() -> None:
    choice = {"index": 0, "message": {"content": "y"}, "token_ids": list(range(1_000))}
    body = json.dumps({"id": "c", "choices": [choice]}).encode()
    assert len(said_in(exchange(body=body))["response_token_ids"]) == 1_000
    assert "response_token_ids" not in said_in(exchange(body=body), max_bytes=1_000)


def test_a_body_of_more_than_a_million_values_is_refused(gate: Gateway) -> None:
    body = b'{"model": "gpt-x", "messages": [%s{}]}' % (b"{}," * MAX_VALUES)
    given = gate.http.post(f"{gate.base}/v1/chat/completions", content=body)
    assert given.status_code == 413
    assert f"more than {MAX_VALUES} objects and lists" in given.json()["error"]["message"]
