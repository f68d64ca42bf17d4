"""A gateway without a configuration file: upstreams and aliases from the variables that model clients read anyway. Pure."""

from collections.abc import Mapping
from typing import Any, cast

Upstreams = dict[str, dict[str, Any]]


def upstreams(env: Mapping[str, str]) -> Upstreams:
    """Upstreams that the environment names, as `leyden.yaml` would have them.

    OpenAI and Anthropic are always there: without a key of ours, the key that the client brings is passed through.
    """
    found: Upstreams = {
        "openai": _with(env, "openai", key="OPENAI_API_KEY", url="OPENAI_BASE_URL"),
        "anthropic": _anthropic(env),
    }
    if env.get("AZURE_OPENAI_ENDPOINT"):
        azure = _with(env, "azure", key="AZURE_OPENAI_API_KEY", url="AZURE_OPENAI_ENDPOINT")
        version = env.get("AZURE_OPENAI_API_VERSION") or env.get("OPENAI_API_VERSION")
        found["azure"] = azure | ({"api_version": version} if version else {})
    if env.get("GEMINI_API_KEY"):
        found["gemini"] = _with(env, "gemini", key="GEMINI_API_KEY")
    if env.get("OLLAMA_HOST"):
        found["ollama"] = {"kind": "ollama", "base_url": ollama_url(env["OLLAMA_HOST"])}
    return found


def default_models(upstreams: Mapping[str, Any]) -> dict[str, Any]:
    """Aliases for upstreams that have none: `NAME/model` by name; claude-* and gemini-* where they are at home; the rest goes
    to the first upstream that speaks OpenAI's protocol, else to the first."""
    kinds = {name: _kind(upstream) for name, upstream in upstreams.items()}
    models: dict[str, Any] = {f"{name}/*": [{"upstream": name, "model": "*"}] for name in kinds}
    for kind, pattern in (("anthropic", "claude-*"), ("gemini", "gemini-*")):
        for name in [name for name in kinds if kinds[name] == kind][:1]:
            models[pattern] = [{"upstream": name}]
    general = [name for name, kind in kinds.items() if kind not in ("anthropic", "gemini")] or list(kinds)
    for name in general[:1]:
        models["*"] = [{"upstream": name}]
    return models


def ollama_url(host: str) -> str:
    """OLLAMA_HOST as Ollama reads it: a scheme, a host and a port, each of which may be left out."""
    scheme, _, rest = host.rpartition("://")
    name, _, port = rest.rstrip("/").rpartition(":") if ":" in rest else (rest.rstrip("/"), "", "11434")
    name = "127.0.0.1" if name in ("", "0.0.0.0") else name
    return f"{scheme or 'http'}://{name}:{port}/v1"


def _with(env: Mapping[str, str], kind: str, *, key: str, url: str = "") -> dict[str, Any]:
    settings = {"kind": kind, "api_key": env.get(key), "base_url": env.get(url) if url else None}
    return {name: value for name, value in settings.items() if value}


def _anthropic(env: Mapping[str, str]) -> dict[str, Any]:
    found = _with(env, "anthropic", key="ANTHROPIC_API_KEY", url="ANTHROPIC_BASE_URL")
    token = env.get("ANTHROPIC_AUTH_TOKEN")
    if token and "api_key" not in found:
        return found | {"api_key": token, "auth": "bearer"}
    return found


def _kind(upstream: Any) -> str:
    """The kind as it bears on names of models; nothing is judged here."""
    written: Mapping[str, Any] = cast(Mapping[str, Any], upstream) if isinstance(upstream, Mapping) else {}
    return "anthropic" if written.get("family") == "anthropic" else str(written.get("kind"))
