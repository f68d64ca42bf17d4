"""A scripted model that answers like an OpenAI-compatible server: chat completions, plain or streamed, over HTTP.

Owns: the protocol. What it says is decided in `policy`.
"""

import json
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import cast

from leyden.demo.policy import (
    USUAL,
    Fidelity,
    Json,
    Reply,
    mind_of,
    next_reply,
    read_steps,
    read_wish,
    tokens,
)

MODEL = "scripted-front-desk"

# ── Chat completions ─────────────────────────────────────────────────────────────────────────────────────────────


def complete(body: Json, *, now: float = 0.0, fidelity: Fidelity = USUAL) -> Json:
    """The answer to one chat completion request, in OpenAI's form. Without a readable request it asks for one.

    body: `messages`, and optionally `tools` and `seed` (another seed draws anew). now: unix seconds, for `created`.
    """
    messages = cast(list[Json], body["messages"])
    prompt = "\n".join(_content(m) for m in messages if m.get("role") in ("system", "developer"))
    request = "\n".join(_content(m) for m in messages if m.get("role") == "user")
    tools = cast(list[Json], body.get("tools") or [])
    wish = read_wish(request)
    reply: Reply = "Please tell me the day, the time, how many of you there are, and your e-mail address."
    if wish and tools:
        mind = mind_of(prompt, request, tools, seed=int(body.get("seed") or 0), fidelity=fidelity)
        reply = next_reply(wish, read_steps(messages), mind)
    # The end of a conversation is enough to tell it apart: it holds the ids of the calls before.
    identity = sha256(json.dumps([len(messages), messages[-3:], body.get("seed")]).encode()).hexdigest()
    message = _message(reply, identity)
    used = sum(tokens(_content(m) + json.dumps(m.get("tool_calls") or "")) for m in messages)
    given, made = used + (tokens(json.dumps(tools)) if tools else 0), tokens(json.dumps(message))
    return {
        "id": f"chatcmpl-{identity[:24]}",
        "object": "chat.completion",
        "created": int(now),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "stop" if isinstance(reply, str) else "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
    }


def _content(message: Json) -> str:
    """The text of a message, also when it comes as a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in cast(list[Json], content))


def _message(reply: Reply, identity: str) -> Json:
    if isinstance(reply, str):
        return {"role": "assistant", "content": reply}
    calls = [
        {
            "id": f"call_{identity[:12]}_{n}",
            "type": "function",
            "function": {"name": call.tool, "arguments": json.dumps(call.arguments)},
        }
        for n, call in enumerate(reply)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def chunks(answer: Json, *, include_usage: bool) -> Iterator[Json]:
    """A whole answer as the chunks of a stream: text by words, tool calls in a head and two halves of arguments."""
    head = {key: answer[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = answer["choices"][0]
    for delta in ({"role": "assistant"}, *_deltas(choice["message"])):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if include_usage:
        yield {**head, "choices": [], "usage": answer["usage"]}


def _deltas(message: Json) -> Iterator[Json]:
    for word in re.findall(r"\S+\s*", message["content"] or ""):
        yield {"content": word}
    for index, call in enumerate(cast(list[Json], message.get("tool_calls") or [])):
        text = call["function"]["arguments"]
        yield {
            "tool_calls": [
                {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
            ]
        }
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _wants_usage(body: Json) -> bool:
    return bool(cast(Json, body.get("stream_options") or {}).get("include_usage"))


# ── The server ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def serve(*, port: int = 0, fidelity: Fidelity = USUAL) -> Generator[str, None, None]:
    """Serve the scripted model on loopback for the length of a with block; yields its base URL, ending in /v1."""

    class Handler(_Handler):
        faithful = fidelity

    server = _Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = (
        -1
    )  # Headers and body leave in one write; in two, Nagle's algorithm would add 40 ms to each answer.
    disable_nagle_algorithm = True
    faithful = USUAL

    def do_GET(self) -> None:
        if self.path.rstrip("/") == "/v1/models":
            return self._answer(
                200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "demo"}]}
            )
        self._refuse(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            return self._refuse(404, f"no such path: {self.path}")
        try:
            body = json.loads(raw)
            answer = complete(body, now=time(), fidelity=self.faithful)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._refuse(400, f"not a chat completion request: {error!r}")
        if not body.get("stream"):
            return self._answer(200, answer)
        self._stream(chunks(answer, include_usage=_wants_usage(body)))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the demo's screen is for its findings."""

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def _answer(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, parts: Iterator[Json]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in (*map(json.dumps, parts), "[DONE]"):
            event = f"data: {data}\n\n".encode()
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
