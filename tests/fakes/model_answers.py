"""Bodies and events that model servers answer with, in the shapes of the OpenAI and Anthropic APIs."""

import json
from typing import Any

CREATED = 1_800_000_000


def event(data: Any) -> bytes:
    """One server-sent event: Anthropic's form, which names it, when the data has a `type`; OpenAI's else."""
    if isinstance(data, str):
        return f"data: {data}\n\n".encode()
    name = f"event: {data['type']}\n" if isinstance(data, dict) and "type" in data else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def default_body(path: str, text: str) -> dict[str, Any]:
    """A whole answer that fits the door a path names."""
    for ending, make in _BODIES.items():
        if path.endswith(ending):
            return make(text)
    return _models(text)


def chat_events(text: str, *, usage: bool = True) -> list[bytes]:
    """A streamed chat completion: role, one event a word, finish, usage, [DONE]."""
    words = text.split(" ")
    pieces = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, "stop"))
    chunks = [_chunk([{"index": 0, "delta": delta, "finish_reason": end}]) for delta, end in deltas]
    if usage:
        chunks.append(_chunk([]) | {"usage": _usage(text)})
    return [*(event(chunk) for chunk in chunks), event("[DONE]")]


def anthropic_events(text: str) -> list[bytes]:
    """A streamed message: start, ping, one delta a word, stop."""
    words = text.split(" ")
    pieces = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
    start = _message(text) | {"content": [], "stop_reason": None}
    start["usage"] = {"input_tokens": 7, "output_tokens": 1}
    return [
        event({"type": "message_start", "message": start}),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        event({"type": "ping"}),
        *(
            event(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": piece},
                }
            )
            for piece in pieces
        ),
        event({"type": "content_block_stop", "index": 0}),
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": len(words)},
            }
        ),
        event({"type": "message_stop"}),
    ]


def responses_events(text: str) -> list[bytes]:
    """A streamed response: created, in progress, its one item and part, one delta a word, each of them done, completed."""
    words = text.split(" ")
    whole = _response(text)
    item = whole["output"][0]
    part = item["content"][0]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **at, "delta": word if i == 0 else f" {word}"}
            for i, word in enumerate(words)
        ),
        {"type": "response.output_text.done", **at, "text": text},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [event({**one, "sequence_number": n}) for n, one in enumerate(events)]


def _usage(text: str) -> dict[str, int]:
    tokens = len(text.split(" "))
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "scripted",
        "choices": choices,
    }


def _chat(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": CREATED,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(text),
    }


def _completion(text: str) -> dict[str, Any]:
    return {
        "id": "cmpl-scripted",
        "object": "text_completion",
        "created": CREATED,
        "model": "scripted",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(text),
    }


def _response(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    tokens = len(text.split(" "))
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": "scripted",
        "output": [
            {
                "id": "msg_scripted",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": content,
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 7, "output_tokens": tokens, "total_tokens": 7 + tokens},
    }


def _message(text: str) -> dict[str, Any]:
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": len(text.split(" "))},
    }


def _embeddings(text: str) -> dict[str, Any]:
    return {
        "object": "list",
        "model": "scripted",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def _models(text: str) -> dict[str, Any]:
    model = {"id": "scripted", "object": "model", "created": CREATED, "owned_by": "tests"}
    return {"object": "list", "data": [model]}


_BODIES = {
    "/chat/completions": _chat,
    "/completions": _completion,
    "/responses": _response,
    "/embeddings": _embeddings,
    "/messages": _message,
    "/count_tokens": lambda text: {"input_tokens": len(text.split(" "))},
}
