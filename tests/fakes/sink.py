"""A scripted server on loopback that keeps what it is sent: OTLP spans and notes about rollouts."""

import gzip
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Scripted:
    """One answer to give instead of 200."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


class Sink:
    """Answers 200 unless `script` holds answers; keeps requests in `requests` as (path, parsed body, headers)."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self.script: deque[Scripted] = deque()
        self.always: Scripted | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it, headers and body go out as two packets and every answer waits 40 ms for an acknowledgement.
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.entered.set()
                sink.gate.wait(20)
                answer = sink.always or (sink.script.popleft() if sink.script else Scripted(200))
                sink.requests.append((self.path, json.loads(body), headers | {":status": str(answer.status)}))
                told = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def taken(self) -> list[tuple[str, Any]]:
        """Requests that were answered with success."""
        return [(path, body) for path, body, headers in list(self.requests) if headers[":status"] == "200"]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Spans that were taken, attributes as a plain dict under "attributes"."""
        return [
            span | {"attributes": {a["key"]: plain(a["value"]) for a in span["attributes"]}}
            for path, body in self.taken
            if path == "/v1/traces"
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    @property
    def names(self) -> list[str]:
        return [span["name"] for span in self.spans]

    def span(self, name: str) -> dict[str, Any]:
        """The one span of that name."""
        [found] = [span for span in self.spans if span["name"] == name]
        return found


def plain(value: dict[str, Any]) -> Any:
    """An OTLP/JSON value as Python has it."""
    [(kind, inner)] = value.items() if value else [("none", None)]
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [plain(item) for item in inner["values"]]
    return inner
