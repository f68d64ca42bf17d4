"""The recorded HTTP exchanges of `llm-cassettes`, read without a line of the product."""

import functools
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from leyden.gateway.call import Door
from recount import data

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DOORS: dict[str, Door] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/embeddings": "embeddings",
    "/messages": "messages",
    "/messages/count_tokens": "count_tokens",
}


@dataclass
class Recorded:
    """One exchange. body is as it was sent, encoded as `encoding` says; plain is the same without its encoding.

    headers: of the answer, a pair for each value, names in lower case.
    """

    name: str
    door: Door
    asked: dict[str, Any]
    status: int
    encoding: str
    body: bytes
    url: str
    headers: tuple[tuple[str, str], ...]

    @property
    def plain(self) -> bytes:
        return gzip.decompress(self.body) if self.body[:2] == b"\x1f\x8b" else self.body

    @property
    def is_stream(self) -> bool:
        return self.plain.startswith((b"data:", b"event:", b":"))

    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of the answer: those of its events, or the body."""
        if not self.is_stream:
            return [json.loads(self.plain)]
        lines = [line[5:].strip() for line in self.plain.splitlines() if line.startswith(b"data:")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


@functools.cache
def exchanges() -> list[Recorded]:
    """Every exchange whose URL ends in a door of the gateway, in the order of the files."""
    files = sorted(data("llm-cassettes").rglob("*.y*ml"))
    return [found for file in files for found in _of(file.name, yaml.load(file.read_bytes(), _LOADER))]


def _of(name: str, cassette: dict[str, Any]) -> Iterator[Recorded]:
    for exchange in cassette.get("interactions") or ():
        request, response = exchange["request"], exchange["response"]
        path = urlsplit(request["uri"]).path
        door = next((door for end, door in _DOORS.items() if path.endswith(end)), None)
        if door is None or "/threads/" in path:
            continue
        if path.endswith("/chat/completions"):
            door = "chat"
        headers = {key.lower(): value for key, value in (response.get("headers") or {}).items()}
        body = response["body"]["string"]
        yield Recorded(
            name,
            door,
            json.loads(request["body"]),
            response["status"]["code"],
            (headers.get("content-encoding") or [""])[0],
            body if isinstance(body, bytes) else body.encode(),
            request["uri"],
            tuple((key, value) for key, values in headers.items() for value in values),
        )
