"""A model server without a model, for trying the agents beside it offline: OpenAI's chat completions and Anthropic's messages, both also streamed.

It wants to know where the order is, then how long the way takes, then it answers. Its place in this script is the number of tool
results in the conversation, so it keeps no state. Nothing but the standard library.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]

CALLS = [("look_up_order", {"order_id": 7}), ("days_to", {"city": "Leiden"})]
ANSWER = "Order 7 left for Leiden on Monday. The way takes two days, so it arrives on Wednesday."


def step(body: Json) -> tuple[str, Json] | str:
    """What the model says next: a call (tool, arguments), or the answer."""
    done = sum(message["role"] == "tool" for message in body["messages"])  # OpenAI's form, and Anthropic's:
    for message in body["messages"]:
        if isinstance(message.get("content"), list):
            done += sum(part.get("type") == "tool_result" for part in message["content"])
    return CALLS[done] if done < len(CALLS) else ANSWER


def name_of(body: Json) -> str:
    """An id for the answer: the same for the same conversation."""
    return sha256(json.dumps(body["messages"]).encode()).hexdigest()[:20]


def tokens(value: Any) -> int:
    """About as many tokens as a model would count."""
    return len(json.dumps(value)) // 4 + 1


# ── OpenAI's chat completions ────────────────────────────────────────────────────────────────────────────────────


def completion(body: Json) -> Json:
    """A whole answer."""
    said = step(body)
    message: Json = {"role": "assistant", "content": said if isinstance(said, str) else None}
    if not isinstance(said, str):
        function = {"name": said[0], "arguments": json.dumps(said[1])}
        message["tool_calls"] = [{"id": f"call_{name_of(body)}", "type": "function", "function": function}]
    reason = "stop" if isinstance(said, str) else "tool_calls"
    sent, made = tokens(body["messages"]) + tokens(body.get("tools")), tokens(said)
    return {
        "id": f"chatcmpl-{name_of(body)}",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made},
    }


def completion_events(body: Json) -> Iterator[str]:
    """The same answer as a stream."""
    whole = completion(body)
    choice = whole["choices"][0]
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in (choice["message"]["content"] or "").split()]
    for call in choice["message"].get("tool_calls", []):
        deltas.append({"tool_calls": [{"index": 0, **call}]})
    for delta in deltas:
        yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    last = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    yield event({**head, "choices": [last]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event({**head, "choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


# ── Anthropic's messages ─────────────────────────────────────────────────────────────────────────────────────────


def message(body: Json) -> Json:
    """A whole answer."""
    said = step(body)
    block: Json = {"type": "text", "text": said}
    if not isinstance(said, str):
        block = {"type": "tool_use", "id": f"toolu_{name_of(body)}", "name": said[0], "input": said[1]}
    return {
        "id": f"msg_{name_of(body)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "end_turn" if isinstance(said, str) else "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens(body["messages"]) + tokens(body.get("tools")),
            "output_tokens": tokens(said),
        },
    }


def message_events(body: Json) -> Iterator[str]:
    """The same answer as a stream."""
    whole = message(body)
    block, usage = whole["content"][0], whole["usage"]
    start = {"content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield event({"type": "message_start", "message": {**whole, **start}})
    if block["type"] == "text":
        empty: Json = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": f"{word} "} for word in block["text"].split()]
    else:
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    yield event({"type": "content_block_start", "index": 0, "content_block": empty})
    for delta in deltas:
        yield event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield event({"type": "content_block_stop", "index": 0})
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    told = {"output_tokens": usage["output_tokens"]}
    yield event({"type": "message_delta", "delta": stop, "usage": told})
    yield event({"type": "message_stop"})


def event(data: Json) -> str:
    """One server-sent event."""
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n"


# ── The server ───────────────────────────────────────────────────────────────────────────────────────────────────

ANSWERS = {
    "/v1/chat/completions": (completion, completion_events),
    "/v1/messages": (message, message_events),
}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer, whole or as a stream."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = ANSWERS.get(self.path.partition("?")[0])
        if known is None:
            self.whole(404, {"error": {"type": "not_found_error", "message": f"nothing at {self.path}"}})
        elif body.get("stream"):
            self.streamed(known[1](body))
        else:
            self.whole(200, known[0](body))

    def whole(self, status: int, answer: Json) -> None:
        """Send JSON."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def streamed(self, events: Iterator[str]) -> None:
        """Send events as they are made."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for text in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text.encode()), text.encode()))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A scripted model server on this machine.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(130)
