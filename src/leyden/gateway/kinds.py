"""What each kind of upstream is like when nobody says otherwise: its address, its protocol, how it takes a key, which doors it serves.

Facts as data. Refuses to know: configuration, HTTP.
"""

from typing import Literal, NamedTuple, get_args

from leyden.gateway.call import Door, Family

Kind = Literal[
    "openai", "azure", "anthropic", "gemini", "bedrock", "vertex", "vllm", "sglang", "ollama", "compatible"
]
Auth = Literal["bearer", "x-api-key", "api-key"]
"""The header that carries a key: `Authorization: Bearer …`, `x-api-key: …` or `api-key: …`."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class Trait(NamedTuple):
    """base_url ends in the API's version; None where it depends on the account. takes_client_keys: whether a key that the client
    brought itself is sent on when none is configured (model servers of one's own have no use for it)."""

    base_url: str | None
    family: Family
    auth: Auth
    doors: frozenset[Door]
    takes_client_keys: bool = True


OPENAI_DOORS: frozenset[Door] = frozenset(
    {"chat", "completions", "responses", "embeddings", "models", "other"}
)
ANTHROPIC_DOORS: frozenset[Door] = frozenset({"messages", "count_tokens", "models", "other"})
_LOCAL_DOORS: frozenset[Door] = frozenset({"chat", "completions", "embeddings", "models", "other"})
_CHAT: frozenset[Door] = frozenset({"chat"})

TRAITS: dict[Kind, Trait] = {
    "openai": Trait("https://api.openai.com/v1", "openai", "bearer", OPENAI_DOORS),
    "azure": Trait(None, "openai", "api-key", OPENAI_DOORS),
    "anthropic": Trait("https://api.anthropic.com/v1", "anthropic", "x-api-key", ANTHROPIC_DOORS),
    "gemini": Trait(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "openai",
        "bearer",
        frozenset({"chat", "embeddings", "models", "other"}),
    ),
    "bedrock": Trait(None, "openai", "bearer", _CHAT),
    "vertex": Trait(None, "openai", "bearer", _CHAT),
    "vllm": Trait("http://127.0.0.1:8000/v1", "openai", "bearer", OPENAI_DOORS, False),
    "sglang": Trait("http://127.0.0.1:30000/v1", "openai", "bearer", _LOCAL_DOORS, False),
    "ollama": Trait("http://127.0.0.1:11434/v1", "openai", "bearer", _LOCAL_DOORS, False),
    "compatible": Trait(None, "openai", "bearer", OPENAI_DOORS),
}


def doors_of(kind: Kind, family: Family) -> frozenset[Door]:
    """The doors that an upstream serves by default when it speaks `family`."""
    trait = TRAITS[kind]
    if family == trait.family:
        return trait.doors
    return ANTHROPIC_DOORS if family == "anthropic" else OPENAI_DOORS


def auth_of(kind: Kind, family: Family) -> Auth:
    """How it takes a key by default. Clouds hand out bearer tokens whatever protocol is spoken with them."""
    if family == TRAITS[kind].family or kind in ("azure", "bedrock", "vertex"):
        return TRAITS[kind].auth
    return "x-api-key" if family == "anthropic" else "bearer"
