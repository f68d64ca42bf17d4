"""The head of an answer as the client gets it: the upstream's headers but for what is not true any more, and a few of ours. Pure."""

import re
from uuid import uuid4

from leyden.gateway.call import Call
from leyden.gateway.upstreams import Reached

Headers = list[tuple[bytes, bytes]]

_REQUEST_ID = {"openai": b"x-request-id", "anthropic": b"request-id"}
_LONGEST_ID = 256
# In a header's value; HTTP clients read what no server may write.
_UNSENDABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def head_of(
    call: Call,
    reached: Reached,
    *,
    changes: bool,
    is_translated: bool,
    length: int | None,
    request_id: str | None,
) -> Headers:
    """The headers of an answer. changes: whether its body differs from the upstream's. length: of a body that goes out whole, in bytes."""
    # The server that serves the client says the date itself. A stream may end with an event of ours, beyond any length that was said.
    dropped = {b"date"}
    if length is None and call.is_stream:
        dropped.add(b"content-length")
    if changes:
        dropped |= {b"content-length", b"content-encoding"}
    if is_translated:
        dropped.add(b"content-type")
    headers = [(name, value) for name, value in reached.headers if name not in dropped]
    if _UNSENDABLE.search(b"".join([value for _, value in headers])):
        headers = [(name, value) for name, value in headers if not _UNSENDABLE.search(value)]
    if changes and length is not None:
        headers.append((b"content-length", str(length).encode()))
    if is_translated:
        headers.append((b"content-type", b"text/event-stream" if length is None else b"application/json"))
    if call.family == "anthropic" and not header_of(reached, b"request-id"):
        headers.append((b"request-id", (request_id or "").encode()))
    return headers + _about(call, reached)


def request_id_of(call: Call, reached: Reached) -> str | None:
    """What the answer is called in its headers. Anthropic's clients get a name in any case: their telemetry tells calls apart by it."""
    said = header_of(reached, _REQUEST_ID[call.family])
    if said:
        return said[:_LONGEST_ID]
    return f"req_{uuid4().hex[:24]}" if call.family == "anthropic" else None


def encoding_of(reached: Reached) -> str:
    """How the body is encoded; "" when it is not."""
    found = header_of(reached, b"content-encoding")
    return "" if found.strip().lower() == "identity" else found


def header_of(reached: Reached, wanted: bytes) -> str:
    """A header of the upstream's answer, by lower-case name; "" when it is not there."""
    return next((value.decode("latin-1") for name, value in reached.headers if name == wanted), "")


def _about(call: Call, reached: Reached) -> Headers:
    """What the client may want to know of us, in headers of our own."""
    found = [
        (b"x-leyden-upstream", reached.target.upstream.encode("latin-1", "replace")),
        (b"x-leyden-tries", str(reached.tries).encode()),
    ]
    if call.identity.rollout_id is not None:
        found.append((b"x-leyden-rollout", call.identity.rollout_id.encode("latin-1", "replace")))
    return found
