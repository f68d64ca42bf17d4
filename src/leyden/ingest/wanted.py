"""What a person looks for: the query they typed, whether a text holds it, and where.

    refund approved        both words, in any order
    "refund was approved"  these words in a row
    refun*                 a word that begins so; also at the end of a phrase
    refund OR chargeback   one of them
    -"test order"          and not that

Case and diacritics do not matter. What parts words in a text (`words.py`) parts them here too, so `connection_refused` and
`customer-42` are phrases, and nothing that is typed is an operator but the five above. All of it must hold in one text.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from leyden.errors import BadInput
from leyden.ingest.words import Word, located, normalise

LONGEST_QUERY = 1000
MOST_WORDS = 64
SHORTEST_PREFIX = 2
SNIPPET_CHARS = 240
_BEFORE = 60  # characters shown before the first match
_LOOKED_AT = 64  # matches compared to find the part of a long text that shows most
_PART_CHARS = 1000  # a long text is looked through in parts of about that
_WORD_CHARS = 100  # no word that is worth keeping whole is longer

_TOKEN = re.compile(r'(-?)"([^"]*)(?:"|$)(\*?)|(\S+)')
_SPACES = re.compile(r"\s+")


class Term(NamedTuple):
    """Words in a row. prefix: the last of them is only the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def needle(self) -> str:
        """The term as it stands in a normalised text with a space on either side."""
        return f" {' '.join(self.words)}{'' if self.prefix else ' '}"

    def begins_at(self, words: Sequence[Word], at: int) -> bool:
        """Whether the term stands in `words` from `at` on."""
        said = [word.word for word in words[at : at + len(self.words)]]
        if self.prefix and len(said) == len(self.words):
            said[-1] = said[-1][: len(self.words[-1])]
        return tuple(said) == self.words


class Piece(NamedTuple):
    """A part of a snippet; `match` when it is what was looked for."""

    text: str
    match: bool


class Wanted(NamedTuple):
    """A query: of each tuple in `clauses` one term must hold, and none of `without`."""

    clauses: tuple[tuple[Term, ...], ...]
    without: tuple[Term, ...] = ()

    def holds(self, text: str) -> bool:
        """Whether a text is one that is looked for."""
        said = f" {normalise(text)} "
        return all(any(term.needle in said for term in clause) for clause in self.clauses) and not any(
            term.needle in said for term in self.without
        )

    def snippet(self, text: str) -> list[Piece]:
        """The part of a text that shows most of what was looked for, on one line; "…" where it was cut."""
        start, end = self._window(text)
        shown = _SPACES.sub(" ", text[start:end]).strip()
        shown = f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"
        return list(_pieces(shown, [place for place, _ in self._places(shown)]))

    def _window(self, text: str) -> tuple[int, int]:
        """From where to where a snippet goes."""
        if len(text) <= SNIPPET_CHARS:
            return 0, len(text)
        offset, part = self._best_part(text)
        first = list(islice(self._places(part), _LOOKED_AT))
        starts = [start for (start, _), _ in first] or [0]
        reach = SNIPPET_CHARS - _BEFORE
        best = offset + max(
            starts, key=lambda s: len({term for (a, b), term in first if a >= s and b <= s + reach})
        )
        start = max(0, best - _BEFORE)
        if start:  # at a word's beginning
            start = next((space.end() for space in _SPACES.finditer(text, start, best)), best)
        end = min(len(text), start + SNIPPET_CHARS)
        if end < len(text):
            space = max(text.rfind(" ", best, end), text.rfind("\n", best, end))
            end = space if space > best + reach // 2 else end
        return start, end

    def _best_part(self, text: str) -> tuple[int, str]:
        """The first part of a long text with the most terms in it, and where it begins.

        Looking for words costs a microsecond each, normalising a whole part no more than that.
        """
        needles = {term.needle for clause in self.clauses for term in clause}
        best, most = (0, text[:_PART_CHARS]), 0
        for start, end in _parts(text):
            said = f" {normalise(text[start:end])} "
            held = sum(needle in said for needle in needles)
            if held > most:
                best, most = (start, text[start:end]), held
                if held == len(self.clauses):
                    break
        return best

    def _places(self, text: str) -> Iterator[tuple[tuple[int, int], Term]]:
        """Where the terms stand, in order and never over one another."""
        terms = [term for clause in self.clauses for term in clause]
        longest = max(len(term.words) for term in terms)
        firsts = {term.words[:1] for term in terms if len(term.words) > 1 or not term.prefix}
        begins = tuple(term.words[0] for term in terms if len(term.words) == 1 and term.prefix)
        ahead: list[Word] = []
        coming = located(text)
        while True:
            while len(ahead) < longest and (word := next(coming, None)) is not None:
                ahead.append(word)
            if not ahead:
                return
            said, taken = ahead[0].word, 1
            if (said,) in firsts or (begins and said.startswith(begins)):
                term = max(
                    (t for t in terms if t.begins_at(ahead, 0)), key=lambda t: len(t.words), default=None
                )
                if term is not None:
                    taken = len(term.words)
                    yield (ahead[0].start, ahead[taken - 1].end), term
            del ahead[:taken]


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Parts of a text that overlap by half, so that no phrase falls between two; cut between words where that can be had."""
    for at in range(0, len(text), _PART_CHARS // 2):
        space = _SPACES.search(text, at, at + _WORD_CHARS) if at else None
        until = at + _PART_CHARS
        last = _SPACES.search(text, until, until + _WORD_CHARS)
        yield (space.end() if space else at), min(len(text), last.start() if last else until)


def _pieces(text: str, places: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    at = 0
    for start, end in places:
        if start > at:
            yield Piece(text[at:start], False)
        yield Piece(text[max(start, at) : end], True)
        at = end
    if at < len(text):
        yield Piece(text[at:], False)


def parse(query: str) -> Wanted:
    """What a person typed, understood. Raises BadInput when there is nothing in it to look for, or too much."""
    if len(query) > LONGEST_QUERY:
        raise BadInput(
            f"A query of {len(query)} characters is too long", hint=f"at most {LONGEST_QUERY} are looked for"
        )
    clauses: list[list[Term]] = []
    without: list[Term] = []
    either = False
    for minus, term in _terms(query):
        if term is None:
            either = bool(clauses)
        elif minus:
            without.append(term)
        elif either:
            clauses[-1].append(term)
            either = False
        else:
            clauses.append([term])
    return _checked(Wanted(tuple(map(tuple, clauses)), tuple(without)), query)


def _terms(query: str) -> Iterator[tuple[bool, Term | None]]:
    """Each term and whether it is unwanted; None for the word OR between two."""
    for match in _TOKEN.finditer(query):
        minus, quoted, star, bare = match.groups()
        if bare == "OR":
            yield False, None
            continue
        if bare == "AND":
            continue
        if bare is not None:
            minus = "-" if bare.startswith("-") else ""
            star = "*" if bare.endswith("*") else ""
        words = tuple(normalise(quoted if bare is None else bare).split())
        if words:
            yield bool(minus), Term(words, bool(star))


def _checked(wanted: Wanted, query: str) -> Wanted:
    if not wanted.clauses:
        what = "only says what not to find" if wanted.without else "has no word to look for"
        raise BadInput(
            f"The query {query!r} {what}", hint='write a word, a "phrase" or the beginning of a word*'
        )
    terms = [*(term for clause in wanted.clauses for term in clause), *wanted.without]
    if sum(len(term.words) for term in terms) > MOST_WORDS:
        raise BadInput(f"The query has more than {MOST_WORDS} words", hint="leave some of them out")
    short = next(
        (t for t in terms if t.prefix and len(t.words[-1]) < SHORTEST_PREFIX and t.words[-1].isascii()), None
    )
    if short is not None:
        raise BadInput(
            f"{short.words[-1]}* would find nearly every text", hint="give the first two letters or more"
        )
    return wanted
