"""OpenInference (Arize Phoenix and its instrumentations): `openinference.span.kind`, `llm.*`, `input.value`."""

from leyden.ingest.dialects.dialect import Dialect, kind_from
from leyden.ingest.dialects.genai import GENAI
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {
    "llm": "llm",
    "embedding": "embedding",
    "chain": "chain",
    "prompt": "chain",
    "retriever": "retriever",
    "reranker": "retriever",
    "tool": "tool",
    "agent": "agent",
    "guardrail": "guardrail",
    "evaluator": "evaluator",
}

OPENINFERENCE = Dialect(
    name="openinference",
    marks=("openinference.span.kind",),
    kind=kind_from(("openinference.span.kind",), _KINDS),
    agent=("agent.name", "graph.node.name", "gen_ai.agent.name"),
    tool=("tool.name", "gen_ai.tool.name"),
    provider=("llm.provider", "llm.system", *GENAI.provider),
    model=(
        "llm.response.model_name",
        "llm.model_name",
        "llm.request.model_name",
        "embedding.model_name",
        *GENAI.model,
    ),
    session=("session.id", "gen_ai.conversation.id"),
    input_tokens=("llm.token_count.prompt", "gen_ai.usage.input_tokens"),
    output_tokens=("llm.token_count.completion", "gen_ai.usage.output_tokens"),
    cache_read=("llm.token_count.prompt_details.cache_read", "gen_ai.usage.cache_read.input_tokens"),
    cache_write=("llm.token_count.prompt_details.cache_write", "gen_ai.usage.cache_write.input_tokens"),
    reasoning=("llm.token_count.completion_details.reasoning", "gen_ai.usage.reasoning.output_tokens"),
    cost=("llm.cost.total",),
    input=("input.value", "gen_ai.input.messages"),
    output=("output.value", "gen_ai.output.messages"),
    # `tool.parameters` is the declared schema in some instrumentations and the arguments in others: the last resort.
    arguments=("gen_ai.tool.call.arguments", "input.value", "tool.parameters"),
    result=("gen_ai.tool.call.result", "output.value"),
    messages_in=("llm.input_messages.", ".message."),
    messages_out=("llm.output_messages.", ".message."),
)
