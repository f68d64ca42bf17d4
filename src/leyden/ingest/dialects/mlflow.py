"""MLflow tracing: `mlflow.*`, every value a JSON text (`"TOOL"` with its quotes)."""

from typing import Any

from leyden.ingest.dialects.dialect import Dialect, Get, kind_from
from leyden.ingest.dialects.genai import GENAI
from leyden.ingest.text import json_object
from leyden.types import SpanKind

_KINDS: dict[str, SpanKind] = {
    "llm": "llm",
    "chat_model": "llm",
    "chain": "chain",
    "workflow": "chain",
    "task": "chain",
    "agent": "agent",
    "tool": "tool",
    "retriever": "retriever",
    "reranker": "retriever",
    "embedding": "embedding",
    "guardrail": "guardrail",
    "evaluator": "evaluator",
}


def _view(get: Get) -> Get:
    def read(key: str) -> Any:
        if key.startswith("#"):
            return json_object(get("mlflow.chat.tokenUsage")).get(key[1:])
        said = get(key)
        if isinstance(said, str) and key.startswith("mlflow.") and said[:1] == '"' == said[-1:]:
            return said[1:-1]
        return said

    return read


LANGUAGE_MODEL = ("mlflow.llm.model", "mlflow.chat.model")

MLFLOW = Dialect(
    name="mlflow",
    marks=("mlflow.spanType",),
    kind=kind_from(("mlflow.spanType",), _KINDS),
    view=_view,
    model=(*GENAI.model, *LANGUAGE_MODEL),
    provider=(*GENAI.provider, "mlflow.llm.provider"),
    session=("mlflow.trace.session", *GENAI.session),
    input_tokens=("#input_tokens", *GENAI.input_tokens),
    output_tokens=("#output_tokens", *GENAI.output_tokens),
    cache_read=("#cache_read_input_tokens", *GENAI.cache_read),
    cache_write=("#cache_creation_input_tokens", *GENAI.cache_write),
    input=("mlflow.spanInputs", *GENAI.input),
    output=("mlflow.spanOutputs", *GENAI.output),
    arguments=("mlflow.spanInputs", *GENAI.arguments),
    result=("mlflow.spanOutputs", *GENAI.result),
)
