"""Claude Code's own spans (`claude_code.*`). Its `input_tokens` leave out what came from or went to the cache."""

from leyden.ingest.dialects.dialect import Dialect, Get
from leyden.types import SpanKind

# A tool call is the span `claude_code.tool`; waiting for permission and the execution are its parts, not further calls.
_KINDS: dict[str, SpanKind] = {"interaction": "agent", "llm_request": "llm", "tool": "tool"}
_SUBAGENT = "agent."


def _kind(get: Get, name: str) -> SpanKind | None:
    said = get("span.type") or name
    return _KINDS.get(str(said).removeprefix("claude_code."), "span")


def _view(get: Get) -> Get:
    def read(key: str) -> object:
        if key == "agent":
            source = get("query_source_safe")
            if isinstance(source, str) and source.startswith(_SUBAGENT):
                return source.rpartition(".")[2]
            return None if get("agent_id") else "claude-code"
        return get(key)

    return read


CLAUDE_CODE = Dialect(
    name="claude_code",
    names=("claude_code",),
    kind=_kind,
    view=_view,
    agent=("agent",),
    tool=("gen_ai.tool.name", "tool_name"),
    provider=("gen_ai.provider.name", "gen_ai.system"),
    model=("gen_ai.response.model", "gen_ai.request.model", "model"),
    session=("session.id", "gen_ai.conversation.id"),
    input_tokens=("input_tokens",),
    output_tokens=("output_tokens",),
    cache_read=("cache_read_tokens",),
    cache_write=("cache_creation_tokens",),
    reasoning=(),
    cost=("cost_usd",),
    ttft=(("ttft_ms", 1.0),),
    input=("user_prompt", "gen_ai.input.messages"),
    output=("response.model_output", "gen_ai.output.messages"),
    arguments=("tool_input", "gen_ai.tool.call.arguments", "full_command", "file_path"),
    result=("gen_ai.tool.call.result",),
    input_includes_cache=False,
)
