"""Agent Lightning 0.3: spans named `agentlightning.*`, of which annotations carry rewards."""

from leyden.ingest.dialects.dialect import Dialect, Get
from leyden.ingest.dialects.genai import GENAI
from leyden.types import SpanKind


def _kind(get: Get, name: str) -> SpanKind | None:
    if get("agentlightning.reward.0.value") is not None:
        return "reward"
    if name == "agentlightning.annotation":
        return "reward" if get("reward") is not None else "span"
    if name == "agentlightning.operation":
        if get("agentlightning.operation.name") == "agentlightning.reward":
            return "reward"
        return GENAI.kind(get, name) or "chain"
    return None


AGENT_LIGHTNING = Dialect(
    name="agent_lightning",
    marks=("agentlightning.reward.0.value",),
    names=("agentlightning",),
    kind=_kind,
    input=(
        "agentlightning.operation.input",
        "agentlightning.operation.input.messages",
        "agentlightning.message.body",
    ),
    output=(
        "agentlightning.operation.output",
        "agentlightning.object.json",
        "agentlightning.object.literal",
    ),
)
