"""The words of a text: what full-text search compares, alike on every database and in the text itself.

A word is a run of letters and digits, in lower case and without diacritics: `Zürich` is `zurich`, `ﬁx` is `fix`. Numbers are
words. Everything else parts words, also the underscore: `connection_refused` is two words, so each of them finds it. Scripts
written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and pictographs stand as words of one character.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# A word is compared by its beginning: longer ones are hashes and encoded bytes, which nobody types whole.
LONGEST = 64

_ALONE = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
_PICTOGRAPHS_FROM = 0x2600
# Accents, and the points that Hebrew and Arabic leave out as often as not; the vowels of other scripts are marks too, but matter.
_DROPPED = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
    "\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f\u00ad\u200b-\u200d\u2060\ufeff]"
)
_CHUNK = re.compile(r"\S+")
_TOO_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")


class Word(NamedTuple):
    """A word and where it stands in the text: from `start` up to `end`."""

    word: str
    start: int
    end: int


class _Folding(dict[int, str]):
    """What each character becomes; worked out once for each that occurs."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold(chr(code))
        return folded


def _fold(char: str) -> str:
    if _DROPPED.match(char):
        return ""
    return "".join(map(_fold_plain, unicodedata.normalize("NFKC", char.casefold()).casefold()))


def _fold_plain(char: str) -> str:
    code = ord(char)
    if _DROPPED.match(char):
        return ""
    if any(low <= code <= high for low, high in _ALONE):
        # Kana are normalised whole: taken apart, a sound mark would be lost.
        return f" {char} " if unicodedata.category(char)[0] in "LMN" else " "
    if 0xAC00 <= code <= 0xD7A3:
        return char
    kept = _DROPPED.sub("", unicodedata.normalize("NFD", char))
    return "".join(map(_letter_or_space, kept))


def _letter_or_space(char: str) -> str:
    kind = unicodedata.category(char)
    if kind[0] in "LMN":
        return char
    return f" {char} " if kind == "So" and ord(char) >= _PICTOGRAPHS_FROM else " "


_FOLDING = _Folding()


def normalise(text: str) -> str:
    """The words of a text in order, with one space between them; "" when it has none."""
    found = " ".join(text.translate(_FOLDING).split())
    return _TOO_LONG.sub(lambda match: match[0][:LONGEST], found) if len(found) > LONGEST else found


def located(text: str) -> Iterator[Word]:
    """The same words, each with its place in the text, as they are found."""
    for chunk in _CHUNK.finditer(text):
        said, start = chunk[0], chunk.start()
        if said.isascii() and said.isalnum():
            yield Word(said.lower()[:LONGEST], start, chunk.end())
        else:
            yield from _in_chunk(said, start)


def _in_chunk(chunk: str, offset: int) -> Iterator[Word]:
    word, start, end = "", 0, 0
    for i, char in enumerate(chunk, offset):
        # Pieces by space: the first goes on with the word at hand, each later one begins a new word.
        for n, piece in enumerate(_FOLDING[ord(char)].split(" ")):
            if n and word:
                yield Word(word[:LONGEST], start, end)
                word = ""
            if piece:
                start = start if word else i
                word, end = word + piece, i + 1
    if word:
        yield Word(word[:LONGEST], start, end)
