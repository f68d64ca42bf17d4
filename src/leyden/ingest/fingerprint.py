"""Which errors are the same error, and which calls the same call.

Two messages that differ only in numbers, ids, paths, times or quoted text share a template; names of tools, functions and
fields stay, because they tell one cause from another.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from leyden.ingest.text import as_json

_READ_CHARS = 1000
_TEMPLATE_CHARS = 300
_TEMPLATE_LINES = 3

# Without spaces for this long it is data, not words; replacing it first also keeps the rules below linear.
_LONG_WORD = re.compile(r"\S{160,}")

# Applied in this order: what holds other things first.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), placeholder)
    for pattern, placeholder in (
        (r"\b[a-z][a-z0-9+.-]{1,15}://[^\s'\"<>)]+", "<url>"),
        (r"[\w.+-]+@[\w-]+\.[\w.-]+", "<email>"),
        # A quote inside a word is an apostrophe, not the start of quoted text.
        (r"(?<!\w)'[^'\n]{0,500}'(?!\w)", "<str>"),
        (r'(?<!\w)"[^"\n]{0,500}"(?!\w)', "<str>"),
        (r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][\w.@+~-]+){2,}[/\\]?", "<path>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
        (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", "<time>"),
        (r"\b\d\d?:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        (r"\b0[xX][0-9a-fA-F]+\b", "<id>"),
        (r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b|\b(?=[A-F]*\d)[0-9A-F]{8,}\b", "<id>"),
        (r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:ms|us|ns|s|m|h|d|k|[KMG]i?B|%)?(?!\w)", "<n>"),
        (r"#?\b(?=[A-Za-z_]*\d)(?=\d*_*[A-Za-z])\w*\d\w*\d\w*\d\w*\b", "<id>"),
    )
)
_OBJECT = re.compile(r"\{[^{}]*\}")
_LIST = re.compile(r"\[[^\[\]]*(?:,|<str>)[^\[\]]*\]")
_DEEPEST_LITERAL = 4


def template(message: str) -> str:
    """An error message with placeholders for what varies between occurrences; at most 300 characters.

    Reads the first three lines, and of a Python traceback the last: that is where its error stands.
    """
    lines = [line.strip() for line in message[:_READ_CHARS].splitlines() if line.strip()]
    if message.lstrip().startswith("Traceback"):
        lines = [line.strip() for line in message[-_READ_CHARS:].splitlines() if line.strip()][-1:]
    text = _LONG_WORD.sub("<text>", " ".join(" ".join(lines[:_TEMPLATE_LINES]).split()))
    for pattern, placeholder in _RULES:
        text = pattern.sub(placeholder, text)
    for _ in range(_DEEPEST_LITERAL):
        text = _LIST.sub("<list>", _OBJECT.sub("<object>", text))
    return text[:_TEMPLATE_CHARS]


@lru_cache(maxsize=1024)
def error_fingerprint(subject: str, error_type: str | None, message: str | None) -> str:
    """16 hex digits that equal errors share: of the tool (or span name), the error's class and its message's template.

    A class counts by its last name, since one instrumentation says `openai.RateLimitError` and another `RateLimitError`.
    """
    kind = (error_type or "").rpartition(".")[2]
    return _hash(subject, kind, template(message or ""))


def call_hash(tool: str, arguments: Any) -> str:
    """16 hex digits that equal calls share: of the tool and its arguments with sorted keys.

    Arguments may be a JSON text or the value itself; text that is no JSON counts as it stands.
    """
    return _hash(tool, canonical(arguments))


def canonical(arguments: Any) -> str:
    """Arguments as one JSON text whatever order, spacing or encoding they came in."""
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return arguments.strip()
    try:
        return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return as_json(arguments)


def _hash(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()
