"""The configurations in the documentation are ones that the gateway takes."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.model_server import ModelServer, failing
from leyden.gateway.config import GatewayConfig
from leyden.gateway.kinds import KINDS
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.server.background import BackgroundServer
from leyden.server.gateway import gateway_of
from leyden.settings import Settings

HOW_TO = Path(__file__).parent.parent.parent / "docs" / "how-to"
SNIPPETS = [
    pytest.param(match[1], id=f"{page.stem}-{n}")
    for page in sorted(HOW_TO.glob("*.md"))
    for n, match in enumerate(re.finditer(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S))
]
PROVIDERS = (HOW_TO / "model-providers.md").read_text()
RECORDED = (HOW_TO / "what-is-recorded.md").read_text()

QUESTION = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": QUESTION,
    "tools": [TOOL],
    "temperature": 0,
    "seed": 1,
}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", CHAT),
    ("/chat/completions", CHAT),
    ("/chat/completions", CHAT | {"stream": True, "user": "somebody"}),
    ("/messages", {"model": "claude-haiku-4-5", "messages": QUESTION[1:], "max_tokens": 10, "stream": True}),
    ("/responses", {"model": "gpt-4o-mini", "input": "Hello?", "max_output_tokens": 20}),
    ("/embeddings", {"model": "text-embedding-3-small", "input": "Hello?"}),
    ("/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello?"}),
]


@pytest.mark.parametrize("text", SNIPPETS)
def test_a_configuration_in_the_docs_loads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "leyden.yaml"
    path.write_text(text)
    known = dict.fromkeys(re.findall(r"\$\{([A-Z_0-9]+)", text), "secret")
    assert GatewayConfig.from_file(path, known).upstreams


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_upstream_has_its_section(kind: str) -> None:
    assert re.search(rf"kind: {kind}\b", PROVIDERS)


@pytest.mark.parametrize("content", ["full", "none"])
def test_what_the_docs_list_is_what_a_call_leaves(content: str, tmp_path: Path) -> None:
    always, with_content = (_listed(title) for title in ("Always", "Content"))
    listed = always | with_content if content == "full" else always
    found = _attributes_of_calls(tmp_path, content=content)
    assert {name for name in found if not any(fnmatchcase(name, known) for known in listed)} == set()
    assert (set(with_content) & found != set()) == (content == "full")


def _listed(title: str) -> set[str]:
    """The attributes in the table of a section, as patterns."""
    section = RECORDED.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name.replace(".N.", ".*.") for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _attributes_of_calls(folder: Path, *, content: str) -> set[str]:
    """Call through every door, streamed and not, well and badly; the attributes that all spans have together."""
    settings = Settings(db=str(folder / "leyden.db"), port=0)
    with ModelServer() as upstream:
        upstream.script(failing(400))
        written = {"kind": "compatible", "base_url": f"{upstream.url}/v1", "api_key": "secret"}
        other = {"kind": "anthropic", "base_url": upstream.url, "api_key": "secret"}
        config = GatewayConfig.from_dict(
            {
                "upstreams": {"one": written, "two": other},
                "models": {"*": "one", "claude-*": "two"},
                "gateway": {"record": {"content": content}, "token_ids": "on"},
            }
        )
        with BackgroundServer(settings, gateway_from=gateway_of(config)) as server:
            for path, body in CALLS:
                httpx.post(
                    f"{server.url}/rollout/ro-1/attempt/at-1/mode/train/v1{path}",
                    json=body,
                    headers={"x-leyden-agent": "shop", "x-leyden-session": "s"},
                )
    with Client(app=create_app(settings)) as client:
        spans = client.spans("ro-1").items
    assert len(spans) == len(CALLS)
    return {name for span in spans for name in span.attributes}
