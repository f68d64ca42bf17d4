"""An alias bound to a named deployment runs with what was stored last under its name, and the span says what that was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.model_server import ModelServer
from faults.processes import until
from gateway.serving import Gateway, gateway, only

NAME = "support-agent@production"


def config(model: ModelServer) -> dict[str, Any]:
    bound = {"targets": [{"upstream": "openai"}], "deployment": NAME, "system_template": "persona"}
    return only(model) | {"models": {"agent": bound, "claude-*": "anthropic", "*": "openai"}}


@pytest.fixture
def bound(tmp_path: Path, model: ModelServer) -> Iterator[Gateway]:
    with gateway(tmp_path, config(model)) as gate:
        yield gate


def store(gate: Gateway, **resources: Any) -> None:
    gate.client.update_resources(NAME, resources)


def llm(model: str, **parameters: Any) -> dict[str, Any]:
    return {
        "resource_type": "llm", "endpoint": "http://unused", "model": model, "sampling_parameters": parameters,
    }  # fmt: skip


def prompt(text: str) -> dict[str, Any]:
    return {"resource_type": "prompt_template", "template": text, "engine": "f-string"}


def test_a_call_runs_with_what_is_stored_under_the_name(bound: Gateway, model: ModelServer) -> None:
    store(
        bound, main=llm("gpt-4o-mini", temperature=0.1), persona=prompt("Be kind."), other=prompt("Be cruel.")
    )
    assert bound.post(model="agent", temperature=1.0).status_code == 200
    sent = model.requests[-1].json
    assert (sent["model"], sent["temperature"]) == ("gpt-4o-mini", 0.1)
    assert [message["content"] for message in sent["messages"]] == ["Be kind.", "Hello?"]
    said = bound.span()
    assert (said["leyden.deployment"], said["leyden.resources.version"]) == (NAME, "1")
    assert said["leyden.resources.prompt"] == "persona"


def test_a_new_version_changes_the_next_calls_without_a_deploy(bound: Gateway, model: ModelServer) -> None:
    store(bound, main=llm("first"))
    bound.post(model="agent")
    store(bound, main=llm("second"))

    def served() -> bool:
        bound.post(model="agent")
        return model.requests[-1].json["model"] == "second"

    assert until(served, timeout_s=10)

    def versions() -> set[str]:
        return {
            span.attributes["leyden.resources.version"] for span in bound.client.spans(bound.rollout).items
        }

    assert until(lambda: versions() == {"1", "2"})


def test_a_name_under_which_nothing_is_stored_changes_nothing(bound: Gateway, model: ModelServer) -> None:
    assert bound.post(model="agent").status_code == 200
    assert model.requests[-1].json["model"] == "agent"
    assert "leyden.deployment" not in bound.span()


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"main": llm("m"), "persona": llm("n")},
        {"main": {"resource_type": "llm", "endpoint": "x", "model": "m"}},
        {"persona": prompt("")},
    ],
)
def test_resources_of_any_shape_are_served(bound: Gateway, odd: dict[str, Any]) -> None:
    store(bound, **odd)
    assert bound.post(model="agent").status_code == 200
    assert bound.span()["leyden.deployment"] == NAME
