"""What a program finds in its environment under `leyden run`. Pure.

Promises: nothing that the user set is lost but the addresses of models, which lead to the gateway now. Two kinds of addresses stay as
they are, because the gateway does not speak what their clients speak: Gemini's own protocol and Ollama's own.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from leyden.sdk import semconv
from leyden.sdk.rollout_url import rollout_url

PLACEHOLDER = "leyden-placeholder"
"""The key that clients get where none is set: most refuse to start without one."""

_LOOPBACK = "127.0.0.1,localhost,::1"


class Ids(NamedTuple):
    """Whose work the program does. trace_id: 32 hex digits; span_id: 16, the span of the program itself."""

    rollout_id: str
    attempt_id: str
    trace_id: str
    span_id: str


def environment_of(
    parent: Mapping[str, str],
    ids: Ids,
    *,
    url: str,
    key: str = "",
    mode: str | None = None,
    program: str = "",
    telemetry: bool = True,
) -> dict[str, str]:
    """The program's whole environment.

    url: of the server; key: its key, where it asks for one; program: name without folder. telemetry: whether the program's own
    OpenTelemetry is told where to send its spans; some programs send hundreds as soon as they are told.
    """
    base = rollout_url(url, ids.rollout_id, ids.attempt_id) + (f"/mode/{mode}" if mode else "")
    own = {
        **_addresses(parent, base),
        **_keys(parent, key, program=program),
        **(_telemetry(parent, ids, url=url, key=key) if telemetry else {}),
        **_around_proxies(parent, url),
        "LEYDEN_URL": url,
        "LEYDEN_ROLLOUT_ID": ids.rollout_id,
        "LEYDEN_ATTEMPT_ID": ids.attempt_id,
    }
    return {**parent, **own}


def _addresses(parent: Mapping[str, str], base: str) -> dict[str, str]:
    found = {
        "OPENAI_BASE_URL": f"{base}/v1",
        "OPENAI_API_BASE": f"{base}/v1",  # its older name, which LangChain still reads
        "ANTHROPIC_BASE_URL": base,  # its clients add /v1 themselves
    }
    # Where it is not set, setting it would make some programs believe that they run on Azure.
    if parent.get("AZURE_OPENAI_ENDPOINT"):
        found["AZURE_OPENAI_ENDPOINT"] = base
    return found


def _keys(parent: Mapping[str, str], key: str, *, program: str) -> dict[str, str]:
    names = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]
    if parent.get("AZURE_OPENAI_ENDPOINT"):
        names.append("AZURE_OPENAI_API_KEY")
    if key:
        # A server that asks for its own key has the providers' keys itself, and would refuse theirs.
        return dict.fromkeys(names, key)
    has_login = program == "claude" or parent.get("ANTHROPIC_AUTH_TOKEN")
    # Claude Code has a login of its own, which a key in the environment would override.
    wanted = [name for name in names if not (name == "ANTHROPIC_API_KEY" and has_login)]
    return {name: PLACEHOLDER for name in wanted if not parent.get(name)}


def _telemetry(parent: Mapping[str, str], ids: Ids, *, url: str, key: str) -> dict[str, str]:
    """So that what an instrumented program sends lands in the same rollout. An exporter that is set up already keeps its target."""
    named = f"{semconv.ROLLOUT_ID}={quote(ids.rollout_id)},{semconv.ATTEMPT_ID}={quote(ids.attempt_id)}"
    given = parent.get("OTEL_RESOURCE_ATTRIBUTES", "").strip().strip(",")
    found = {
        "TRACEPARENT": f"00-{ids.trace_id}-{ids.span_id}-01",
        "OTEL_RESOURCE_ATTRIBUTES": f"{given},{named}" if given else named,
    }
    if parent.get("OTEL_EXPORTER_OTLP_ENDPOINT") or parent.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return found
    found |= {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    return found | ({"OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{quote(key)}"} if key else {})


def _around_proxies(parent: Mapping[str, str], url: str) -> dict[str, str]:
    """A proxy is for the outside world; sent through it, a server on this machine never answers."""
    has_proxy = any(name.lower() in ("http_proxy", "all_proxy") and value for name, value in parent.items())
    if not has_proxy or urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"):
        return {}
    return {
        name: ",".join(filter(None, (parent.get(name, "").strip(), _LOOPBACK)))
        for name in ("no_proxy", "NO_PROXY")
    }
