"""One scripted model server and one gateway in front of it for the tests of a module; each test is a rollout of its own."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from fakes.model_server import ModelServer
from gateway.serving import Gateway, gateway, only


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """What it is asked grows from test to test; what it was scripted to say is said by then."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def served(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway itself, which tries each call once."""
    with gateway(tmp_path_factory.mktemp("gateway"), only(model)) as served:
        yield served


@pytest.fixture
def gate(served: Gateway) -> Gateway:
    """The gateway as an agent of a fresh rollout calls it."""
    return replace(served, rollout=f"ro-{uuid4().hex[:12]}")
