"""`create_llm_proxy`: one model behind a gateway of this process, for code that only wants an answer."""

import os
import secrets
from typing import Any, Self

from leyden.agl.llm_proxy import LLMProxy, Store
from leyden.gateway.model_list import PROVIDERS
from leyden.sdk.completions import Completions

_AT_HOME = {"claude-": "anthropic", "gemini-": "gemini"}
_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}


class CompletionProxy(Completions):
    """A model to ask: `complete` waits for the answer, `acomplete` is awaited; each call is recorded with its cost.

    A call inside `leyden.rollout(...)` belongs to that rollout, all others of this object to one of their own. A context manager;
    `close` stores what was recorded.
    """

    def __init__(self, proxy: LLMProxy, *, model: str) -> None:
        self._proxy = proxy
        proxy.start_now()
        super().__init__(f"{proxy.url}/v1", model=model, session=f"completions-{secrets.token_hex(8)}")

    def close(self) -> None:
        """Let go of the connections and end the gateway."""
        super().close()
        self._proxy.stop_now()

    def __enter__(self) -> Self:
        return self


def create_llm_proxy(
    model: str, api_key: str | None = None, base_url: str | None = None, *, store: Store = None
) -> CompletionProxy:
    """A model to ask: `create_llm_proxy(model="gpt-4o-mini").complete("…")`.

    model: its name, with LiteLLM's prefix of the provider ("anthropic/…") or without. api_key: default the environment's.
    base_url: of any server that speaks OpenAI's protocol, with its version. store: see `leyden.agl.llm_proxy.Store`.

    Raises BadInput for an address that cannot be one, LeydenError when the store does not open.
    """
    proxy = LLMProxy(model_list=[entry(model, api_key=api_key, base_url=base_url)], store=store)
    return CompletionProxy(proxy, model=model)


def entry(model: str, *, api_key: str | None, base_url: str | None) -> dict[str, Any]:
    """The model as an entry of a `model_list`, with its provider and its key where they were not said."""
    named = _with_provider(model, has_address=base_url is not None)
    if api_key is None and base_url is None:
        api_key = _key_of_environment(named)
    known = {"model": named, "api_key": api_key, "api_base": base_url}
    parameters = {name: value for name, value in known.items() if value is not None}
    return {"model_name": model, "litellm_params": parameters}


def _with_provider(model: str, *, has_address: bool) -> str:
    """The model as a `model_list` names it."""
    if model.partition("/")[0] in PROVIDERS:
        return model
    if has_address:
        return f"openai_like/{model}"
    home = next((home for start, home in _AT_HOME.items() if model.startswith(start)), "openai")
    return f"{home}/{model}"


def _key_of_environment(model: str) -> str | None:
    variable = _KEYS.get(model.partition("/")[0])
    return f"os.environ/{variable}" if variable and os.environ.get(variable) else None
