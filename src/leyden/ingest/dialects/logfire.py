"""Pydantic AI and Logfire: GenAI attributes beside `logfire.*`, `agent_name`, `tool_arguments`, `all_messages_events`."""

from leyden.ingest.dialects.dialect import Dialect, Get
from leyden.ingest.dialects.genai import GENAI
from leyden.types import SpanKind


def _kind(get: Get, name: str) -> SpanKind | None:
    if get("logfire.span_type") == "pending_span":
        return "span"  # a placeholder for a span that still runs; counting it would count the call twice
    if found := GENAI.kind(get, name):
        return found
    if get("tool_arguments") is not None or name.startswith("running tool"):
        return "tool" if get("gen_ai.tool.name") else "chain"
    return "agent" if get("agent_name") else None


LOGFIRE = Dialect(
    name="logfire",
    marks=("logfire.json_schema", "logfire.msg"),
    kind=_kind,
    agent=("gen_ai.agent.name", "agent_name"),
    model=("gen_ai.response.model", "gen_ai.request.model", "model_name"),
    input=(
        "gen_ai.input.messages",
        "pydantic_ai.all_messages",
        "all_messages_events",
        "all_messages",
        "events",
        "request_data",
    ),
    output=("gen_ai.output.messages", "final_result", "response_data"),
    arguments=("gen_ai.tool.call.arguments", "tool_arguments"),
    result=("gen_ai.tool.call.result", "tool_response"),
)
