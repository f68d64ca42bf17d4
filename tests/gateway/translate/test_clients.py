"""The published clients read what comes out of a translation: answers, streams, tool calls, errors.

A server on loopback speaks one protocol to the client and has the other one's bytes as if an upstream had sent them.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

from gateway.translate.test_chat_stream import START, STOP, TEXT, begin, close, delta, finish
from gateway.translate.test_messages_stream import USAGE
from gateway.translate.wire import call, chat_bytes, chunk, messages_bytes
from leyden.errors import BadInput
from leyden.gateway.translate import Translator, translator

Doors = tuple[str, str]
MESSAGES_ON_CHAT, CHAT_ON_MESSAGES = ("messages", "chat"), ("chat", "messages")
SLICE = 7  # bytes that the upstream sends at a time: every event is cut


@contextmanager
def upstream(doors: Doors, answer: Any, *, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The base URL of a server that answers every call with this upstream's answer, and the requests as the upstream gets them."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bridge = translator(*doors, now=1_700_000_000)  # type: ignore[arg-type]
            assert bridge is not None
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append(bridge.request(asked)[1])
            is_stream = isinstance(answer, bytes)
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
            self.end_headers()
            for piece in streamed(bridge, answer) if is_stream else [whole(bridge)]:
                self.wfile.write(piece)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    def whole(bridge: Translator) -> bytes:
        return json.dumps(bridge.answer(status, answer)).encode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def streamed(bridge: Translator, sent: bytes) -> Iterator[bytes]:
    stream = bridge.stream()
    for at in range(0, len(sent), SLICE):
        yield stream.feed(sent[at : at + SLICE])
    yield stream.end()


def anthropic_client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)


def openai_client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)


TOOL = {"name": "read", "description": "Reads.", "input_schema": {"type": "object", "properties": {}}}
MESSAGES_CALL: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
    "thinking": {"type": "adaptive"},
    "tools": [TOOL],
}
CHAT_CALL: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "function": {"name": "read", "parameters": TOOL["input_schema"]}}],
}
CHAT_STREAM = chat_bytes(
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning": "Hm."}),
        chunk({"content": "I löo"}),
        chunk({"content": "k."}),
        call(0, '{"path": ', id="call_a", name="read", type="function"),
        call(1, '{"path": "é"', id="call_b", name="read", type="function"),
        call(0, '"x"}'),
        call(1, "}"),
        chunk({}, finish="tool_calls"),
        {"id": "chatcmpl-7", "choices": [], "usage": USAGE},
    ]
)
MESSAGES_STREAM = messages_bytes(
    [
        START,
        *TEXT,
        begin(1, type="tool_use", id="toolu_a", name="read", input={}),
        delta(1, type="input_json_delta", partial_json='{"path": '),
        delta(1, type="input_json_delta", partial_json='"x"}'),
        close(1),
        begin(2, type="tool_use", id="toolu_b", name="read", input={}),
        close(2),
        finish("tool_use"),
        STOP,
    ]
)


def check_message(message: anthropic.types.Message) -> None:
    thinking, text, first, second = message.content
    assert (thinking.type, thinking.thinking) == ("thinking", "Hm.")
    assert (text.type, text.text) == ("text", "I löok.")
    assert (first.type, first.id, first.name, first.input) == ("tool_use", "call_a", "read", {"path": "x"})
    assert (second.type, second.id, second.input) == ("tool_use", "call_b", {"path": "é"})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (40, 60)
    assert message.usage.output_tokens == 20
    # All that the client's own models ask for is there.
    anthropic.types.Message.model_validate(message.model_dump(exclude={"parsed_output"}, warnings=False))


def test_the_anthropic_client_streams_from_a_chat_upstream() -> None:
    with upstream(MESSAGES_ON_CHAT, CHAT_STREAM) as (url, received):
        with anthropic_client(url).messages.stream(**MESSAGES_CALL) as stream:
            kinds = [event.type for event in stream]
            message = stream.get_final_message()
        raw = anthropic_client(url).messages.create(**MESSAGES_CALL, stream=True)
        assert [event.type for event in raw][-2:] == ["message_delta", "message_stop"]
    check_message(message)
    assert {"text", "thinking", "input_json", "content_block_stop", "message_stop"} <= set(kinds)
    assert received[0]["stream_options"] == {"include_usage": True}


def test_the_anthropic_client_reads_a_whole_chat_answer() -> None:
    calls = [
        {
            "id": f"call_{letter}",
            "type": "function",
            "function": {"name": "read", "arguments": json.dumps({"path": path})},
        }
        for letter, path in (("a", "x"), ("b", "é"))
    ]
    said = {"role": "assistant", "content": "I löok.", "reasoning_content": "Hm.", "tool_calls": calls}
    answer = {
        "id": "chatcmpl-7",
        "model": "served",
        "choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    with upstream(MESSAGES_ON_CHAT, answer) as (url, _):
        check_message(anthropic_client(url).messages.create(**MESSAGES_CALL))


def test_the_openai_client_streams_from_anthropic() -> None:
    options = {"stream_options": {"include_usage": True}}
    with upstream(CHAT_ON_MESSAGES, MESSAGES_STREAM) as (url, received):
        client = openai_client(url)
        chunks = list(client.chat.completions.create(**CHAT_CALL, stream=True, **options))
        with client.chat.completions.stream(**CHAT_CALL, **options) as stream:
            final = stream.get_final_completion()
    assert received[0]["tools"] == [{"name": "read", "input_schema": {"type": "object", "properties": {}}}]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Héllo"
    assert chunks[-1].usage is not None
    choice = final.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Héllo", "tool_calls")
    assert [(call.id, call.function.arguments) for call in choice.message.tool_calls or []] == [
        ("toolu_a", '{"path": "x"}'),
        ("toolu_b", "{}"),
    ]
    assert final.usage is not None
    assert (final.usage.prompt_tokens, final.usage.total_tokens) == (100, 120)
    assert final.usage.prompt_tokens_details is not None
    assert final.usage.prompt_tokens_details.cached_tokens == 60


def test_the_openai_client_reads_a_whole_messages_answer() -> None:
    answer = {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [
            {"type": "text", "text": "Héllo"},
            {"type": "tool_use", "id": "toolu_a", "name": "read", "input": {"path": "x"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
    with upstream(CHAT_ON_MESSAGES, answer) as (url, _):
        made = openai_client(url).chat.completions.create(**CHAT_CALL)
    openai.types.chat.ChatCompletion.model_validate(made.model_dump(warnings=False))
    message = made.choices[0].message
    assert message.content == "Héllo"
    assert [call.function.arguments for call in message.tool_calls or []] == ['{"path":"x"}']
    assert made.usage is not None
    assert made.usage.total_tokens == 12


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
    ],
)
def test_the_anthropic_client_reads_an_openai_error(
    status: int, kind: type[anthropic.APIStatusError]
) -> None:
    answer = {"error": {"message": "Why.", "type": "x", "param": None, "code": None}}
    with upstream(MESSAGES_ON_CHAT, answer, status=status) as (url, _), pytest.raises(kind, match=r"Why\."):
        anthropic_client(url).messages.create(**MESSAGES_CALL)


def test_the_openai_client_reads_an_anthropic_error() -> None:
    answer = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9"}}
    raises = pytest.raises(openai.BadRequestError, match="too long")
    with upstream(CHAT_ON_MESSAGES, answer, status=400) as (url, _), raises as raised:
        openai_client(url).chat.completions.create(**CHAT_CALL)
    assert raised.value.code == "context_length_exceeded"


def _read_anthropic(url: str) -> None:
    with anthropic_client(url).messages.stream(**MESSAGES_CALL) as stream:
        stream.get_final_message()


def _read_openai(url: str) -> None:
    list(openai_client(url).chat.completions.create(**CHAT_CALL, stream=True))


@pytest.mark.parametrize(
    ("doors", "sent", "read", "error"),
    [
        (MESSAGES_ON_CHAT, CHAT_STREAM, _read_anthropic, anthropic.APIError),
        (CHAT_ON_MESSAGES, MESSAGES_STREAM, _read_openai, openai.APIError),
    ],
)
def test_a_client_of_a_stream_that_died_gets_an_error_and_no_half_answer(
    doors: Doors, sent: bytes, read: Callable[[str], None], error: type[Exception]
) -> None:
    with upstream(doors, sent[: len(sent) // 2]) as (url, _), pytest.raises(error, match="complete"):
        read(url)


def test_a_refusal_names_the_field_to_the_client() -> None:
    bridge = translator("messages", "chat")
    assert bridge is not None
    with pytest.raises(BadInput, match=r"^tools\[0\]\.type: "):
        bridge.request({**MESSAGES_CALL, "tools": [{"type": "computer_20250124"}]})
