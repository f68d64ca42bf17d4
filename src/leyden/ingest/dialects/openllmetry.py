"""OpenLLMetry (Traceloop): `traceloop.*` beside indexed `gen_ai.prompt.N` and `gen_ai.completion.N`."""

from leyden.ingest.dialects.dialect import Dialect, Get, kind_from
from leyden.ingest.dialects.genai import GENAI, KINDS, OPERATION
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {"workflow": "chain", "task": "chain", "agent": "agent", "tool": "tool"}
_REQUESTS: dict[str, SpanKind] = {
    "chat": "llm",
    "completion": "llm",
    "embedding": "embedding",
    "rerank": "retriever",
}
_kinds = kind_from(("traceloop.span.kind",), _KINDS)
_operations = kind_from(OPERATION, KINDS)
_requests = kind_from(("llm.request.type",), _REQUESTS)


def _kind(get: Get, name: str) -> SpanKind | None:
    return _kinds(get, name) or _operations(get, name) or _requests(get, name)


def _view(get: Get) -> Get:
    """An entity's name is the agent's on agent spans and the tool's on tool spans."""
    of = get("traceloop.span.kind")

    def read(key: str) -> object:
        if key == "agent.entity":
            return get("traceloop.entity.name") if of == "agent" else None
        if key == "tool.entity":
            return get("traceloop.entity.name") if of == "tool" else None
        return get(key)

    return read


OPENLLMETRY = Dialect(
    name="openllmetry",
    marks=("traceloop.span.kind", "llm.request.type", "gen_ai.prompt.0.role"),
    kind=_kind,
    view=_view,
    agent=("gen_ai.agent.name", "agent.entity", "agent.name"),
    tool=("gen_ai.tool.name", "tool.entity"),
    model=("gen_ai.response.model", "llm.response.model", "gen_ai.request.model"),
    session=("traceloop.association.properties.session_id", "gen_ai.conversation.id", "session.id"),
    ttft=(
        ("gen_ai.response.time_to_first_chunk", 1000.0),
        ("gen_ai.streaming.time_to_first_token", 1000.0),
        ("llm.chat_completions.streaming_time_to_first_token", 1000.0),
    ),
    input=("gen_ai.input.messages", "traceloop.entity.input"),
    output=("gen_ai.output.messages", "traceloop.entity.output"),
    arguments=("gen_ai.tool.call.arguments", "traceloop.entity.input"),
    result=("gen_ai.tool.call.result", "traceloop.entity.output"),
    messages_in=("gen_ai.prompt.", "."),
    messages_out=("gen_ai.completion.", "."),
    cache_read=GENAI.cache_read,
)
