"""Exchanges as the gateway hands them to the recording, with overrides."""

import json
from typing import Any

from fakes.model_answers import default_body
from leyden.gateway.call import Call, Door, Exchange, Identity

BEGAN_NS = 1_800_000_000_000_000_000
IDENTITY = Identity("default", "ro-1", "at-1", None, None, None, "path")


def call(
    door: Door = "chat", *, identity: Identity = IDENTITY, asked: dict[str, Any] | None = None, **more: Any
) -> Call:
    """A small question."""
    family = "anthropic" if door in ("messages", "count_tokens") else "openai"
    given = (
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello?"}]} if asked is None else asked
    )
    fields: dict[str, Any] = {"headers": [], "body": json.dumps(given).encode(), "is_stream": False, **more}
    return Call(
        door=door, family=family, identity=identity, method="POST", path=f"/{door}", query=b"", asked=given,
        model=str(given.get("model", "")), began_ns=BEGAN_NS, **fields,
    )  # fmt: skip


def exchange(of: Call | None = None, *, body: bytes | None = None, **more: Any) -> Exchange:
    """A call that was answered "Hi there" after a second and a half."""
    of = of or call()
    answer = json.dumps(default_body("/chat/completions", "Hi there") | {"model": "gpt-4o"}).encode()
    fields: dict[str, Any] = {
        "outcome": "ok", "status": 200, "upstream": "openai", "upstream_family": of.family, "upstream_door": of.door,
        "upstream_model": of.model, "tries": 1, "body": [answer if body is None else body], "encoding": "",
        "is_cut": False, "first_byte_ns": BEGAN_NS + 500_000_000, "ended_ns": BEGAN_NS + 1_500_000_000, **more,
    }  # fmt: skip
    return Exchange(call=of, **fields)
