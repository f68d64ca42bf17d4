"""`create_llm_proxy(...).complete(...)`: an answer, and a recorded call with its cost."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import leyden
from fakes.model_server import ModelServer, answer, failing
from leyden import agl
from leyden.agl.completion import entry
from leyden.errors import UpstreamBroken, UpstreamError
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings


@pytest.fixture
def upstream() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "leyden.db"


def test_calls_are_answered_traced_and_priced(upstream: ModelServer, db: Path) -> None:
    made = agl.create_llm_proxy(
        model="gpt-4o-mini", api_key="sk-1", base_url=f"{upstream.url}/v1", store=str(db)
    )
    with made as proxy:
        assert proxy.complete("Hello?") == "Hello from the scripted model"
        said = asyncio.run(proxy.acomplete([{"role": "user", "content": "Hello?"}], temperature=0.5))
        assert said == "Hello from the scripted model"
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-1"
    assert upstream.requests[1].json["temperature"] == 0.5
    with Client(app=create_app(Settings(db=str(db)))) as client:
        (rollout,) = client.list_rollouts().items
        spans = client.span_summaries(rollout.rollout_id).items
    assert len(spans) == 2
    assert all(span.cost_usd for span in spans)


def test_a_call_inside_a_rollout_belongs_to_it_and_hangs_below_its_span(
    upstream: ModelServer, db: Path, server_url: str
) -> None:
    leyden.init(server_url)
    with (
        agl.create_llm_proxy("gpt-4o-mini", "k", f"{upstream.url}/v1", store=server_url) as proxy,
        leyden.rollout("Hello?") as rollout,
        leyden.trace.agent("greeter") as span,
    ):
        proxy.complete("Hello?")
        outer = span.span_id
    leyden.shutdown()
    with Client(server_url) as client:
        spans = {each.kind: each for each in client.span_summaries(rollout.rollout_id).items}
    assert spans["llm"].parent_id == outer
    assert spans["llm"].trace_id == spans["agent"].trace_id


@pytest.mark.parametrize(
    ("model", "base_url", "named"),
    [
        ("gpt-4o-mini", None, "openai/gpt-4o-mini"),
        ("claude-haiku-4-5", None, "anthropic/claude-haiku-4-5"),
        ("gemini/gemini-2.5-flash", None, "gemini/gemini-2.5-flash"),
        ("claude-haiku-4-5", "http://127.0.0.1:1/v1", "openai_like/claude-haiku-4-5"),
    ],
)
def test_a_model_is_asked_where_it_is_at_home_unless_an_address_is_given(
    model: str, base_url: str | None, named: str
) -> None:
    assert entry(model, api_key="k", base_url=base_url)["litellm_params"]["model"] == named


def test_the_environments_key_is_for_the_provider_and_for_no_other_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    at_home = entry("claude-haiku-4-5", api_key=None, base_url=None)
    elsewhere = entry("claude-haiku-4-5", api_key=None, base_url="http://127.0.0.1:1/v1")
    assert at_home["litellm_params"]["api_key"] == "os.environ/ANTHROPIC_API_KEY"
    assert "api_key" not in elsewhere["litellm_params"]


def test_what_the_model_server_refuses_is_told(upstream: ModelServer, db: Path) -> None:
    upstream.script(failing(400, message="no such model"), answer({"choices": []}))
    with agl.create_llm_proxy("m", "k", f"{upstream.url}/v1", store=str(db)) as proxy:
        with pytest.raises(UpstreamError, match="400: no such model"):
            proxy.complete("Hello?")
        with pytest.raises(UpstreamBroken, match="no chat completion"):
            proxy.complete("Hello?")


def test_importing_the_facade_loads_nothing_heavy() -> None:
    code = "import sys; from leyden import agl; dir(agl); print(sorted({'fastapi', 'sqlalchemy', 'aiohttp', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
