"""Which protocol is spoken at which door."""

from collections.abc import Mapping
from typing import Any

from leyden.gateway.anthropic import CountTokens, Messages
from leyden.gateway.call import Door
from leyden.gateway.error_bodies import only_error
from leyden.gateway.openai import Chat, Completions, Embeddings
from leyden.gateway.openai_stream import ChunkAssembler
from leyden.gateway.reading import Asked, Assembler, Said, Wire
from leyden.gateway.responses import Responses
from leyden.gateway.surfaces import Other


class Models:
    """The list of models: nothing is asked, and nothing is said but an error."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """Nothing."""
        return Asked([], [], [], [], {}, None)

    def said(self, body: Mapping[str, Any]) -> Said:
        """Nothing, or an error."""
        return only_error(body)

    def assembler(self) -> Assembler:
        """For a stream, which nobody sends."""
        return ChunkAssembler(is_chat=False)


WIRES: dict[Door, Wire] = {
    "chat": Chat(),
    "completions": Completions(),
    "responses": Responses(),
    "embeddings": Embeddings(),
    "messages": Messages(),
    "count_tokens": CountTokens(),
    "models": Models(),
    "other": Other(),
}


def wire_of(door: Door) -> Wire:
    """The protocol at a door."""
    return WIRES[door]
