"""Every convention Leyden reads. A new one is a module beside these and a line here.

The order decides between them: what only one product writes comes first, what many borrow comes last. A span that speaks
none is read with the GenAI names and keeps `dialect` None.
"""

from collections.abc import Mapping
from typing import Any

from leyden.ingest.dialects.agent_lightning import AGENT_LIGHTNING
from leyden.ingest.dialects.agentops import AGENTOPS
from leyden.ingest.dialects.claude_code import CLAUDE_CODE
from leyden.ingest.dialects.dialect import Dialect, Get
from leyden.ingest.dialects.genai import GENAI
from leyden.ingest.dialects.langfuse import LANGFUSE
from leyden.ingest.dialects.logfire import LOGFIRE
from leyden.ingest.dialects.mlflow import MLFLOW
from leyden.ingest.dialects.openinference import OPENINFERENCE
from leyden.ingest.dialects.openllmetry import OPENLLMETRY
from leyden.ingest.dialects.vercel import VERCEL

__all__ = ["DIALECTS", "GENAI", "Dialect", "Get", "recognise", "spoken"]

DIALECTS: tuple[Dialect, ...] = (
    AGENT_LIGHTNING,
    CLAUDE_CODE,
    LANGFUSE,
    OPENINFERENCE,
    MLFLOW,
    VERCEL,
    AGENTOPS,
    LOGFIRE,
    OPENLLMETRY,
    GENAI,
)

_COLUMNS = [
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
]
_BY_NAME = {name: dialect for dialect in DIALECTS for name in dialect.names}
_BY_MARK = tuple((mark, dialect) for dialect in DIALECTS for mark in dialect.marks)


def recognise(get: Get, name: str) -> Dialect | None:
    """The dialect a span speaks, by its name's first word or by the attributes it has."""
    if found := _BY_NAME.get(name.partition(".")[0]):
        return found
    for mark, dialect in _BY_MARK:
        if get(mark) is not None:
            return dialect
    return None


Spoken = tuple[Dialect | None, Dialect]

_KEPT_SPANS, _KEPT_KEYS, _KEPT_CHARS = 512, 48, 2048
_spoken: dict[tuple[str, ...], Spoken] = {}


def spoken(attributes: Mapping[str, Any], name: str) -> Spoken:
    """The dialect of a span, and that dialect (else GenAI) cut down to the attributes the span has.

    An agent writes the same few sets of attributes again and again, so the answer is kept by set; how much is kept is
    bounded, since a client chooses the names.
    """
    keys = (name.partition(".")[0], *attributes)
    found = _spoken.get(keys)
    if found is None:
        dialect = recognise(attributes.get, name)
        found = dialect, _cut_down(dialect or GENAI, attributes)
        if len(keys) <= _KEPT_KEYS and sum(map(len, keys)) <= _KEPT_CHARS:
            if len(_spoken) >= _KEPT_SPANS:
                _spoken.clear()
            _spoken[keys] = found
    return found


def _cut_down(dialect: Dialect, attributes: Mapping[str, Any]) -> Dialect:
    if dialect.view is not None:  # it answers for attributes that are not there by name
        return dialect
    there = {
        column: tuple(key for key in getattr(dialect, column) if key in attributes) for column in _COLUMNS
    }
    return dialect._replace(**there, ttft=tuple(pair for pair in dialect.ttft if pair[0] in attributes))
