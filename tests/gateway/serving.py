"""A gateway in front of scripted model servers, come in to by the public door, and what it recorded."""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from conftest import serving
from fakes.model_server import ModelServer
from faults.processes import running, until
from leyden.sdk.client import Client
from leyden.settings import Settings
from leyden.types import Span

# What belongs to a connection, not to an answer; the framing of a body is checked by reading it.
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Raw:
    """An answer as it is on the wire, but for its framing: headers sorted, with lower-case names."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def of_the_upstream(self) -> list[tuple[str, str]]:
        """The headers without those that the gateway adds."""
        return [(name, value) for name, value in self.headers if not name.startswith("x-leyden-")]


class Wire:
    """One kept-alive connection that shows what comes back undecoded."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Raw:
        """Send JSON and read the whole answer."""
        told = {"content-type": "application/json", **(headers or {})}
        self._connection.request("POST", path, body, told)
        with self._connection.getresponse() as response:
            found = sorted((name.lower(), value) for name, value in response.getheaders())
            kept = [(name, value) for name, value in found if name not in _OF_THE_CONNECTION]
            return Raw(response.status, kept, response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass
class Gateway:
    """A running one, as an agent of one rollout calls it."""

    url: str
    client: Client
    http: httpx.Client
    rollout: str = "ro-1"

    @property
    def base(self) -> str:
        """What the agent is given as its base URL, without the version."""
        return f"/rollout/{self.rollout}/attempt/at-1"

    def post(self, door: str = "/chat/completions", **more: Any) -> httpx.Response:
        """Call a door with a small question. more: what else is asked; `headers` go along."""
        headers = more.pop("headers", None)
        return self.http.post(f"{self.base}/v1{door}", json=QUESTION | more, headers=headers)

    def streaming(
        self, door: str = "/chat/completions", **more: Any
    ) -> AbstractContextManager[httpx.Response]:
        """The same, streamed: the answer is read as it comes."""
        asked = QUESTION | {"stream": True} | more
        return self.http.stream("POST", f"{self.base}/v1{door}", json=asked)

    def state(self) -> dict[str, Any]:
        """What `/api/gateway` says."""
        return self.http.get("/api/gateway").json()

    def settled(self, calls: int) -> dict[str, Any]:
        """The same, once so many calls since the start are recorded or lost."""

        def look() -> dict[str, Any] | None:
            state = self.state()
            return state if state["recorded"] + state["lost"] >= calls else None

        return until(look) or {}

    def spans(self, calls: int = 1) -> list[Span]:
        """The spans of the rollout, once there are so many; fails when there are more."""
        found = until(lambda: spans if len(spans := self.client.spans(self.rollout).items) >= calls else None)
        assert found is not None
        assert len(found) == calls, [span.name for span in found]
        return found

    def span(self) -> dict[str, Any]:
        """The attributes of the only span of the rollout, with its status under "status" and "description"."""
        [span] = self.spans()
        return {**span.attributes, "status": span.status.status_code, "description": span.status.description}


class Calling:
    """A call in a thread of its own."""

    def __init__(self, gate: Gateway, **more: Any) -> None:
        self._given: list[httpx.Response] = []
        self._thread = threading.Thread(target=lambda: self._given.append(gate.post(**more)))
        self._thread.start()

    def answer(self) -> httpx.Response:
        """The answer, once it is there."""
        self._thread.join(30)
        return self._given[0]


QUESTION = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello?"}]}


def at(server: ModelServer, **more: Any) -> dict[str, Any]:
    """An upstream that is a scripted server."""
    return {"kind": "openai", "base_url": f"{server.url}/v1", **more}


def only(server: ModelServer, **more: Any) -> dict[str, Any]:
    """A configuration with one scripted upstream for everything, of both protocols. more: under `gateway`."""
    upstreams = {"openai": at(server), "anthropic": at(server, kind="anthropic")}
    models = {"claude-*": "anthropic", "*": "openai"}
    return {"upstreams": upstreams, "models": models, "gateway": {"retry": {"tries": 1}, **more}}


@contextmanager
def gateway(folder: Path, config: Mapping[str, Any], **settings: Any) -> Iterator[Gateway]:
    """A server of this process, over a fresh SQLite file in the folder unless `db` says otherwise."""
    given: dict[str, Any] = {"db": str(folder / "leyden.db"), "config": written(folder, config), **settings}
    with serving(Settings(**given)) as url, reaching(url) as reached:
        yield reached


@contextmanager
def own_process(folder: Path, config: Mapping[str, Any], **env: str) -> Iterator[Gateway]:
    """`leyden up`, as people start it."""
    env["LEYDEN_CONFIG"] = written(folder, config)
    with running(str(folder / "leyden.db"), **env) as server, reaching(server.url) as reached:
        yield reached


def process_of(gate: Gateway) -> psutil.Process:
    """The process of a gateway that has its own: the one that listens where it is reached."""
    port = int(gate.url.rsplit(":", 1)[1])
    children = psutil.Process().children(recursive=True)
    return next(c for c in children if any(n.laddr.port == port for n in c.net_connections("tcp4")))


@contextmanager
def reaching(url: str) -> Iterator[Gateway]:
    """What a test needs to call a running server."""
    with Client(url) as client, httpx.Client(base_url=url, timeout=60) as http:
        yield Gateway(url, client, http)


def written(folder: Path, config: Mapping[str, Any]) -> str:
    """The path of a `leyden.yaml` that says this."""
    path = folder / "leyden.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return str(path)
