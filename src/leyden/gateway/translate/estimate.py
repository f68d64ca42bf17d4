"""How many tokens a request may be, where nobody counts them exactly."""

from typing import Any

from leyden.gateway.translate.fields import plain_json
from leyden.ingest.shapes import is_list, is_object, list_or_empty

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4
"""Of the marks around each message."""
IMAGE_TOKENS = 1600
"""Of an image or document: about what a picture of 1.2 megapixels costs at Anthropic."""

_READ = ("system", "messages", "tools")
_PICTURES = ("image", "image_url", "document", "file")
_UNREAD = ("type", "role", "id", "signature", "cache_control")


def estimate_tokens(body: dict[str, Any]) -> int:
    """Input tokens of a request in either protocol, roughly: a token for each 4 bytes of what the model reads. At least 1."""
    marks = MESSAGE_TOKENS * len(list_or_empty(body.get("messages")))
    return max(1, marks + round(sum(_tokens(body.get(key)) for key in _READ)))


def _tokens(value: Any) -> float:
    if isinstance(value, str):
        return len(value.encode(errors="replace")) / BYTES_PER_TOKEN
    if is_list(value):
        return sum(map(_tokens, value))
    if not is_object(value):
        return 0
    if value.get("type") in _PICTURES:
        return IMAGE_TOKENS
    if "input_schema" in value or "parameters" in value or value.get("type") == "tool_use":
        return len(plain_json(value)) / BYTES_PER_TOKEN
    return sum(_tokens(item) for key, item in value.items() if key not in _UNREAD)
