"""The list of models that clients may ask for, as OpenAI's and Anthropic's clients read it. Pure."""

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
    shape = _openai if family == "openai" else _anthropic
    if only is not None:
        return shape(only, now) if only in names else None
    items = [shape(name, now) for name in names]
    if family == "openai":
        return {"object": "list", "data": items}
    return {"data": items, "has_more": False, "first_id": names[0], "last_id": names[-1]}


def _openai(name: str, now: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": now, "owned_by": "leyden"}


def _anthropic(name: str, now: int) -> dict[str, Any]:
    made = _rfc3339(now)
    return {"type": "model", "id": name, "display_name": name, "created_at": made}


def _rfc3339(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
