"""AgentOps, the default tracer of Agent Lightning 0.3: `agentops.span.kind`, `agentops.entity.*`, `gen_ai.prompt.N`."""

import math

from leyden.ingest.dialects.dialect import Dialect, Get, kind_from
from leyden.ingest.text import json_object
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {
    "workflow": "chain",
    "session": "chain",
    "task": "chain",
    "operation": "chain",
    "chain": "chain",
    "text": "span",
    "http": "span",
    "agent": "agent",
    "tool": "tool",
    "llm": "llm",
    "guardrail": "guardrail",
}
_kinds = kind_from(("agentops.span.kind",), _KINDS)


def reward_value(get: Get) -> float | None:
    """The reward that Agent Lightning's first versions wrote as an output `{"type": "reward", "value": x}`; None for none."""
    for key in ("agentops.task.output", "agentops.entity.output"):
        said = json_object(get(key))
        value = said.get("value")
        if said.get("type") == "reward" and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def _kind(get: Get, name: str) -> SpanKind | None:
    return "reward" if reward_value(get) is not None else _kinds(get, name)


AGENTOPS = Dialect(
    name="agentops",
    marks=("agentops.span.kind",),
    kind=_kind,
    agent=("agent.name", "gen_ai.agent.name"),
    tool=("tool.name", "gen_ai.tool.name"),
    ttft=(("gen_ai.streaming.time_to_first_token", 1000.0), ("gen_ai.response.time_to_first_chunk", 1000.0)),
    input=("agentops.entity.input", "gen_ai.input.messages"),
    output=("agentops.entity.output", "gen_ai.output.messages"),
    arguments=(
        "tool.parameters",
        "agentops.tool.input",
        "agentops.entity.input",
        "gen_ai.tool.call.arguments",
    ),
    result=("tool.result", "agentops.tool.output", "agentops.entity.output", "gen_ai.tool.call.result"),
    messages_in=("gen_ai.prompt.", "."),
    messages_out=("gen_ai.completion.", "."),
)
