"""`LLMProxy`: a stock OpenAI client through it, recorded where it was told to."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from fakes.model_server import ModelServer, failing
from leyden import agl
from leyden.errors import BadInput, LeydenError
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings
from leyden.types import Span


@pytest.fixture
def upstream() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def models(upstream: ModelServer, name: str = "gpt-4o-mini") -> list[dict[str, Any]]:
    parameters = {"model": f"openai/{name}", "api_base": f"{upstream.url}/v1", "api_key": "sk-upstream"}
    return [{"model_name": name, "litellm_params": parameters}]


def ask(url: str, **more: Any) -> Any:
    """One call with the real client: its answer, or the list of a stream's chunks."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as openai:
        answer = openai.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello?"}], **more
        )
        return list(answer) if more.get("stream") else answer


def stored(db: Path, rollout_id: str) -> list[Span]:
    with Client(app=create_app(Settings(db=str(db)))) as client:
        return client.spans(rollout_id).items


def test_calls_of_an_attempt_are_recorded_in_the_given_database(
    upstream: ModelServer, tmp_path: Path
) -> None:
    db = tmp_path / "leyden.db"
    proxy = agl.LLMProxy(model_list=models(upstream), store=str(db))

    async def work() -> None:
        await proxy.start()
        assert proxy.is_running()
        url = proxy.as_resource("ro-1", "at-1").endpoint
        said = await asyncio.to_thread(ask, url)
        assert said.choices[0].message.content == "Hello from the scripted model"
        assert await asyncio.to_thread(ask, url, stream=True)
        await proxy.stop()

    asyncio.run(work())
    assert not proxy.is_running()
    spans = stored(db, "ro-1")
    assert [span.name for span in spans] == ["chat gpt-4o-mini"] * 2
    assert all(span.attempt_id == "at-1" and span.attributes["gen_ai.usage.cost"] > 0 for span in spans)
    assert {request.headers["authorization"] for request in upstream.requests} == {"Bearer sk-upstream"}


@pytest.mark.parametrize("as_client", [False, True], ids=["url", "client"])
@pytest.mark.parametrize("is_known", [False, True], ids=["unknown rollout", "known rollout"])
def test_calls_are_recorded_on_another_server(
    upstream: ModelServer, server_url: str, as_client: bool, is_known: bool
) -> None:
    with Client(server_url) as client:
        if is_known:
            client.register_rollout("ro-1", "at-1", input="task")
        proxy = agl.LLMProxy(model_list=models(upstream), store=client if as_client else server_url)
        proxy.start_now()
        ask(proxy.as_resource("ro-1", "at-1").endpoint)
        ask(proxy.as_resource("ro-1", "at-1").endpoint)
        proxy.stop_now()
        spans = client.span_summaries("ro-1").items
        assert [(span.kind, span.model, span.input_tokens) for span in spans] == [("llm", "scripted", 7)] * 2
        assert all(span.cost_usd for span in spans)
        assert client.rollout("ro-1").input == ("task" if is_known else None)


def test_other_models_and_another_store_count_from_the_next_start_on_the_same_port(
    upstream: ModelServer, tmp_path: Path
) -> None:
    proxy = agl.LLMProxy(model_list=models(upstream, "other"), store=str(tmp_path / "a.db"))
    assert proxy.get_store() == str(tmp_path / "a.db")
    proxy.start_now()
    before = proxy.as_resource()
    proxy.update_model_list(models(upstream))
    proxy.set_store(str(tmp_path / "b.db"))
    asyncio.run(proxy.restart())
    assert proxy.as_resource().get_base_url() == before.get_base_url()
    assert proxy.as_resource().model == "gpt-4o-mini"
    ask(proxy.as_resource("ro-2", "at-2").endpoint)
    proxy.stop_now()
    assert len(stored(tmp_path / "b.db", "ro-2")) == 1


def test_failed_calls_are_tried_as_often_as_was_asked(upstream: ModelServer, tmp_path: Path) -> None:
    upstream.script(failing(503), failing(503))
    for retries, tries in ((2, 3), (0, 1)):
        db = tmp_path / f"{retries}.db"
        proxy = agl.LLMProxy(model_list=models(upstream), store=str(db), num_retries=retries)
        proxy.start_now()
        ask(proxy.as_resource("ro-1", "at-1").endpoint)
        proxy.stop_now()
        assert stored(db, "ro-1")[0].attributes["leyden.gateway.tries"] == tries


def test_a_resource_names_the_proxy_or_one_attempt_of_it(upstream: ModelServer) -> None:
    proxy = agl.LLMProxy(port=4321, model_list=models(upstream))
    resource = proxy.as_resource(sampling_parameters={"temperature": 0})
    assert isinstance(resource, agl.ProxyLLM)
    assert resource.get_base_url("ro-1", "at-1") == "http://127.0.0.1:4321/rollout/ro-1/attempt/at-1"
    assert resource.sampling_parameters == {"temperature": 0}
    assert type(proxy.as_resource("ro-1", "at-1")) is agl.LLM
    with pytest.raises(ValueError, match="belong together"):
        proxy.as_resource("ro-1")
    two = agl.LLMProxy(model_list=[*models(upstream), *models(upstream, "other")])
    assert two.as_resource(model="other").model == "other"
    with pytest.raises(ValueError, match="2: gpt-4o-mini, other"):
        two.as_resource()


def test_a_list_that_cannot_be_right_is_refused_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadInput, match=r"model_list\[0\]"):
        agl.LLMProxy(model_list=[{"model_name": "x"}])
    agl.LLMProxy(model_list=[], launch_mode="mp", num_workers=4)
    assert "launch_mode, num_workers" in caplog.text


def test_a_port_that_is_taken_is_named(upstream: ModelServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = agl.LLMProxy(port=port, model_list=models(upstream), store=str(tmp_path / "x.db"))
        with pytest.raises(LeydenError, match=f"Port {port}"):
            proxy.start_now()
    assert not proxy.is_running()
