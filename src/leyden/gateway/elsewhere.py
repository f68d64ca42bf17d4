"""Where a call goes that cannot be filed where it named: the model was called and paid for, so it is recorded all the same. Pure.

Promises: the span says what was named, in its payload and wherever else it is read; what is spent counts where the span is. A
rollout of another project is neither read nor changed for it.
"""

from dataclasses import replace
from typing import Any

import orjson

from leyden.gateway.call import Exchange
from leyden.gateway.identity import trace_of
from leyden.gateway.recording import Recorded
from leyden.ingest import agl_json
from leyden.ingest.record import GATEWAY

NAMED_ROLLOUT = "leyden.gateway.named_rollout"
NAMED_ATTEMPT = "leyden.gateway.named_attempt"


def moved(
    exchange: Exchange, found: Recorded, *, rollout_id: str, attempt_id: str
) -> tuple[Exchange, Recorded]:
    """A call as one of another attempt, with attributes that say which rollout and attempt it named, where they differ."""
    identity = exchange.call.identity
    span: dict[str, Any] = orjson.loads(found.record.payload)
    if identity.rollout_id != rollout_id:
        span["attributes"][NAMED_ROLLOUT] = identity.rollout_id
    if identity.attempt_id is not None:
        span["attributes"][NAMED_ATTEMPT] = identity.attempt_id
    span |= {"rollout_id": rollout_id, "attempt_id": attempt_id}
    span["trace_id"] = identity.trace_id or trace_of(rollout_id, attempt_id)
    record = agl_json.record(orjson.dumps(span), span)._replace(source=GATEWAY)
    call = replace(exchange.call, identity=identity._replace(rollout_id=rollout_id, attempt_id=attempt_id))
    return replace(exchange, call=call), found._replace(record=record)
