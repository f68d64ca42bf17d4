"""Which door a path is, and what the path says about whose call it is. Pure.

A door stands bare (`/v1/chat/completions`), under a rollout (`/rollout/{rollout}/attempt/{attempt}/v1/…`, with `/mode/{mode}` before the
version if one is forced), and where Azure's client looks for it (`/openai/deployments/{model}/…`). The version may be left out, or stand
there twice: some clients append it to their base URL themselves, some do not. The rest of both APIs is one door, "other".
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

from leyden.gateway import surfaces
from leyden.gateway.call import Door, Family


class Address(NamedTuple):
    """A door that was found. path: below the version, with its slash. model: when the path names one."""

    door: Door
    family: Family
    path: str
    rollout_id: str | None = None
    attempt_id: str | None = None
    mode: str | None = None
    model: str | None = None


_DOORS: dict[tuple[str, str], tuple[Door, Family]] = {
    ("POST", "/chat/completions"): ("chat", "openai"),
    ("POST", "/completions"): ("completions", "openai"),
    ("POST", "/responses"): ("responses", "openai"),
    ("POST", "/embeddings"): ("embeddings", "openai"),
    ("POST", "/messages"): ("messages", "anthropic"),
    ("POST", "/messages/count_tokens"): ("count_tokens", "anthropic"),
    ("GET", "/models"): ("models", "openai"),
}
_UNDER_ROLLOUT = re.compile(r"/rollout/([^/]+)/attempt/([^/]+)(?:/mode/([^/]+))?(/.*)")
# What clients call that append no version to a base URL without one.
_BARE = frozenset(path for method, path in _DOORS if method == "POST")
_LEADS_UP = re.compile(
    r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)|%"
)  # `..` leads out of what is served; `%`: encoded twice
_AZURE = re.compile(r"/openai(?:/deployments/([^/]+)|/v1)?(/.+)")


def find(method: str, path: str) -> Address | None:
    """The door of a request; None when the gateway has none there. Cheap for paths of others. path: as it came, percent-encoded."""
    if path.startswith("/v1/"):
        return _door(method, path)
    if path.startswith("/rollout/"):
        found = _UNDER_ROLLOUT.fullmatch(path)
        if found is None:
            return None
        rollout_id, attempt_id, mode, rest = found.groups()
        address = _azure(method, rest) or _door(method, rest)
        if address is None:
            return None
        return address._replace(rollout_id=unquote(rollout_id), attempt_id=unquote(attempt_id), mode=mode)
    if path.startswith("/openai/"):
        return _azure(method, path)
    return _door(method, path) if method == "POST" and path in _BARE else None


def _door(method: str, path: str) -> Address | None:
    below = path.rstrip("/")
    while below.startswith("/v1/"):  # a base URL that ends in the version, and a client that appends it
        below = below[3:]
    known = _DOORS.get((method, below))
    if known is not None:
        return Address(*known, below)
    if _LEADS_UP.search(unquote(below)):
        return None
    if method == "GET" and below.startswith("/models/"):
        return Address("models", "openai", below)
    owner = surfaces.owner_of(below) if method in surfaces.METHODS else None
    return None if owner is None else Address("other", owner, below)


def _azure(method: str, path: str) -> Address | None:
    found = _AZURE.fullmatch(path)
    address = _door(method, found[2]) if found else None
    return address._replace(model=unquote(found[1])) if address and found and found[1] else address
