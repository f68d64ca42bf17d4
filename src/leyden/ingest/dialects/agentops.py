"""AgentOps, the default tracer of Agent Lightning 0.3: `agentops.span.kind`, `agentops.entity.*`, `gen_ai.prompt.N`."""

from leyden.ingest.dialects.dialect import Dialect, kind_from
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

AGENTOPS = Dialect(
    name="agentops",
    marks=("agentops.span.kind",),
    kind=kind_from(("agentops.span.kind",), _KINDS),
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
