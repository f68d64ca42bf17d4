"""What a dialect is: which spans speak it, what kind each is, and which attribute fills which column."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from leyden.types import SpanKind

Get = Callable[[str], Any]
"""Reads one attribute of a span as a plain value; None when the span has none of that name."""


def no_kind(get: Get, name: str) -> SpanKind | None:
    """For dialects that do not say what a span is."""
    return None


class Dialect(NamedTuple):
    """One convention for naming what agents do.

    A span speaks it when it has one of `marks` as an attribute, or its name starts with one of `names` and a dot.
    `kind` may answer None: the general rules then decide. The columns list attribute names in order of precedence; the
    defaults are those of the GenAI conventions. `ttft` pairs an attribute with what makes it milliseconds. `messages_in`
    and `messages_out` are where indexed messages stand (`prefix`, `infix`): `prefix` N `infix` `role`.
    `input_includes_cache` says how this dialect counts input tokens. `view` wraps the reader of one span, for dialects
    that keep JSON inside an attribute.
    """

    name: str
    marks: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    kind: Callable[[Get, str], SpanKind | None] = no_kind
    view: Callable[[Get], Get] | None = None
    agent: tuple[str, ...] = ("gen_ai.agent.name", "agent.name")
    tool: tuple[str, ...] = ("gen_ai.tool.name", "tool.name", "mcp.tool.name")
    provider: tuple[str, ...] = ("gen_ai.provider.name", "gen_ai.system")
    model: tuple[str, ...] = ("gen_ai.response.model", "gen_ai.request.model")
    session: tuple[str, ...] = ("gen_ai.conversation.id", "session.id")
    input_tokens: tuple[str, ...] = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
    output_tokens: tuple[str, ...] = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
    cache_read: tuple[str, ...] = (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
    )
    cache_write: tuple[str, ...] = (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    )
    reasoning: tuple[str, ...] = ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens")
    cost: tuple[str, ...] = ("gen_ai.usage.cost", "gen_ai.usage.total_cost")
    ttft: tuple[tuple[str, float], ...] = (("gen_ai.response.time_to_first_chunk", 1000.0),)
    input: tuple[str, ...] = ("gen_ai.input.messages", "gen_ai.system_instructions")
    output: tuple[str, ...] = ("gen_ai.output.messages",)
    arguments: tuple[str, ...] = ("gen_ai.tool.call.arguments",)
    result: tuple[str, ...] = ("gen_ai.tool.call.result",)
    messages_in: tuple[str, str] | None = None
    messages_out: tuple[str, str] | None = None
    input_includes_cache: bool = True


COLUMNS = (
    "agent",
    "tool",
    "provider",
    "model",
    "session",
    "input_tokens",
    "output_tokens",
    "cache_read",
    "cache_write",
    "reasoning",
    "cost",
    "input",
    "output",
    "arguments",
    "result",
)
"""The fields of a dialect that list attribute names."""


def first(get: Get, keys: tuple[str, ...]) -> Any:
    """The value of the first attribute that is there and not empty."""
    for key in keys:
        found = get(key)
        if found is not None and found != "":
            return found
    return None


def kind_from(keys: tuple[str, ...], kinds: Mapping[str, SpanKind]) -> Callable[[Get, str], SpanKind | None]:
    """A rule for `Dialect.kind`: the first of `keys` whose value `kinds` knows, letter case aside."""

    def kind(get: Get, name: str) -> SpanKind | None:
        for key in keys:
            said = get(key)
            if isinstance(said, str) and (found := kinds.get(said) or kinds.get(said.lower())):
                return found
        return None

    return kind
