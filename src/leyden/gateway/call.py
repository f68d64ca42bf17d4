"""One model call on its way through: the nouns that doors, upstreams and the recording hand each other. No I/O."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Door = Literal[
    "chat", "completions", "responses", "embeddings", "messages", "count_tokens", "models", "other"
]
"""Which surface the client speaks: OpenAI's chat completions, legacy completions, Responses and embeddings, Anthropic's
messages and token counting, the list of models, which both have, and the rest of both APIs, which passes as it is."""

Family = Literal["openai", "anthropic"]
"""Whose errors and headers a client expects."""

Outcome = Literal["ok", "error", "cancelled", "timeout", "unreachable", "broken", "refused"]
"""How a call ended: answered with success; answered with an error by the upstream; the client left; no answer in time; no
connection to any upstream; the answer stopped in the middle or was no HTTP; turned away by us."""


class Identity(NamedTuple):
    """Whose call it is. rollout_id and attempt_id are both set or both None; then the call joins its session's rollout.

    parent_id: the span that made the call (W3C traceparent). source says where the identity was found: "path", "header", "key",
    "session", "traceparent" or "none".
    """

    project: str
    rollout_id: str | None
    attempt_id: str | None
    trace_id: str | None
    parent_id: str | None
    session: str | None
    source: str
    mode: str | None = None


@dataclass(slots=True)
class Call:
    """One request as it came in."""

    door: Door
    family: Family
    identity: Identity
    method: str
    path: str  # below /v1, with its slash: "/chat/completions"
    query: bytes
    headers: list[tuple[bytes, bytes]]  # as they came, lower-case names
    body: bytes
    asked: dict[str, Any]  # the body as JSON; {} for a GET
    model: str
    is_stream: bool
    began_ns: int
    key_id: str | None = None
    changed: dict[str, Any] = field(
        default_factory=dict[str, Any]
    )  # what we set differently from what was asked


class Terms(NamedTuple):
    """What the configuration says of a call's record, as it was when the call was let in. kind: of the upstream that answered, "" for none;
    price_provider: whose prices it has; max_bytes: of a text that is kept. Without a configuration nothing that was said is kept."""

    kind: str = ""
    price_provider: str | None = None
    with_content: bool = False
    max_bytes: int = 0


@dataclass(slots=True)
class Exchange:
    """What became of a call: everything the recording needs, and nothing that is still open.

    body holds the answer's bytes as the upstream sent them (still encoded as `encoding` says). Of a long one (is_cut) they are its beginning,
    and tail is its end.
    """

    call: Call
    outcome: Outcome
    status: int  # the HTTP status that the client got, 0 for none
    upstream: str | None
    upstream_family: Family
    upstream_door: Door
    upstream_model: str | None
    tries: int
    body: list[bytes]
    encoding: str
    is_cut: bool
    first_byte_ns: int | None
    ended_ns: int
    error: str | None = None
    request_id: str | None = None  # what the answer's headers call it: the upstream's name for it, mostly
    policy_version: str | None = None
    terms: Terms | None = None
    tail: bytes = b""
    resources: dict[str, str] = field(
        default_factory=dict[str, str]
    )  # deployment, resources_id, version that served it
