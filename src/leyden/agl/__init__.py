"""Agent Lightning's names over Leyden: `from leyden import agl`. A facade, with no logic of its own.

Names load on first use, so importing it costs no server and no database. There are as many as Leyden has something for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "LLM": "leyden.agl.resources",
    "ProxyLLM": "leyden.agl.resources",
    "LLMProxy": "leyden.agl.llm_proxy",
    "create_llm_proxy": "leyden.agl.completion",
}

__all__ = ["LLM", "LLMProxy", "ProxyLLM", "create_llm_proxy"]

if TYPE_CHECKING:
    from leyden.agl.completion import create_llm_proxy
    from leyden.agl.llm_proxy import LLMProxy
    from leyden.agl.resources import LLM, ProxyLLM


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'leyden.agl' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
