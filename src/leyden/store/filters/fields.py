"""Which fields a filter may name, and what their values mean: a parsed tree becomes a tree of typed tests.

Owns the two tables of fields; `docs/how-to/filter.md` is checked against them. Errors name the column. Refuses to know SQL.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from leyden.store.filters.grammar import And, Not, Or, Term, Tree, Value, Words, complaint
from leyden.store.filters.values import Unit, number, time_ns
from leyden.types import Mode, RolloutStatus, SpanKind

Kind = Literal["text", "choice", "holds", "number", "count", "money", "seconds", "since", "until"]
MAX_STARS = 4

OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": (":", "!="),
    "choice": (":", "!="),
    "holds": (":", "!="),
    **dict.fromkeys(("number", "count", "money", "seconds"), (":", "!=", ">", ">=", "<", "<=")),
    "since": (":",),
    "until": (":",),
}


_EXAMPLES: dict[Kind, str] = {
    "text": "text, `begin*`",
    "choice": "",
    "holds": "text that occurs in it",
    "number": "`0.5`, `0.1..0.5`",
    "count": "`1000`, `1k`, `10..20`",
    "money": "`0.01`, `$2`, `0.1..0.5`",
    "seconds": "`500ms`, `2s`, `5m`, `1h`; seconds without a unit",
    "since": "`7d`, `12h`, `2026-11-01`, `2026-11-01T12:00Z`, unix seconds",
    "until": "as `since`",
}


class Field(NamedTuple):
    """A name that filters know. `per`: how many of the column's unit are one of the filter's (seconds → nanoseconds)."""

    name: str
    kind: Kind
    doc: str
    choices: tuple[str, ...] = ()
    per: int = 1

    @property
    def is_number(self) -> bool:
        """Whether its values are compared by size."""
        return self.kind in ("number", "count", "money", "seconds")

    @property
    def operators(self) -> tuple[str, ...]:
        """What may stand between the name and a value; "=" is ":"."""
        # An attribute, or a field of spans, may be a number as well as a text.
        return OPERATORS["number"] if self.name in ("attr.NAME", "span.FIELD") else OPERATORS[self.kind]

    @property
    def signs(self) -> str:
        """The operators as the documentation shows them."""
        return " ".join(self.operators)

    @property
    def values(self) -> str:
        """Examples of what may follow, for the documentation."""
        if self.name == "span.FIELD":
            return "what that field takes"
        return ", ".join(f"`{choice}`" for choice in self.choices) or _EXAMPLES[self.kind]


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


SPAN_FIELDS = _table(
    Field("kind", "choice", "what the span is", get_args(SpanKind)),
    Field("name", "text", "the span's name"),
    Field("status", "choice", "how it ended", ("unset", "ok", "error")),
    Field("agent", "text", "the agent that did it"),
    Field("tool", "text", "the tool that was called"),
    Field("provider", "text", "who serves the model"),
    Field("model", "text", "the model that answered"),
    Field("session", "text", "the conversation it belongs to"),
    Field("rollout", "text", "the id of its rollout"),
    Field("attempt", "text", "the id of its attempt"),
    Field("trace", "text", "the id of its trace"),
    Field("span", "text", "its own id"),
    Field("parent", "text", "the id of the span above it"),
    Field("error", "text", "the type of its error"),
    Field("message", "holds", "the message of its error"),
    Field("fingerprint", "text", "what equal errors share"),
    Field("dialect", "text", "the convention its attributes follow"),
    Field("input_tokens", "count", "tokens sent, those from a cache included"),
    Field("output_tokens", "count", "tokens received"),
    Field("cache_read_tokens", "count", "tokens read from a cache"),
    Field("tokens", "count", "tokens sent and received"),
    Field("cost", "money", "what it cost, in US dollars"),
    Field("duration", "seconds", "from start to end", per=1_000_000_000),
    Field("ttft", "seconds", "time to the first token", per=1000),
    Field("since", "since", "it started then or later"),
    Field("until", "until", "it started before then"),
    Field("attr.NAME", "text", "an attribute of the span or its resource, compared as text"),
)
ROLLOUT_FIELDS = _table(
    Field("id", "text", "the rollout's id"),
    Field("status", "choice", "where it stands", tuple(status.value for status in RolloutStatus)),
    Field("mode", "choice", "what it was run for", get_args(Mode)),
    Field("agent", "text", "the first agent seen in it"),
    Field("source", "text", "where it came from when nobody named it"),
    Field("resources", "text", "the id of the resources it used"),
    Field("worker", "text", "a worker that ran one of its attempts"),
    Field("input", "holds", "its input as JSON"),
    Field("since", "since", "it started then or later"),
    Field("until", "until", "it started before then"),
    Field("duration", "seconds", "from start to end"),
    Field("attempts", "count", "how often it was tried"),
    Field("reward", "number", "its final reward"),
    Field("score.NAME", "number", "the score of that name given last"),
    Field("spans", "count", "how many spans it has"),
    Field("errors", "count", "how many of them failed"),
    Field("tokens", "count", "tokens its model calls sent and received"),
    Field("cost", "money", "what its model calls cost, in US dollars"),
    Field("span.FIELD", "text", "it has a span for which that field of spans matches"),
)


# ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Is(NamedTuple):
    """Equal to this text; the empty one is equal to null too."""

    text: str


class Like(NamedTuple):
    """Made of these pieces with anything between them: `a*b` is ("a", "b")."""

    pieces: tuple[str, ...]


class Present(NamedTuple):
    """Anything at all. An empty text is nothing."""


class Within(NamedTuple):
    """A number from `low` to `high`, None being open; strict ends are left out."""

    low: int | float | None = None
    high: int | float | None = None
    strict: bool = False


Operand = Is | Like | Present | Within


@dataclass(frozen=True)
class Test:
    """A field of a row is one of `operands`. `key` is what stands for NAME; a null is none of them."""

    field: Field
    operands: tuple[Operand, ...]
    key: str = ""
    column: int = 0


@dataclass(frozen=True)
class OfSpan:
    """A rollout has a span that passes `test`."""

    test: Test


# The same joints as in a parsed tree, over tests instead of terms.
@dataclass(frozen=True)
class No:
    """What fails `item`."""

    item: "Tests"


@dataclass(frozen=True)
class Every:
    """What passes all."""

    items: tuple["Tests", ...]


@dataclass(frozen=True)
class Some:
    """What passes at least one."""

    items: tuple["Tests", ...]


Tests = Test | OfSpan | Words | No | Every | Some


def bind(tree: Tree, fields: Mapping[str, Field], text: str, *, now: float) -> Tests:
    """The tests that a tree stands for. text: what was parsed, to point into. Raises BadInput."""
    match tree:
        case Not(item):
            return No(bind(item, fields, text, now=now))
        case And(items):
            return Every(tuple(bind(item, fields, text, now=now) for item in items))
        case Or(items):
            return Some(tuple(bind(item, fields, text, now=now) for item in items))
        case Words(words, column):
            if not words.strip():
                raise complaint("a text without a letter", text, column)
            return tree
        case Term():
            return _term(tree, fields, text, now=now)


def _term(term: Term, fields: Mapping[str, Field], text: str, *, now: float) -> Tests:
    if "span.FIELD" in fields and term.name.startswith("span."):
        inner = Term(term.name[5:], ":" if term.operator == "!=" else term.operator, term.values, term.column)
        known = {name: field for name, field in SPAN_FIELDS.items() if name != "attr.NAME"}
        found: Tests = OfSpan(_test(inner, known, text, now=now))
    else:
        found = _test(term, fields, text, now=now)
    return No(found) if term.operator == "!=" else found


def _test(term: Term, fields: Mapping[str, Field], text: str, *, now: float) -> Test:
    field, key = _field(term, fields, text)
    if term.operator not in field.operators:
        allowed = " and ".join(field.operators)
        raise complaint(
            f"{term.name!r} does not take '{term.operator}'", text, term.column, f"it takes {allowed}"
        )
    operands: list[Operand] = []
    for value in term.values:
        try:
            operands.append(_operand(field, term.operator, value, now=now))
        except ValueError as error:
            raise complaint(
                f"{value.text!r} does not fit {term.name!r}", text, value.column, str(error)
            ) from None
    if len(operands) > 1 and (field.kind in ("since", "until") or term.operator not in (":", "!=")):
        raise complaint(f"{term.name!r} takes one value", text, term.values[1].column)
    return Test(field, tuple(operands), key, term.column)


def _field(term: Term, fields: Mapping[str, Field], text: str) -> tuple[Field, str]:
    if term.name in fields and "." not in term.name:
        return fields[term.name], ""
    group, _, key = term.name.partition(".")
    if key and (named := fields.get(f"{group}.NAME")):
        return named, key
    names = [name.partition(".")[0] + "." if "." in name else name for name in fields]
    near = difflib.get_close_matches(term.name, names, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    if not near and term.name in ("http", "https"):
        advice = "quote a text that holds a colon"
    raise complaint(f"unknown field {term.name!r}", text, term.column, advice)


# ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _operand(field: Field, operator: str, value: Value, *, now: float) -> Operand:
    if field.kind == "since":
        return Within(low=time_ns(value.text, now=now))
    if field.kind == "until":
        return Within(high=time_ns(value.text, now=now), strict=True)
    if operator not in (":", "!="):
        unit = field.kind if field.is_number else "number"
        return _compared(operator, number(value.text, unit, per=field.per))  # pyright: ignore[reportArgumentType]
    if not value.quoted and re.fullmatch(r"\*+", value.text):
        return Present()
    if field.is_number:
        return _range(field, value.text)
    if not value.quoted and "*" in value.text:
        return _pattern(value.text, anywhere=field.kind == "holds")
    if field.choices and value.text not in field.choices:
        near = difflib.get_close_matches(value.text, field.choices, n=1)
        raise ValueError(f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(field.choices)}")
    return Is(value.text)


def _pattern(text: str, *, anywhere: bool) -> Like:
    pieces = tuple(re.sub(r"\*+", "*", f"*{text}*" if anywhere else text).split("*"))
    if len(pieces) > MAX_STARS + 1:
        raise ValueError(f"a pattern may have {MAX_STARS} stars")
    return Like(pieces)


def _compared(operator: str, value: int | float) -> Within:
    if operator.startswith(">"):
        return Within(low=value, strict=operator == ">")
    return Within(high=value, strict=operator == "<")


def _range(field: Field, text: str) -> Within:
    unit: Unit = field.kind  # pyright: ignore[reportAssignmentType]
    low, dots, high = text.partition("..")
    if not dots:
        exact = number(text, unit, per=field.per)
        return Within(exact, exact)
    if not low and not high:
        raise ValueError("write a range as 0.1..0.5, 10.. or ..10")
    return Within(
        number(low, unit, per=field.per) if low else None, number(high, unit, per=field.per) if high else None
    )
