"""A conversation translated there and back says the same: roles, texts, tool calls and results."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leyden.gateway.translate import translator

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = st.sampled_from(["read", "find", "now"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns as Anthropic's API has them: a question, then answers, whose tool calls are all answered in the next turn."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": draw(user_parts(at_least=1))}]
    for n in range(draw(st.integers(0, 4))):
        calls = [
            {
                "type": "tool_use",
                "id": f"toolu_{n}_{k}",
                "name": draw(NAMES),
                "input": draw(st.dictionaries(TEXT, JSON)),
            }
            for k in range(draw(st.integers(0, 3)))
        ]
        words = [{"type": "text", "text": draw(TEXT)}] if not calls or draw(st.booleans()) else []
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(st.one_of(st.just(""), TEXT)),
            }
            for call in calls
        ]
        turns.append({"role": "assistant", "content": [*words, *calls]})
        turns.append({"role": "user", "content": [*results, *draw(user_parts(at_least=0 if calls else 1))]})
    return turns


@st.composite
def user_parts(draw: st.DrawFn, *, at_least: int) -> list[dict[str, Any]]:
    part = st.one_of(st.builds(lambda text: {"type": "text", "text": text}, TEXT), st.just(IMAGE))
    return draw(st.lists(part, min_size=at_least, max_size=3))


def there(client: str, upstream: str, body: dict[str, Any]) -> dict[str, Any]:
    bridge = translator(client, upstream)  # type: ignore[arg-type]
    assert bridge is not None
    return bridge.request(body)[1]


@given(conversations(), st.none() | TEXT, st.floats(0, 1), st.booleans())
def test_a_messages_request_comes_back_from_chat_as_it_was(
    turns: list[dict[str, Any]], system: str | None, temperature: float, stream: bool
) -> None:
    body: dict[str, Any] = {"model": "m", "max_tokens": 7, "messages": turns, "temperature": temperature}
    if system is not None:
        body["system"] = [{"type": "text", "text": system}]
    if stream:
        body["stream"] = True
    assert there("chat", "messages", there("messages", "chat", body)) == body


def chat_message(said: dict[str, Any]) -> dict[str, Any]:
    """What a chat message says, whatever the form of its content and of its arguments."""
    content = said.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in said.get("tool_calls", [])
    ]
    return {
        "role": said["role"],
        "parts": [part for part in parts if part.get("text") != ""],
        "calls": calls,
        "answers": said.get("tool_call_id"),
    }


@given(conversations())
def test_a_chat_request_comes_back_from_messages_saying_the_same(turns: list[dict[str, Any]]) -> None:
    body = there("messages", "chat", {"model": "m", "max_tokens": 7, "messages": turns})
    again = there("messages", "chat", there("chat", "messages", body))
    assert list(map(chat_message, again["messages"])) == list(map(chat_message, body["messages"]))


@given(conversations())
def test_an_answer_comes_back_from_chat_as_it_was(turns: list[dict[str, Any]]) -> None:
    content = next((turn["content"] for turn in turns if turn["role"] == "assistant"), [])
    has_calls = any(block["type"] == "tool_use" for block in content)
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 2,
        "output_tokens": 4,
    }
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "tool_use" if has_calls else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    to_chat, back = translator("chat", "messages"), translator("messages", "chat")
    assert to_chat is not None
    assert back is not None
    assert back.answer(200, to_chat.answer(200, body)) == body
