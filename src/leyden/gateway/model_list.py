"""LiteLLM's `model_list`, which Agent Lightning's `LLMProxy` takes, as a configuration of ours. Pure.

What LiteLLM would send to the provider becomes a default of the alias; what only steers LiteLLM itself is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from leyden.errors import BadInput
from leyden.gateway.kinds import Kind

# LiteLLM's prefix → the kind of upstream. `hosted_vllm` and `vllm` differ in LiteLLM; here both are a server with a URL.
PROVIDERS: dict[str, Kind] = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "bedrock": "bedrock",
    "vertex_ai": "vertex",
    "hosted_vllm": "vllm",
    "vllm": "vllm",
    "sglang": "sglang",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "custom_openai": "compatible",
    "openai_like": "compatible",
    "litellm_proxy": "compatible",
}
_OURS = {"model", "api_base", "base_url", "api_key", "api_version", "weight", "order", "timeout"}
_LITELLMS = {
    "drop_params", "additional_drop_params", "rpm", "tpm", "num_retries", "max_retries", "stream_timeout",
    "custom_llm_provider", "organization", "model_info", "input_cost_per_token", "output_cost_per_token",
    "max_parallel_requests", "cooldown_time", "use_in_pass_through", "merge_reasoning_content_in_choices",
    "tags", "mock_response", "allowed_openai_params", "return_token_ids",
}  # fmt: skip


def as_config(model_list: Sequence[Mapping[str, Any]], env: Mapping[str, str]) -> dict[str, Any]:
    """The list as `leyden.yaml` would say it: entries of one name are targets of one alias, equal servers are one upstream.

    A key written `os.environ/NAME` comes from the environment. Raises BadInput naming the entry.
    """
    upstreams: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    for i, entry in enumerate(model_list):
        alias, params = _entry(entry, i)
        kind, model = _provider(str(params["model"]), params, i)
        name = _shared(upstreams, kind, _upstream(kind, params, env, i))
        target = {
            "upstream": name,
            "model": model,
            "weight": params.get("weight"),
            "priority": params.get("order"),
        }
        filled = models.setdefault(alias, {"targets": [], "defaults": {}})
        filled["targets"].append({key: value for key, value in target.items() if value is not None})
        filled["defaults"] |= {k: v for k, v in params.items() if k not in _OURS | _LITELLMS}
    return {"upstreams": upstreams, "models": models}


def _entry(entry: Mapping[str, Any], i: int) -> tuple[str, Mapping[str, Any]]:
    alias, params = entry.get("model_name"), entry.get("litellm_params")
    if not isinstance(alias, str) or not isinstance(params, Mapping) or "model" not in params:
        raise BadInput(
            f"model_list[{i}] lacks model_name or litellm_params.model",
            hint='write {"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}}',
        )
    return alias, cast(Mapping[str, Any], params)


def _provider(model: str, params: Mapping[str, Any], i: int) -> tuple[Kind, str]:
    prefix, slash, rest = model.partition("/")
    if slash and prefix in PROVIDERS:
        return PROVIDERS[prefix], rest
    # Without a provider it is OpenAI's; a slash may also belong to the name (`Qwen/Qwen3-8B`) when an address is given.
    if not slash or params.get("api_base") or params.get("base_url"):
        return ("compatible" if slash else "openai"), model
    raise BadInput(
        f"model_list[{i}].litellm_params.model names the provider {prefix!r}, which is not known here",
        hint=f"use one of {', '.join(PROVIDERS)}, or give api_base for a server that speaks OpenAI's protocol",
    )


def _upstream(kind: Kind, params: Mapping[str, Any], env: Mapping[str, str], i: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "kind": kind,
        "base_url": _from_env(params.get("api_base") or params.get("base_url"), env, i),
        "api_key": _from_env(params.get("api_key"), env, i),
        "api_version": _from_env(params.get("api_version"), env, i),
    }
    if params.get("timeout"):
        settings["timeouts"] = {"first_byte_s": params["timeout"]}
    return {name: value for name, value in settings.items() if value}


def _from_env(value: Any, env: Mapping[str, str], i: int) -> Any:
    if not isinstance(value, str) or not value.startswith("os.environ/"):
        return value
    name = value.removeprefix("os.environ/")
    if name not in env:
        raise BadInput(f"model_list[{i}] wants {name} from the environment, which does not have it")
    return env[name]


def _shared(upstreams: dict[str, dict[str, Any]], kind: Kind, wanted: dict[str, Any]) -> str:
    """The name of the upstream with these settings, added when there is none."""
    for name, there in upstreams.items():
        if there == wanted:
            return name
    taken = sum(there["kind"] == kind for there in upstreams.values())
    name = kind if not taken else f"{kind}-{taken + 1}"
    upstreams[name] = wanted
    return name
