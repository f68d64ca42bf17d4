"""What a span is about: its dialect, kind, agent, tool, model, provider and error class.

Few distinct values decide these, and an agent writes the same ones again and again, so the answers are kept: by the set of
attributes a span has, and then by its name and the values of those attributes that the rules asked for. Which those are is
learned by watching the rules read. How much is kept is bounded, since a client chooses names and values.
"""

from collections.abc import Callable, Mapping
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple, cast

from leyden.ingest.dialects import GENAI, recognise
from leyden.ingest.dialects.dialect import COLUMNS, Dialect, Get, first
from leyden.ingest.text import column
from leyden.types import SpanKind

NAME_CHARS = 256


class Subject(NamedTuple):
    """`spoken` is the dialect's name, None when the span speaks none; `dialect` is that one, else GenAI, without the attributes
    the span lacks. Of a model call only, `provider`; of a tool call only, `tool`."""

    spoken: str | None
    dialect: Dialect
    kind: SpanKind
    agent: str | None
    tool: str | None
    provider: str | None
    model: str | None
    error_type: str | None


def subject(attributes: Mapping[str, Any], name: str) -> Subject:
    """What a span of these attributes and this name is about."""
    known = known_subjects(tuple(attributes))
    if known is None:
        return decide(attributes.get, name)
    values = known.pick(attributes)
    try:
        found = known.subjects.get((name, values))
    except TypeError:  # a list or map among them has no hash
        return decide(attributes.get, name, known.cut_down)
    return found or known.learn(attributes, name)


def decide(get: Get, name: str, cut_down: Callable[[Dialect], Dialect] | None = None) -> Subject:
    """The rules themselves, of which `subject` keeps the answers. Only what `get` and `name` say may count here."""
    found = recognise(get, name)
    dialect = (cut_down or _whole)(found or GENAI)
    if dialect.view is not None:
        get = dialect.view(get)
    kind = dialect.kind(get, name) or _kind_without_word(get, dialect)
    agent = column(first(get, dialect.agent), NAME_CHARS)
    tool = provider = model = None
    if kind == "tool":
        tool = column(first(get, dialect.tool), NAME_CHARS) or _named(name, "execute_tool")
    if kind == "agent" and agent is None and found is not None:
        agent = _named(name, "invoke_agent")
    if kind == "llm" or kind == "embedding" or kind == "agent":
        model = column(first(get, dialect.model), NAME_CHARS)
    if kind == "llm" or kind == "embedding":
        provider = _provider(first(get, dialect.provider), model)
    error_type = column(get("error.type"), NAME_CHARS)
    return Subject(
        found.name if found is not None else None, dialect, kind, agent, tool, provider, model, error_type
    )


def _whole(dialect: Dialect) -> Dialect:
    return dialect


# ── What is kept ─────────────────────────────────────────────────────────────────────────────────────────────────

_KEPT_SETS, _KEPT_KEYS, _KEPT_KEY_CHARS = 256, 48, 2048
_KEPT_SUBJECTS, _KEPT_CHARS = 64, 512
_Pick = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class Known:
    """The spans met with one set of attributes: `read` the ones that the rules asked for, `subjects` by name and their values."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.read: tuple[str, ...] = ()
        self.pick: _Pick = _nothing
        self.subjects: dict[tuple[str, tuple[Any, ...]], Subject] = {}
        self._dialects: dict[str, Dialect] = {}
        self._lock = Lock()

    def learn(self, attributes: Mapping[str, Any], name: str) -> Subject:
        """Decides one span and keeps the answer under every value that counted.

        What other values would have made the rules ask for besides is learned when they come: the answers given so far
        are then forgotten. Only texts are kept as values, because `True == 1 == 1.0` are one key of a dict.
        """
        with self._lock:  # large requests are decoded in threads
            return self._learn(attributes, name)

    def _learn(self, attributes: Mapping[str, Any], name: str) -> Subject:
        asked: dict[str, None] = dict.fromkeys(self.read)

        def get(key: str) -> Any:
            if key in attributes:
                asked[key] = None
            return attributes.get(key)

        found = decide(get, name, self.cut_down)
        if len(asked) > len(self.read):
            self.read, self.subjects = tuple(asked), {}
            self.pick = _picker(self.read)
        values = self.pick(attributes)
        if all(type(value) is str for value in values):
            self.keep(name, values, found)
        return found

    def keep(self, name: str, values: tuple[str, ...] | tuple[bytes, ...], found: Subject) -> None:
        """Keeps an answer under the values of `read`, or under the bytes they were sent as."""
        chars = len(name) + sum(map(len, values))
        if chars <= _KEPT_CHARS and len(values) == len(self.read):
            if len(self.subjects) >= _KEPT_SUBJECTS:
                self.subjects.clear()
            self.subjects[name, values] = found

    def cut_down(self, dialect: Dialect) -> Dialect:
        """The dialect without the attributes that these spans lack."""
        cut = self._dialects.get(dialect.name)
        if cut is None:
            cut = self._dialects[dialect.name] = _cut_down(dialect, self.keys)
        return cut


def _nothing(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    return ()


def _picker(keys: tuple[str, ...]) -> _Pick:
    """Reads the values of some keys as a tuple; itemgetter gives none for one key."""
    if len(keys) > 1:
        return cast(_Pick, itemgetter(*keys))
    return lambda attributes: tuple(attributes[key] for key in keys)


def _cut_down(dialect: Dialect, keys: tuple[str, ...]) -> Dialect:
    if dialect.view is not None:  # it answers for attributes that are not there by name
        return dialect
    there = {column: tuple(key for key in getattr(dialect, column) if key in keys) for column in COLUMNS}
    return dialect._replace(**there, ttft=tuple(pair for pair in dialect.ttft if pair[0] in keys))


_known: dict[tuple[str, ...], Known] = {}


def known_subjects(keys: tuple[str, ...]) -> Known | None:
    """What is kept about spans with these attributes; None for sets too large to keep."""
    known = _known.get(keys)
    if known is None and len(keys) <= _KEPT_KEYS and sum(map(len, keys)) <= _KEPT_KEY_CHARS:
        if len(_known) >= _KEPT_SETS:
            _known.clear()
        known = _known[keys] = Known(keys)
    return known


# ── The rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def _kind_without_word(get: Get, dialect: Dialect) -> SpanKind:
    """The kind of a span whose dialect does not say: GenAI's operation, a tool's name, a model with usage or messages."""
    if dialect.name != GENAI.name and (kind := GENAI.kind(get, "")):
        return kind
    if get("gen_ai.tool.name") is not None:
        return "tool"
    # A step that names both its tool and the agent's model: with tokens it asked the model, without any it used the tool.
    if (
        first(get, dialect.tool) is not None
        and not first(get, dialect.input_tokens)
        and not first(get, dialect.output_tokens)
    ):
        return "tool"
    if first(get, dialect.model) is not None and (
        first(get, dialect.input_tokens) is not None
        or first(get, dialect.output_tokens) is not None
        or get("gen_ai.prompt.0.role") is not None
        or get("gen_ai.input.messages") is not None
    ):
        return "llm"
    return "span"


def _named(name: str, operation: str) -> str | None:
    """What a span's name says beside the operation: `execute_tool search` → `search`; None when it says no more."""
    return column(name.removeprefix(operation).strip(), NAME_CHARS)


# Providers by the names their instrumentations use → the GenAI conventions' names.
_PROVIDERS = {
    "anthropic.messages": "anthropic",
    "amazon": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_STANDARD = frozenset(
    [
        "openai",
        "anthropic",
        "cohere",
        "deepseek",
        "groq",
        "perplexity",
        "aws.bedrock",
        "azure.ai.inference",
        "azure.ai.openai",
        "gcp.gemini",
        "gcp.gen_ai",
        "gcp.vertex_ai",
        "ibm.watsonx.ai",
        "mistral_ai",
        "moonshot_ai",
        "x_ai",
    ]
)
_MODEL_OF = (
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
    ("claude", "anthropic"),
    ("gemini", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("command-", "cohere"),
    ("deepseek", "deepseek"),
    ("grok", "x_ai"),
)


def _provider(said: Any, model: str | None) -> str | None:
    """The provider by its GenAI name; an unknown one as it was said; inferred from the model when nobody said."""
    if not isinstance(said, str) or not said:
        return next((who for start, who in _MODEL_OF if model.startswith(start)), None) if model else None
    if said in _STANDARD:
        return said
    low = said.lower()
    if low in _STANDARD:
        return low
    # Vercel says `openai.chat`, `google.generative-ai`: the provider and one of its endpoints.
    head = low.partition(".")[0]
    return (
        _PROVIDERS.get(low)
        or _PROVIDERS.get(head)
        or (head if head in _STANDARD else column(low, NAME_CHARS))
    )
