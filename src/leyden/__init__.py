"""Leyden stores what AI agents do and turns it into better agents.

The names below are the whole public surface of the light SDK; a test pins the list. They load on first use, so
`import leyden` stays cheap inside somebody's agent.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "init": "leyden.sdk.config",
    "shutdown": "leyden.sdk.config",
    "flush": "leyden.sdk.config",
    "trace": "leyden.sdk.trace",
    "rollout": "leyden.sdk.trace",
    "reward": "leyden.sdk.rewards",
    "Client": "leyden.sdk.client",
    "LeydenError": "leyden.errors",
}

__all__ = ["Client", "LeydenError", "__version__", "flush", "init", "reward", "rollout", "shutdown", "trace"]

if TYPE_CHECKING:
    from leyden.errors import LeydenError
    from leyden.sdk.client import Client
    from leyden.sdk.config import flush, init, shutdown
    from leyden.sdk.rewards import reward
    from leyden.sdk.trace import rollout, trace


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'leyden' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
