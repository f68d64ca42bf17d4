"""The Langfuse SDK: `langfuse.observation.*`, with usage and cost as JSON objects."""

from typing import Any

from leyden.ingest.dialects.dialect import Dialect, Get, kind_from
from leyden.ingest.dialects.genai import GENAI
from leyden.ingest.text import json_object
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {
    "generation": "llm",
    "embedding": "embedding",
    "agent": "agent",
    "tool": "tool",
    "chain": "chain",
    "retriever": "retriever",
    "evaluator": "evaluator",
    "guardrail": "guardrail",
    "span": "span",
    "event": "span",
}
_USAGE, _COST = "langfuse.observation.usage_details", "langfuse.observation.cost_details"


def _view(get: Get) -> Get:
    read_once: dict[str, dict[str, Any]] = {}

    def read(key: str) -> Any:
        if not key.startswith("#"):
            return get(key)
        source = _COST if key == "#cost" else _USAGE
        if source not in read_once:
            read_once[source] = json_object(get(source))
        return _detail(read_once[source], key)

    return read


def _detail(details: dict[str, Any], key: str) -> Any:
    """One figure of Langfuse's details. Its kinds of usage are disjoint: `input` leaves out what the cache served."""
    if key == "#cost":
        return details.get("total")
    if key == "#input":
        if "prompt_tokens" in details:
            return details["prompt_tokens"]
        parts = [
            v for k, v in details.items() if k.startswith(("input", "cache_")) and isinstance(v, int | float)
        ]
        return sum(parts) if parts else None
    if key == "#output":
        return details.get("output", details.get("completion_tokens"))
    if key == "#read":
        return details.get("input_cached_tokens", details.get("cache_read_input_tokens"))
    if key == "#write":
        return details.get("input_cache_creation", details.get("cache_creation_input_tokens"))
    return details.get("output_reasoning_tokens")


LANGFUSE = Dialect(
    name="langfuse",
    marks=("langfuse.observation.type",),
    kind=kind_from(("langfuse.observation.type",), _KINDS),
    view=_view,
    model=("langfuse.observation.model.name", *GENAI.model),
    session=("langfuse.session.id", "session.id", "gen_ai.conversation.id"),
    input_tokens=("#input", *GENAI.input_tokens),
    output_tokens=("#output", *GENAI.output_tokens),
    cache_read=("#read", *GENAI.cache_read),
    cache_write=("#write", *GENAI.cache_write),
    reasoning=("#reasoning", *GENAI.reasoning),
    cost=("#cost", *GENAI.cost),
    input=("langfuse.observation.input", *GENAI.input),
    output=("langfuse.observation.output", *GENAI.output),
    arguments=("langfuse.observation.input", *GENAI.arguments),
    result=("langfuse.observation.output", *GENAI.result),
)
