"""OpenTelemetry's GenAI conventions (`gen_ai.*`), of which most other dialects borrow."""

from leyden.ingest.dialects.dialect import Dialect, kind_from
from leyden.types import SpanKind

KINDS: dict[str, SpanKind] = {
    "chat": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "llm_call": "llm",
    "image_generation": "llm",
    "text_to_speech": "llm",
    "transcription": "llm",
    "video_generation": "llm",
    "moderation": "guardrail",
    "rerank": "retriever",
    "embeddings": "embedding",
    "retrieval": "retriever",
    "search_memory": "retriever",
    "create_agent": "agent",
    "invoke_agent": "agent",
    "agent_call": "agent",
    "invoke_workflow": "chain",
    "plan": "chain",
    "execute_tool": "tool",
    "tool_call": "tool",
}

OPERATION = ("gen_ai.operation.name",)

GENAI = Dialect(
    name="genai",
    marks=(
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.system",
        "gen_ai.request.model",
        "gen_ai.tool.name",
    ),
    kind=kind_from(OPERATION, KINDS),
)
