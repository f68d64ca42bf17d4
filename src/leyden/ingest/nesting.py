"""How deep a JSON text nests, found before anything parses it."""

import re

from leyden.errors import TooLarge

_BRACKETS = bytes.maketrans(b"{}[]", b"()()")
_REST = bytes(set(range(256)) - set(b'{}[]"'))
_STRING = re.compile(rb'"[^"]*"?')


def is_deeper(text: bytes, than: int) -> bool:
    """Whether a JSON text nests objects and arrays deeper than `than` levels; for text that is no JSON, whether a parser might.

    Works by deletion, one fast pass each: escapes, everything but brackets and quotes, strings, then level after level of
    empty brackets. Time is linear in the text for a given `than`.
    """
    if text.count(b"{") + text.count(b"[") <= than:
        return False
    brackets = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_BRACKETS, _REST)
    # Removing `""` may join two neighbouring strings; what they hold is deleted either way.
    brackets = _STRING.sub(b"", brackets.replace(b'""', b""))
    for level in range(than):
        shorter = brackets.replace(b"()", b"")
        if len(shorter) == len(brackets):
            return level + brackets.count(b"(") > than
        brackets = shorter
    return b"(" in brackets


def refuse_deeper(text: bytes, than: int) -> None:
    """Raises TooLarge when a JSON text nests deeper than `than` levels."""
    if is_deeper(text, than):
        raise TooLarge(
            f"The JSON nests deeper than the {than} levels that are accepted.",
            hint="Flatten it, or raise LEYDEN_MAX_DEPTH.",
        )
