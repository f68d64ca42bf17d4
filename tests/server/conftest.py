"""The server as bare HTTP: these tests read what is on the wire."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from leyden.server.app import create_app
from leyden.settings import Settings


@pytest.fixture
def http(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
