"""Recorded text made safe to print.

Agents copy web pages and tool output into their spans, and a terminal obeys what it is sent: escape sequences repaint the
screen, direction overrides swap words. Everything recorded passes `one_line`, `inline` or `many_lines`; JSON passes `to_json`.
"""

import json
import re
from typing import Any

import click

# Controls (C0, DEL, C1), line separators, direction overrides, zero-width and tag characters, halves of surrogate pairs.
# The two joiners stay: emoji and several scripts need them.
_HIDDEN = "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f"
_UNSAFE = re.compile(f"[{_HIDDEN}]")
_UNSAFE_IN_BLOCK = re.compile(f"(?![\\n\\t])[{_HIDDEN}]")
_SPACES = re.compile(r"\s+")


def one_line(text: str) -> str:
    """Text on one line: runs of white space become a space, whatever a terminal would obey becomes visible."""
    return _UNSAFE.sub(_visible, _SPACES.sub(" ", text)).strip()


def inline(text: str) -> str:
    """A part of a line, for texts put together of several: like `one_line`, but a space at either end stays."""
    return _UNSAFE.sub(_visible, _SPACES.sub(" ", text))


def many_lines(text: str) -> str:
    """The same, keeping line breaks and tabs."""
    return _UNSAFE_IN_BLOCK.sub(_visible, text.replace("\r\n", "\n"))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"\\u{code:04x}"


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON that keeps every letter readable and escapes what could steer a terminal."""
    return _UNSAFE_IN_BLOCK.sub(_escaped, json.dumps(value, indent=indent, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def print_json(value: Any) -> None:
    """Pure JSON on stdout."""
    click.echo(to_json(value))
