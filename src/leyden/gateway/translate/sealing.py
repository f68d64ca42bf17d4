"""Anthropic's thinking on its way through a client of OpenAI's Responses, which keeps `encrypted_content` without reading it.

The blocks are encoded, not encrypted: with their signature, without which Anthropic takes none back, and under a mark, because what other
providers put there must not reach it.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Any

from leyden.gateway.decoding import read_json
from leyden.gateway.translate.fields import plain_json
from leyden.ingest.shapes import is_object, list_or_empty

THOUGHTS = ("thinking", "redacted_thinking")
"""The types of the blocks."""
THOUGHTS_FIELD = "leyden_thinking"
"""Of a chat chunk on its way from Messages to Responses: such blocks as a whole. No upstream sends it."""

_MARK = "leyden.thinking."


def seals(asked: dict[str, Any]) -> bool:
    """Whether the client keeps reasoning that it cannot read and sends it back."""
    return "reasoning.encrypted_content" in list_or_empty(asked.get("include"))


def sealed(blocks: list[dict[str, Any]]) -> str:
    """The blocks as `encrypted_content`."""
    return _MARK + b64encode(plain_json(blocks).encode("utf-8", "surrogatepass")).decode()


def unsealed(encrypted_content: Any) -> list[dict[str, Any]]:
    """The blocks again; [] for what was not sealed here, such as the reasoning of OpenAI's models."""
    if not isinstance(encrypted_content, str) or not encrypted_content.startswith(_MARK):
        return []
    try:
        blocks = read_json(b64decode(encrypted_content.removeprefix(_MARK), validate=True))
    except (binascii.Error, ValueError):
        return []
    return [block for block in list_or_empty(blocks) if is_object(block) and block.get("type") in THOUGHTS]
