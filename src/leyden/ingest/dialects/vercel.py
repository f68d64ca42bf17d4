"""The Vercel AI SDK (`ai.*`). Only the `.do*` spans are model calls; the spans around them repeat their usage."""

from leyden.ingest.dialects.dialect import Dialect, Get
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {"ai.toolCall": "tool", "ai.embed": "chain", "ai.embedMany": "chain"}


def _kind(get: Get, name: str) -> SpanKind | None:
    operation = get("ai.operationId") or str(get("operation.name") or name).partition(" ")[0]
    if not isinstance(operation, str) or not operation.startswith("ai."):
        return None
    if operation in _KINDS:
        return _KINDS[operation]
    step = operation.rpartition(".")[2]
    if step.startswith("do"):
        return "embedding" if operation.startswith("ai.embed") else "llm"
    return "agent"


VERCEL = Dialect(
    name="vercel",
    marks=("ai.operationId",),
    names=("ai",),
    kind=_kind,
    agent=("ai.telemetry.functionId", "gen_ai.agent.name"),
    tool=("ai.toolCall.name", "gen_ai.tool.name"),
    provider=("ai.model.provider", "gen_ai.provider.name", "gen_ai.system"),
    model=("ai.response.model", "ai.model.id", "gen_ai.response.model", "gen_ai.request.model"),
    session=("ai.telemetry.metadata.sessionId", "gen_ai.conversation.id", "session.id"),
    input_tokens=(
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
        "gen_ai.usage.input_tokens",
    ),
    output_tokens=("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens"),
    cache_read=("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
    cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",),
    reasoning=("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
    cost=(),
    ttft=(("ai.response.msToFirstChunk", 1.0), ("ai.stream.msToFirstChunk", 1.0)),
    input=("ai.prompt.messages", "ai.prompt", "ai.value", "gen_ai.input.messages"),
    output=("ai.response.text", "ai.response.object", "ai.response.toolCalls", "gen_ai.output.messages"),
    arguments=("ai.toolCall.args", "gen_ai.tool.call.arguments"),
    result=("ai.toolCall.result", "gen_ai.tool.call.result"),
)
