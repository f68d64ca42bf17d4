"""What requests and answers of model calls say, whatever the protocol: the shape that the protocol modules read into. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from leyden.ingest.usage import Usage


class Asked(NamedTuple):
    """What a request asks for.

    messages and system are in the form of `gen_ai.input.messages` and `gen_ai.system_instructions`; tools in that of
    `gen_ai.tool.definitions`. prompt is the same conversation as OpenAI chat messages ({role, content, tool_calls?, tool_call_id?}),
    which Agent Lightning's adapters read. parameters are `gen_ai.request.*` by their last part: temperature, top_p, max_tokens, seed, …
    session: an id of the conversation that the request itself names (metadata.user_id, user, previous_response_id), or None.
    """

    messages: list[dict[str, Any]]
    system: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    prompt: list[dict[str, Any]]
    parameters: dict[str, Any]
    session: str | None


class Said(NamedTuple):
    """What an answer says. messages are `gen_ai.output.messages`; completion the same as OpenAI chat messages with `finish_reason`.

    usage None: the answer counts no tokens. token ids and logprobs are those of the first choice; None when the upstream gave none.
    logprobs is the list `logprobs.content` of the OpenAI API. error: type and message when the answer is an error.
    """

    id: str | None
    model: str | None
    finish_reasons: tuple[str, ...]
    usage: Usage | None
    messages: list[dict[str, Any]]
    completion: list[dict[str, Any]]
    service_tier: str | None = None
    prompt_token_ids: list[int] | None = None
    response_token_ids: list[int] | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: tuple[str, str] | None = None


class Assembler(Protocol):
    """Puts a stream of server-sent events together into the body that the same request without `stream` would have had.

    Fed the decoded (not compressed) bytes in pieces of any size: the result never depends on where they were cut. Never raises on
    what an upstream sends: what does not parse is counted in `broken` and left out.
    """

    broken: int
    is_complete: bool
    """Whether the event that ends a stream of this protocol was seen."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        ...

    def skip(self) -> None:
        """Bytes are missing here: what is fed next is read from its first whole event on."""
        ...

    def end(self) -> None:
        """Nothing comes any more."""
        ...

    def body(self) -> dict[str, Any]:
        """The answer so far, as one body."""
        ...


class Wire(Protocol):
    """One protocol: how its requests, answers and streams read."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says; lenient: a part of a wrong shape is left out."""
        ...

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer, whole or assembled, says; lenient too."""
        ...

    def assembler(self) -> Assembler:
        """For one stream."""
        ...
