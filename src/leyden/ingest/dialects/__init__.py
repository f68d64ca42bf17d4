"""Every convention Leyden reads. A new one is a module beside these and a line here.

The order decides between them: what only one product writes comes first, what many borrow comes last. A span that speaks
none is read with the GenAI names and keeps `dialect` None.
"""

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

__all__ = ["DIALECTS", "GENAI", "Dialect", "Get", "recognise"]

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
