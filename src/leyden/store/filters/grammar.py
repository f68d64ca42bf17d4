"""The filter language as text: `agent:router status:error cost>0.01 "connection refused" since:7d`.

Owns the grammar and the tree that a text stands for. Promises: `parse(text_of(tree)) == tree`; whatever the text, the only
error is BadInput, which names the column and points at it. Refuses to know: which fields there are, their types, SQL.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from leyden.errors import BadInput

MAX_BYTES = 4096
MAX_TERMS = 100
MAX_VALUES = 200
MAX_DEPTH = 20
_SHOWN = 70

Operator = Literal[":", "!=", ">", ">=", "<", "<="]

_GRAMMAR = r"""
?start: any | -> nothing
?any: all (_OR all)*
?all: one (_AND? one)*
?one: _MINUS one -> without
    | "(" any ")"
    | FIELD value (_COMMA value)* -> term
    | (WORD | QUOTED) -> words
value: BARE | QUOTED

_OR.4: /OR(?![^\s()"])/
_AND.4: /AND(?![^\s()"])/
_MINUS.4: /-(?=\S)/
_COMMA.4: ","
FIELD.3: /[^\s"()<>=!:,\-][^\s"()<>=!:,]*(?:!=|>=|<=|[:=<>])/
QUOTED.3: /"(?:[^"\\]|\\.)*"/s
BARE: /[^\s"(),]+/
WORD: /(?!(?:OR|AND)(?![^\s()"]))(?:[^\s"(),\-]|-(?=\s|$))[^\s"()]*/
%ignore /\s+/
"""


@dataclass(frozen=True)
class Value:
    """What a field is compared with, as written; quoted text is never a pattern, a range or a number with a unit."""

    text: str
    quoted: bool = False
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Words:
    """Text to be found anywhere: one bare word, or a phrase in quotes."""

    text: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Term:
    """`name operator values`. `name` is in lower case but for what follows its first dot. Only ":" and "!=" take several values."""

    name: str
    operator: Operator
    values: tuple[Value, ...]
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """What does not match `item`."""

    item: "Tree"


@dataclass(frozen=True)
class And:
    """What matches every item; none: everything. Items are never And themselves."""

    items: tuple["Tree", ...] = ()


@dataclass(frozen=True)
class Or:
    """What matches at least one of two or more items. Items are never Or themselves."""

    items: tuple["Tree", ...]


Tree = Words | Term | Not | And | Or


def all_of(items: Sequence[Tree]) -> Tree:
    """Items joined by and, in the one form that a tree has."""
    flat = [each for item in items for each in (item.items if isinstance(item, And) else (item,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(items: Sequence[Tree]) -> Tree:
    """One or more items joined by or, in the one form that a tree has."""
    flat = [each for item in items for each in (item.items if isinstance(item, Or) else (item,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def parse(text: str) -> Tree:
    """The tree of a filter; an empty one matches everything. Raises BadInput that points at the column."""
    _check(text)
    try:
        tree = cast(Tree, _parser().parse(text))  # pyright: ignore[reportUnknownMemberType]
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    _check_size(tree, text)
    return tree


def complaint(what: str, text: str, column: int, advice: str = "") -> BadInput:
    """The error for a place in a filter: `what at column 12; advice`, and as hint the text with a caret under it."""
    start = max(0, column - 1 - _SHOWN // 2) if len(text) > _SHOWN else 0
    shown = re.sub(r"\s", " ", text[start : start + _SHOWN])
    return BadInput(
        f"{what} at column {column}{f'; {advice}' if advice else ''}",
        hint=f"{shown}\n{' ' * (column - 1 - start)}^",
    )


def walk(tree: Tree) -> Iterator[Tree]:
    """Every node, parents first, in the order of the text."""
    yield tree
    for item in children(tree):
        yield from walk(item)


def children(tree: Tree) -> tuple[Tree, ...]:
    """The parts of a node."""
    if isinstance(tree, Not):
        return (tree.item,)
    return tree.items if isinstance(tree, And | Or) else ()


# ── Tree to text ─────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(tree: Tree) -> str:
    """A filter that parses to this tree."""
    match tree:
        case Words(text):
            return text if _is_bare_word(text) else quoted(text)
        case Term(name, operator, values):
            return f"{name}{operator}{','.join(quoted(v.text) if v.quoted else v.text for v in values)}"
        case Not(item):
            return f"-{_inner(item)}"
        case And(items):
            return " ".join(_inner(item) for item in items)
        case Or(items):
            return " OR ".join(_inner(item) if isinstance(item, Or) else text_of(item) for item in items)


def _inner(tree: Tree) -> str:
    return f"({text_of(tree)})" if isinstance(tree, And | Or) else text_of(tree)


def quoted(text: str) -> str:
    """Text in quotes, as a filter holds it."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _is_bare_word(text: str) -> bool:
    return text not in ("OR", "AND") and re.fullmatch(r"[^\s\"()<>=!:,\-][^\s\"()<>=!:,]*", text) is not None


# ── Text to tree ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Build(Transformer[Token, Tree]):
    def nothing(self, _: list[Any]) -> Tree:
        return And()

    def any(self, items: list[Any]) -> Tree:
        return any_of(items)

    def all(self, items: list[Any]) -> Tree:
        return all_of(items)

    def without(self, items: list[Any]) -> Tree:
        return Not(items[0])

    def words(self, items: list[Any]) -> Tree:
        return Words(_plain(items[0]), _column(items[0]))

    def value(self, items: list[Any]) -> Value:
        return Value(_plain(items[0]), items[0].type == "QUOTED", _column(items[0]))

    def term(self, items: list[Any]) -> Tree:
        head, *values = items
        found = re.search(r"(!=|>=|<=|[:=<>])$", head)
        operator: Any = found[0] if found else ":"
        name = str(head)[: -len(operator)]
        first, dot, rest = name.partition(".")
        # `span.` is followed by a field's name, which has no case either.
        rest = rest.lower() if first.lower() == "span" else rest
        return Term(
            f"{first.lower()}{dot}{rest}", ":" if operator == "=" else operator, tuple(values), _column(head)
        )


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _plain(token: Token) -> str:
    return re.sub(r'\\(["\\])', r"\1", token[1:-1]) if token.type == "QUOTED" else str(token)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Build())


def _check(text: str) -> None:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise BadInput(
            f"A filter of {len(text)} characters is too long", hint=f"it may have {MAX_BYTES} bytes"
        )
    odd = re.search("[\0\ud800-\udfff]", text)
    if odd:
        raise complaint("a character that no text holds", text.replace("\0", " "), odd.start() + 1)


def _check_size(tree: Tree, text: str) -> None:
    open_, terms, values = [(tree, 1)], 0, 0
    while open_:
        node, depth = open_.pop()
        if depth > MAX_DEPTH:
            raise BadInput(f"A filter may be nested {MAX_DEPTH} deep; this one is nested deeper")
        terms += isinstance(node, Term | Words)
        values += len(node.values) if isinstance(node, Term) else 0
        open_ += [(item, depth + 1) for item in children(node)]
    if terms > MAX_TERMS or values > MAX_VALUES:
        raise BadInput(
            f"A filter may have {MAX_TERMS} terms and {MAX_VALUES} values; this one has {terms} and {values}"
        )


def _explained(error: UnexpectedInput, text: str) -> BadInput:
    at = error.pos_in_stream
    found: str = cast(Any, error).token.type if isinstance(error, UnexpectedToken) else ""
    if found == "$END" or at is None:
        at = len(text)
    if isinstance(error, UnexpectedCharacters) and text[at] == '"':
        return complaint("a quote that is never closed", text, at + 1)
    before = text[:at].rstrip()
    if before and before[-1] in ":=<>,":
        return complaint("a value is missing", text, at + 1, 'for example status:error or name:"two words"')
    if found == "$END" and (opened := _unclosed(text)) is not None:
        return complaint("a parenthesis that is never closed", text, opened + 1)
    if text[at : at + 1] == ")":
        what = "nothing to close" if _unclosed(before) is None else "nothing in parentheses"
        return complaint(what, text, at + 1)
    if text[at : at + 1] == ",":
        return complaint("a list that belongs to no field", text, at + 1)
    return complaint(
        "a term is missing", text, at + 1, 'OR and AND stand between two terms; as a word, write "OR"'
    )


def _unclosed(text: str) -> int | None:
    """Where the innermost parenthesis stands that is open at the end of the text."""
    open_: list[int] = []
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[()]', text, re.S):
        if match[0] == "(":
            open_.append(match.start())
        elif match[0] == ")" and open_:
            open_.pop()
    return open_[-1] if open_ else None
