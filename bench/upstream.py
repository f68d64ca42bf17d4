"""A model server that costs next to nothing: ready-made chat completions, plain (about 1 KB) and as a stream of 21 events.

    python -m bench.upstream --port 9000

Spends about 20 µs on a plain answer, because it reads no more of a request than it must: its length, and whether it asks for a
stream and for token counts. Events leave one by one, as those of a real model do, only faster.
"""

import argparse
import asyncio
import json
from typing import Any, cast

import uvloop

MODEL = "gpt-4o-mini"
WORDS = 18  # of a stream: with the role, the finish, [DONE] they make 21 events, and the counts that some ask for one more

_TEXT = " ".join(f"The order {n} was sent on the 4th and will arrive within {n % 5} days." for n in range(14))
_USAGE = {"prompt_tokens": 212, "completion_tokens": 187, "total_tokens": 399}
_ABOUT = {"id": "chatcmpl-bench", "created": 1_790_000_000, "model": MODEL}


def _plain() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}
    body = {**_ABOUT, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return json.dumps(body, separators=(",", ":")).encode()


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data({**_ABOUT, "object": "chat.completion.chunk", "choices": [choice]})


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def events(*, with_usage: bool) -> list[bytes]:
    """The events of a stream, each as the client is to see it."""
    counts = [_data({**_ABOUT, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE})]
    return [
        _event({"role": "assistant", "content": ""}),
        *[_event({"content": f" word{n}"}) for n in range(WORDS)],
        _event({}, "stop"),
        *(counts if with_usage else []),
        b"data: [DONE]\n\n",
    ]


PLAIN = _plain()
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nx-request-id: req_bench\r\n%s\r\n\r\n"
_WHOLE = _HEAD % (b"application/json", b"Content-Length: %d" % len(PLAIN)) + PLAIN
_STREAM_HEAD = _HEAD % (b"text/event-stream; charset=utf-8", b"Transfer-Encoding: chunked")


def _chunked(sent: list[bytes]) -> list[bytes]:
    pieces = [b"%x\r\n%s\r\n" % (len(event), event) for event in sent]
    return [_STREAM_HEAD + pieces[0], *pieces[1:-1], pieces[-1] + b"0\r\n\r\n"]


_STREAMS = {asks: _chunked(events(with_usage=asks)) for asks in (False, True)}


class Model(asyncio.Protocol):
    """One kept-alive connection of the server."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) < end + 4 + length:
            return
        body, self._received = self._received[end + 4 :], b""
        if b'"stream":true' in body or b'"stream": true' in body:
            self._next(_STREAMS[b'"include_usage":true' in body], 0)
        else:
            self._write(_WHOLE)

    def _next(self, pieces: list[bytes], at: int) -> None:
        self._write(pieces[at])
        if at + 1 < len(pieces):
            # In an iteration of its own: what is written in one leaves as one packet.
            asyncio.get_running_loop().call_soon(self._next, pieces, at + 1)

    def _write(self, piece: bytes) -> None:
        if self._transport is not None:
            self._transport.write(piece)


async def serve(port: int) -> None:
    """Answer on 127.0.0.1 until cancelled."""
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
