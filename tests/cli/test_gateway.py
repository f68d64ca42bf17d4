"""`leyden gateway`: model calls and nothing else, over a store that others read."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.model_server import ModelServer

CALL = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}


def posted(url: str) -> Any:
    request = urllib.request.Request(
        f"{url}/rollout/ro-1/attempt/at-1/v1/chat/completions",
        json.dumps(CALL).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.fixture
def upstream() -> Any:
    with ModelServer() as server:
        yield server


def test_it_forwards_and_records_by_its_file_and_serves_nothing_else(
    started: Callable[..., Any], leyden: Callable[..., Any], upstream: ModelServer, tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    upstreams = {"one": {"kind": "compatible", "base_url": f"{upstream.url}/v1"}}
    file.write_text(json.dumps({"upstreams": upstreams, "models": {"small": "one/gpt-4o-mini"}}))
    with started("gateway", "--port", "0", "--config", str(file)) as server:
        assert posted(server.url)["choices"][0]["message"]["content"] == "Hello from the scripted model"
        assert json.load(urllib.request.urlopen(f"{server.url}/healthz"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/api/rollouts")
        assert refused.value.code == 404
        said = server.stop(signal.SIGTERM)
    assert (said.code, said.err) == (0, "")
    assert f"OPENAI_BASE_URL={server.url}/v1" in said.out
    assert "leyden analyze" not in said.out
    assert upstream.requests[0].json["model"] == "gpt-4o-mini"
    (shown,) = leyden("show", "ro-1", "--json").json["spans"]
    assert (shown["kind"], shown["input_tokens"]) == ("llm", 7)


def test_a_file_that_is_wrong_is_one_error_with_its_line(leyden: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("upstreams:\n  one:\n    kind: nonsense\n")
    said = leyden("gateway", "--port", "0", "--config", str(file))
    assert said.code == 1
    assert "line 3" in said.err
    assert "nonsense" in said.err


def test_a_file_that_is_not_there_is_named(leyden: Callable[..., Any]) -> None:
    said = leyden("gateway", "--port", "0", "--config", "nowhere.yaml")
    assert said.code == 1
    assert "nowhere.yaml" in said.err
