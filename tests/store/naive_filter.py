"""The filter language decided in plain Python over dicts, slowly and without the product's tables: what the tests compare with."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

from leyden.store.filters.grammar import And, Not, Or, Term, Tree, Value, Words

Row = Mapping[str, Any]
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
TEXTS = {
    "rollout": "rollout_id", "attempt": "attempt_id", "trace": "trace_id", "span": "span_id", "parent": "parent_id",
    "error": "error_type",
}  # fmt: skip


def lower(text: str) -> str:
    """A–Z alone, as the databases do."""
    return re.sub("[A-Z]", lambda m: m[0].lower(), text)


def span_matches(tree: Tree, row: Row, *, now: float) -> bool:
    return matches(
        tree,
        row,
        lambda term: span_term(term, row, now=now),
        ("name", "error_message", "input_preview", "output_preview"),
    )


def matches(tree: Tree, row: Row, of_term: Callable[[Term], bool], searched: tuple[str, ...]) -> bool:
    match tree:
        case And(items):
            return all(matches(item, row, of_term, searched) for item in items)
        case Or(items):
            return any(matches(item, row, of_term, searched) for item in items)
        case Not(item):
            return not matches(item, row, of_term, searched)
        case Words(text):
            return any(lower(text) in lower(row[name] or "") for name in searched)
        case Term(operator="!="):
            return not of_term(Term(tree.name, ":", tree.values))
        case Term():
            return of_term(tree)


def span_term(term: Term, row: Row, *, now: float) -> bool:
    name = term.name
    if name in ("since", "until"):
        start, at = row["start_ns"], time_ns(term.values[0].text, now=now)
        return start is not None and (start >= at if name == "since" else start < at)
    if name.startswith("attr."):
        return compared(term, row["attributes"].get(name[5:]))
    if name == "tokens":
        counts = [n for n in (row["input_tokens"], row["output_tokens"]) if n is not None]
        return numeric(term, sum(counts) if counts else None)
    if name == "duration":
        took = None if None in (row["start_ns"], row["end_ns"]) else row["end_ns"] - row["start_ns"]
        return numeric(term, took, per=10**9)
    if name == "ttft":
        return numeric(term, row["ttft_ms"], per=1000)
    if name in ("cost", "input_tokens", "output_tokens", "cache_read_tokens"):
        return numeric(term, row["cost_usd" if name == "cost" else name])
    if name == "message":
        return any(held(value, row["error_message"]) for value in term.values)
    return any(equal(value, row[TEXTS.get(name, name)]) for value in term.values)


def equal(value: Value, found: str | None) -> bool:
    text = found or ""
    if value.quoted or "*" not in value.text:
        return text == value.text
    if set(value.text) == {"*"}:
        return text != ""
    return bool(text) and fnmatch.fnmatchcase(text, value.text.replace("[", "[[]").replace("?", "[?]"))


def held(value: Value, found: str | None) -> bool:
    text = lower(found or "")
    if not value.quoted and set(value.text) == {"*"}:
        return text != ""
    if not value.text:
        return text == ""
    if value.quoted or "*" not in value.text:
        return lower(value.text) in text
    return bool(text) and equal(Value(f"*{lower(value.text)}*"), text)


def compared(term: Term, found: Any) -> bool:
    if term.operator != ":":
        return not isinstance(found, bool) and isinstance(found, int | float) and numeric(term, found)
    text = (
        ""
        if found is None
        else found
        if isinstance(found, str)
        else {True: "true", False: "false"}.get(found, str(found))
        if isinstance(found, bool)
        else str(found)
    )
    return any(equal(value, text) for value in term.values)


def numeric(term: Term, found: float | None, *, per: int = 1) -> bool:
    return found is not None and any(in_range(term.operator, value.text, found, per) for value in term.values)


def in_range(operator: str, text: str, found: float, per: int) -> bool:
    if set(text) == {"*"}:
        return True
    if ".." in text:
        low, high = text.split("..")
        return (not low or found >= number(low, per)) and (not high or found <= number(high, per))
    size = number(text, per)
    return {
        ":": found == size,
        ">": found > size,
        ">=": found >= size,
        "<": found < size,
        "<=": found <= size,
    }[operator]


def number(text: str, per: int) -> float:
    digits, unit = re.fullmatch(r"\$?([\d.]+)(\w*)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    scale = (
        {"": 1, "k": 1000, "M": 1_000_000}.get(unit) if per == 1 and unit not in UNITS else UNITS.get(unit, 1)
    )
    return float(digits) * (scale or 1) * per


def time_ns(text: str, *, now: float) -> int:
    back = re.fullmatch(r"(\d+)([smhdw])", text)
    return int((now - int(back[1]) * UNITS[back[2]]) * 10**9) if back else int(text) * 10**9
