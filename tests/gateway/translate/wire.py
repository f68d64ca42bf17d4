"""Streams as the upstreams of these tests send them, and as their clients read them."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from leyden.gateway.call import Door
from leyden.gateway.translate import StreamTranslator, translator


def chunk(delta: dict[str, Any], *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chat chunk with one choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-7", "created": 1, "model": "served", "choices": [choice], **fields}


def call(n: int, arguments: str, **fields: Any) -> dict[str, Any]:
    """A chat chunk with a piece of a tool call; name and id where they are given."""
    function = {"arguments": arguments} | ({"name": fields.pop("name")} if "name" in fields else {})
    return chunk({"tool_calls": [{"index": n, "function": function, **fields}]})


def chat_bytes(chunks: Iterable[Any], *, done: bool = True) -> bytes:
    """Chat chunks as they go over the wire."""
    datas = [json.dumps(item, ensure_ascii=False) for item in chunks] + ["[DONE]"] * done
    return "".join(f"data: {data}\n\n" for data in datas).encode()


def messages_bytes(events: Iterable[dict[str, Any]]) -> bytes:
    """Messages events as they go over the wire."""
    return "".join(
        f"event: {item['type']}\ndata: {json.dumps(item, ensure_ascii=False)}\n\n" for item in events
    ).encode()


def told(stream: bytes) -> list[dict[str, Any]]:
    """The objects that a client reads; `[DONE]` is {}."""
    lines = (line for line in stream.decode().split("\n") if line.startswith("data: "))
    return [{} if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def to_messages(**asked: Any) -> StreamTranslator:
    """For a Messages client on a chat upstream."""
    bridge = translator("messages", "chat")
    assert bridge is not None
    bridge.request({"model": "m", "messages": [], "stream": True, **asked})
    return bridge.stream()


def to_chat(**asked: Any) -> StreamTranslator:
    """For a chat client on an Anthropic upstream."""
    bridge = translator("chat", "messages", now=1_700_000_000)
    assert bridge is not None
    bridge.request({"model": "m", "messages": [], "stream": True, **asked})
    return bridge.stream()


def to_responses(upstream: Door = "chat", **asked: Any) -> StreamTranslator:
    """For a Responses client on a chat upstream, or on one of Messages."""
    bridge = translator("responses", upstream, now=1_700_000_000)
    assert bridge is not None
    bridge.request({"model": "m", "input": "Hi", "stream": True, **asked})
    return bridge.stream()


def whole(stream: StreamTranslator, sent: bytes, *, cuts: Iterable[int] = ()) -> bytes:
    """All that the client gets when the upstream's bytes come cut at these places."""
    edges = [0, *sorted(cuts), len(sent)]
    pieces = [sent[a:b] for a, b in pairwise(edges)]
    return b"".join([*map(stream.feed, pieces), stream.end()])
