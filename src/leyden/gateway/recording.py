"""An exchange as a span: what was asked, what came back, what it cost, where it went. Pure; runs off the request's path.

Promises: never raises for anything that a client or an upstream sent: what cannot be read is recorded as it came. The span holds both
bodies (cut at the limit), and everything that was counted of the answer whatever protocol it was in. No key is in it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from leyden.gateway import conventions
from leyden.gateway.call import Exchange
from leyden.gateway.estimating import estimated, is_counted
from leyden.gateway.fitting import fitting
from leyden.gateway.hearing import Heard, heard, is_text
from leyden.gateway.identity import attempt_of, trace_of
from leyden.gateway.reading import Said
from leyden.gateway.wires import wire_of
from leyden.ingest import agl_json
from leyden.ingest.prices import Priced
from leyden.ingest.record import GATEWAY, SpanRecord
from leyden.ingest.usage import Usage
from leyden.sdk import semconv

PROVIDERS = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
}
"""`gen_ai.provider.name` by kind of upstream, where the two differ."""

PRICE_LISTS = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex": "google",
    "bedrock": "aws",
    "vllm": "vllm",
    "sglang": "sglang",
    "ollama": "ollama",
}
"""Whose price list applies by kind of upstream, where the configuration names none; the last three are known to have none."""

_SMALL = 64 * 1024  # bytes; larger bodies of the surfaces that pass as they are hold pictures, sound or files
_LEFT_OUT = "leyden.gateway.left_out."
UNFINISHED = "the stream ended before its answer was complete"
_STOPPED = {"cancelled": "the client left", "broken": "the answer broke off", "timeout": "no answer in time"}


class Recorded(NamedTuple):
    """A call as it goes to the store. usage and usd None: not said, not known."""

    record: SpanRecord
    usage: Usage | None
    usd: float | None
    operation: str
    provider: str
    model: str
    said: Said


Price = Callable[[Usage, str | None, str, float, str | None], Priced | None]
"""Usage, whose price list, model, unix seconds and service tier → its price; None when nobody knows it."""


def recorded(
    exchange: Exchange,
    *,
    kind: str,
    price_provider: str | None,
    price: Price,
    with_content: bool,
    max_bytes: int,
    shared: float | None,
) -> Recorded:
    """The span of an exchange. kind: of its upstream ("" for none). shared: share of the request that repeats one before it."""
    call = exchange.call
    operation = conventions.operation_of(call) or call.door
    provider = PROVIDERS.get(kind, kind) or exchange.upstream_family
    fitted = fitting(call.asked, call.body)
    asked = wire_of(call.door).asked(fitted.asked)
    answer = heard(exchange, max_bytes=max_bytes)
    exchange = _judged(exchange, answer)
    guess = _guess(exchange, answer.said)
    said = answer.said if guess is None else answer.said._replace(usage=guess)
    model = said.model or exchange.upstream_model or call.model
    priced = None
    # Pictures and sound have prices of their own, which no list of prices per token knows.
    if said.usage is not None and call.door != "other":
        at_s = exchange.ended_ns / 1e9
        # An upstream may call its model what no list knows; what it was asked for is the next best name.
        names = dict.fromkeys((model, exchange.upstream_model or model))
        seller = price_provider or PRICE_LISTS.get(kind)
        found = (price(said.usage, seller, name, at_s, said.service_tier) for name in names)
        priced = next((one for one in found if one is not None), None)
    attributes: dict[str, Any] = {
        semconv.OPERATION: operation,
        semconv.PROVIDER: provider,
        semconv.REQUEST_MODEL: call.model,
        **conventions.of_request(asked),
        **conventions.of_response(said),
        **_how(exchange, shared=shared),
    }
    if guess is not None:
        attributes["leyden.usage.estimated"] = True
    if priced is not None:
        attributes["gen_ai.usage.cost"] = priced.usd
        attributes["leyden.price"] = orjson.dumps(priced.snapshot).decode()
    if with_content:
        attributes |= conventions.of_content_in(asked, fitted, room=max_bytes)
        attributes |= conventions.of_content_out(said, room=max_bytes)
        attributes |= _bodies(exchange, answer.body, max_bytes=max_bytes)
        if _is_cut(exchange, answer.body, attributes, max_bytes=max_bytes):
            attributes["leyden.gateway.cut"] = True
    failure = failure_of(exchange, said)
    if failure is not None:
        attributes[semconv.ERROR_TYPE] = failure[0]
    span = _span(exchange, f"{operation} {call.model}".strip(), attributes, failure)
    record = agl_json.record(orjson.dumps(span), span)._replace(source=GATEWAY)
    return Recorded(
        record, said.usage, None if priced is None else priced.usd, operation, provider, model, said
    )


def _judged(exchange: Exchange, answer: Heard) -> Exchange:
    """With what only the answer itself tells: that it is an error in spite of its status, or that it never came to its end."""
    if exchange.outcome != "ok":
        return exchange
    if answer.said.error is not None:
        return replace(exchange, outcome="error")
    return replace(exchange, outcome="broken", error=UNFINISHED) if answer.is_unfinished else exchange


def _guess(exchange: Exchange, said: Said) -> Usage | None:
    """The tokens of a stream that ended before they were counted; None for any other answer."""
    is_early = exchange.outcome != "ok" and exchange.call.is_stream and exchange.call.door != "other"
    return estimated(exchange.call, said) if is_early and exchange.body and not is_counted(said) else None


def failure_of(exchange: Exchange, said: Said) -> tuple[str, str] | None:
    """Type and message of what went wrong; None for a success, and for a client that left: nothing failed there."""
    if exchange.outcome in ("ok", "cancelled"):
        return said.error
    if exchange.outcome == "error":
        kind, message = said.error or ("", "")
        return kind or str(exchange.status), message or f"the upstream answered {exchange.status}"
    message = exchange.error or _STOPPED.get(exchange.outcome, exchange.outcome)
    return said.error or (exchange.outcome, message)


def _how(exchange: Exchange, *, shared: float | None) -> dict[str, Any]:
    """Where a call went and how it fared on the way."""
    call = exchange.call
    found: dict[str, Any] = {
        "leyden.gateway.outcome": exchange.outcome,
        "leyden.gateway.tries": exchange.tries,
        "leyden.gateway.door": call.door,
        "http.response.status_code": exchange.status,
        "gen_ai.request.stream": call.is_stream,
        **{f"leyden.{name}": value for name, value in exchange.resources.items()},
    }
    optional: dict[str, Any] = {
        "leyden.gateway.upstream": exchange.upstream,
        "leyden.gateway.model": exchange.upstream_model,
        "leyden.gateway.key": call.key_id,
        "leyden.gateway.request_id": exchange.request_id,
        "leyden.gateway.changed": orjson.dumps(call.changed).decode() if call.changed else None,
        "leyden.prompt.shared_prefix": shared,
        "leyden.policy_version": exchange.policy_version,
        "gen_ai.conversation.id": call.identity.session,
        "leyden.mode": call.identity.mode,
    }
    if exchange.first_byte_ns is not None and call.is_stream:
        optional[semconv.FIRST_CHUNK_S] = (exchange.first_byte_ns - call.began_ns) / 1e9
    for name, value in call.headers:
        if name == b"x-leyden-agent":
            optional[semconv.AGENT_NAME] = value.decode("latin-1")[:200]
        elif name == b"x-claude-code-agent-id":
            optional["gen_ai.agent.id"] = value.decode("latin-1")[:200]
        elif name == b"user-agent":
            optional["user_agent.original"] = value.decode("latin-1")[:200]
    return found | {name: value for name, value in optional.items() if value is not None}


def _bodies(exchange: Exchange, answer: bytes, *, max_bytes: int) -> dict[str, str]:
    """Both bodies as text: the client's, and the upstream's answer, put together when it was streamed. No pictures, sound or files."""
    return {
        name: body[:max_bytes].decode("utf-8", "replace")
        for name, body in (("leyden.request.body", exchange.call.body), ("leyden.response.body", answer))
        if body and (exchange.call.door != "other" or (len(body) <= _SMALL and is_text(body)))
    }


def _is_cut(exchange: Exchange, answer: bytes, attributes: dict[str, Any], *, max_bytes: int) -> bool:
    """Whether the record holds less than what was asked and answered."""
    is_long = max(len(exchange.call.body), len(answer)) > max_bytes
    return exchange.is_cut or is_long or any(name.startswith(_LEFT_OUT) for name in attributes)


def _span(
    exchange: Exchange, name: str, attributes: dict[str, Any], failure: tuple[str, str] | None
) -> dict[str, Any]:
    call, identity = exchange.call, exchange.call.identity
    rollout_id = identity.rollout_id or ""
    attempt_id = identity.attempt_id or attempt_of(rollout_id)
    return {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": None,
        "trace_id": identity.trace_id or trace_of(rollout_id, attempt_id),
        "span_id": uuid4().hex[:16],
        "parent_id": identity.parent_id,
        "name": name,
        "status": {"status_code": "ERROR", "description": failure[1][:2000]}
        if failure
        else {"status_code": "OK" if exchange.outcome == "ok" else "UNSET", "description": None},
        "attributes": attributes,
        "events": [],
        "links": [],
        "start_time": call.began_ns / 1e9,
        "end_time": exchange.ended_ns / 1e9,
        "context": None,
        "parent": None,
        "resource": {"attributes": {"service.name": "leyden.gateway"}, "schema_url": ""},
    }
