"""The list of models that clients may ask for, as OpenAI's and Anthropic's clients read it. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from leyden.gateway.call import Family
from leyden.gateway.config import GatewayConfig


def listing(
    config: GatewayConfig, family: Family, *, now: int, only: str | None = None
) -> dict[str, Any] | None:
    """Names that the configuration spells out, or the one that is `only`; None when it spells out none: then an upstream is asked.

    now: unix seconds, said to be when each was made.
    """
    names = [name for name in config.models if "*" not in name]
    if not names:
        return None
    if only is not None:
        shape = _openai if family == "openai" else _anthropic
        return shape(only, now) if only in names else None
    return listed(names, family, now=now)


def listed(names: Sequence[str], family: Family, *, now: int) -> dict[str, Any]:
    """These names as a list of models."""
    if family == "openai":
        return {"object": "list", "data": [_openai(name, now) for name in names]}
    first, last = (names[0], names[-1]) if names else (None, None)
    return {
        "data": [_anthropic(name, now) for name in names],
        "has_more": False,
        "first_id": first,
        "last_id": last,
    }


def _openai(name: str, now: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": now, "owned_by": "leyden"}


def _anthropic(name: str, now: int) -> dict[str, Any]:
    made = _rfc3339(now)
    return {"type": "model", "id": name, "display_name": name, "created_at": made}


def _rfc3339(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
