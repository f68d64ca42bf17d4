"""OTLP request bodies for the load generator: realistic spans, serialized once, given fresh ids and times by splicing bytes.

A span carries 17 GenAI attributes and weighs about 1.25 KB on the wire; 2 % end in an error. Building one costs
Python about 20 µs per attribute, so the generator would measure itself; splicing into a prepared body costs about one
microsecond per span.
"""

import os
import random
import re
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

ROLLOUT = b"ro-%leyden%id%%"
ATTEMPT = b"at-%leyden%"
TRACE = b"%leyden-trace-%%"
_MARK = b"\xfe\xfdid"  # a span id in a prepared body: this, then the span's index in 4 bytes
_START, _END = b"\xfe\xfdst", b"\xfe\xfden"  # the same for its two times, which are 8 bytes on the wire
_SLOTS = {TRACE: -1, ROLLOUT: -2, ATTEMPT: -3}

_VOCABULARY = (
    "the refund for order was approved after checking policy window customer asked about shipping address update "
    "agent called lookup tool and found two matching invoices payment failed retry scheduled booking confirmed flight "
    "changed seat baggage allowance account verified search returned documents summary answer follow up question"
)
_WORDS = _VOCABULARY.split()
_TOOLS = ("search_orders", "refund_payment", "update_address", "lookup_policy")
_STEP_NS = 100_000  # between the starts of two spans of a request
ERRORS_EVERY = 50


@dataclass(frozen=True)
class Body:
    """One prepared request, cut where ids and times belong.

    `slots` says what goes between two segments: n for the id of span n, `spans` + n for its start, 2 `spans` + n for its
    end; -1 the trace id, -2 the rollout's and -3 the attempt's. `durations_ns` has one entry per span.
    """

    segments: tuple[bytes, ...]
    slots: tuple[int, ...]
    durations_ns: tuple[int, ...]

    @property
    def spans(self) -> int:
        return len(self.durations_ns)

    def fresh(
        self,
        rollout_id: bytes,
        attempt_id: bytes,
        *,
        now_ns: int | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> bytes:
        """The request with new trace and span ids, for this attempt, its spans started one after the other until now.

        rollout_id, attempt_id: exactly as long as the ids the store generates (15 and 11 bytes).
        entropy: where the ids come from; a seeded `Random.randbytes` and a fixed `now_ns` make the same request again.
        """
        spans = self.spans
        first = (time.time_ns() if now_ns is None else now_ns) - spans * _STEP_NS
        starts = range(first, first + spans * _STEP_NS, _STEP_NS)
        ends = map(int.__add__, starts, self.durations_ns)
        filling = entropy(8 * spans) + array("Q", starts).tobytes() + array("Q", ends).tobytes()
        pieces = [filling[i : i + 8] for i in range(0, 24 * spans, 8)]
        pieces += [attempt_id, rollout_id, entropy(16)]
        parts = [b""] * (2 * len(self.slots) + 1)
        parts[0::2] = self.segments
        parts[1::2] = [pieces[slot] for slot in self.slots]
        return b"".join(parts)


def bodies(spans_per_request: int) -> list[Body]:
    """Enough different prepared requests that every 50th span is an error and texts vary."""
    number = count()
    return [_body(spans_per_request, number) for _ in range(max(1, 400 // spans_per_request))]


def _body(spans: int, number: "count[int]") -> Body:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(
        [
            _pair("service.name", "support-agent"),
            _pair("agentlightning.rollout_id", ROLLOUT.decode()),
            _pair("agentlightning.attempt_id", ATTEMPT.decode()),
        ]
    )
    scope = group.scope_spans.add()
    scope.scope.name = "leyden.bench"
    scope.spans.extend(_span(index, next(number)) for index in range(spans))
    marks = b"|".join(re.escape(mark) + b".{4}" for mark in (_MARK, _START, _END))
    pattern = b"(" + marks + b"|" + b"|".join(map(re.escape, _SLOTS)) + b")"
    pieces = re.split(pattern, request.SerializeToString(), flags=re.DOTALL)
    offsets = {_MARK: 0, _START: spans, _END: 2 * spans}
    slots = tuple(
        _SLOTS[piece] if piece in _SLOTS else offsets[piece[:4]] + int.from_bytes(piece[4:], "big")
        for piece in pieces[1::2]
    )
    rng = random.Random(spans)
    return Body(
        tuple(pieces[0::2]), slots, tuple(rng.randrange(50_000_000, 3_000_000_000) for _ in range(spans))
    )


def _span(index: int, number: int) -> Span:
    """Span `index` of its request (the first is the parent of the rest), the `number`th overall."""
    rng = random.Random(number)
    failed = number % ERRORS_EVERY == 7
    span = Span(
        trace_id=TRACE,
        span_id=_MARK + index.to_bytes(4, "big"),
        parent_span_id=_MARK + (0).to_bytes(4, "big") if index else b"",
        name="chat gpt-4o-mini" if number % 3 else f"execute_tool {_TOOLS[number % 4]}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=int.from_bytes(_START + index.to_bytes(4, "big"), "little"),
        end_time_unix_nano=int.from_bytes(_END + index.to_bytes(4, "big"), "little"),
    )
    values = (_chat if number % 3 else _tool)(rng, number, failed)
    span.attributes.extend(_pair(key, value) for key, value in values.items())
    if failed:
        span.status.CopyFrom(
            Status(code=Status.STATUS_CODE_ERROR, message=f"timeout after 30 s, request {number}")
        )
    return span


def _chat(rng: random.Random, number: int, failed: bool) -> dict[str, object]:
    values: dict[str, object] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "support",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.response.id": f"chatcmpl-{rng.getrandbits(96):024x}",
        "gen_ai.conversation.id": f"session-{number // 100:08d}",
        "gen_ai.usage.input_tokens": rng.randrange(200, 4000),
        "gen_ai.usage.output_tokens": rng.randrange(10, 600),
        "gen_ai.usage.cache_read.input_tokens": rng.randrange(0, 200),
        "gen_ai.system_instructions": '[{"type":"text","content":"You are a support agent. Be brief and exact."}]',
        "gen_ai.input.messages": _message("user", rng, 24),
        "gen_ai.output.messages": _message("assistant", rng, 20),
        "server.address": "api.openai.com",
    }
    return values | ({"error.type": "TimeoutError"} if failed else {"gen_ai.output.type": "text"})


def _tool(rng: random.Random, number: int, failed: bool) -> dict[str, object]:
    values: dict[str, object] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "support",
        "gen_ai.tool.name": _TOOLS[number % 4],
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": f"call_{rng.getrandbits(96):024x}",
        "gen_ai.tool.description": "Looks up what the customer asked about in the order system.",
        "gen_ai.tool.call.arguments": f'{{"order_id": "W{rng.randrange(10**7)}", "reason": "{_text(rng, 8)}"}}',
        "gen_ai.tool.call.result": f'{{"status": "ok", "text": "{_text(rng, 45)}"}}',
        "gen_ai.conversation.id": f"session-{number // 100:08d}",
        "session.id": f"session-{number // 100:08d}",
        "user.id": f"user-{number % 977}",
        "code.function.name": "tools.call",
        "thread.id": 140_000_000 + number % 8,
        "retry.count": 0,
        "deployment.environment.name": "production",
    }
    return values | ({"error.type": "TimeoutError"} if failed else {"cache.hit": False})


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))


def _message(role: str, rng: random.Random, words: int) -> str:
    return f'[{{"role":"{role}","parts":[{{"type":"text","content":"{_text(rng, words)}"}}]}}]'


def _pair(key: str, value: object) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=str(value)))
