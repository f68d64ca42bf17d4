"""What an upstream is sent for a call: the client's own bytes, unless the configuration says otherwise. Pure.

Promises: a request in which nothing is to be set goes out byte for byte as it came; what is set differently is said in `changed`, for
the record. Refuses to know: where it goes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from leyden.gateway.call import Call, Door
from leyden.ingest.shapes import list_or_empty, object_or_empty

SAMPLED: frozenset[Door] = frozenset({"chat", "completions", "responses", "messages"})
"""Doors whose calls generate something."""


class Settled(NamedTuple):
    """What the configuration sets in the requests of an alias. defaults: where the request says nothing; forced: over what it says.

    system: a text that becomes the system message. ask_usage: ask a stream of chat chunks for its token counts.
    ask_tokens: ask for token ids and logprobs, which vLLM and SGLang give.
    """

    defaults: Mapping[str, Any]
    forced: Mapping[str, Any]
    system: str | None = None
    ask_usage: bool = True
    ask_tokens: bool = False


class Request(NamedTuple):
    """A request body for one target, and by key what is different from what the client asked for."""

    body: bytes
    asked: dict[str, Any]
    changed: dict[str, Any]
    asks_usage: bool
    """Whether the token counts of this stream are asked for by us: then the client must not see the chunk that carries them."""


def request(call: Call, settled: Settled, *, model: str) -> Request:
    """The body for a target that knows the model as `model`."""
    if call.method == "GET" or not call.asked:
        return Request(call.body, call.asked, {}, False)
    changed: dict[str, Any] = {}
    if call.door in SAMPLED:
        changed |= {name: value for name, value in settled.defaults.items() if name not in call.asked}
        changed |= {
            name: value
            for name, value in settled.forced.items()
            if name not in call.asked or call.asked[name] != value
        }
        if settled.ask_tokens and call.door in ("chat", "completions"):
            changed |= _tokens(call)
    if call.asked.get("model") != model and "model" in call.asked:
        changed["model"] = model
    asks_usage = settled.ask_usage and _says_no_usage(call)
    if asks_usage:
        changed["stream_options"] = {**_options(call), "include_usage": True}
    if settled.system is not None and call.door in SAMPLED:
        changed |= _with_system(call, settled.system)
    if not changed:
        return Request(call.body, call.asked, {}, False)
    asked = {**call.asked, **changed}
    return Request(orjson.dumps(asked), asked, changed, asks_usage)


def _says_no_usage(call: Call) -> bool:
    return call.is_stream and call.door in ("chat", "completions") and not _options(call).get("include_usage")


def _options(call: Call) -> dict[str, Any]:
    return object_or_empty(call.asked.get("stream_options"))


def _tokens(call: Call) -> dict[str, Any]:
    wanted: dict[str, Any] = {"return_token_ids": True}
    wanted["logprobs"] = True if call.door == "chat" else call.asked.get("logprobs") or 0
    return {name: value for name, value in wanted.items() if call.asked.get(name) != value}


def _with_system(call: Call, text: str) -> dict[str, Any]:
    """The keys that carry the system message in each protocol; one that the request brought gives way."""
    if call.door == "messages":
        return {"system": text}
    if call.door == "responses":
        return {"instructions": text}
    if call.door == "completions":
        return {}
    kept = [
        message
        for message in list_or_empty(call.asked.get("messages"))
        if object_or_empty(message).get("role") not in ("system", "developer")
    ]
    return {"messages": [{"role": "system", "content": text}, *kept]}
