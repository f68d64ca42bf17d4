"""The few words of SQL in which SQLite and PostgreSQL differ, and statements compiled once for the hot paths."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.functions import GenericFunction


class Contains(GenericFunction[bool]):
    """`Contains(column, text)`: case-sensitive substring, null never contains."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(Contains, "sqlite")
def _contains_sqlite(element: Contains, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)}) > 0"


@compiles(Contains, "postgresql")
def _contains_postgresql(element: Contains, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)}) > 0"


class ContainsAnyCase(GenericFunction[bool]):
    """`ContainsAnyCase(column, text)`: substring, A–Z like a–z, null never contains. `text` must be without A–Z."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(ContainsAnyCase, "sqlite")
def _contains_any_case_sqlite(element: ContainsAnyCase, compiler: Any, **kw: Any) -> str:
    column, text = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"instr(lower({column}), {text}) > 0"


@compiles(ContainsAnyCase, "postgresql")
def _contains_any_case_postgresql(element: ContainsAnyCase, compiler: Any, **kw: Any) -> str:
    column, text = (compiler.process(clause, **kw) for clause in element.clauses)
    return f'strpos(lower({column} COLLATE "C"), {text}) > 0'


class Matches(GenericFunction[bool]):
    """`Matches(column, glob, like)`: case-sensitive pattern, written for GLOB and for LIKE; made by `matches`."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(Matches, "sqlite")
def _matches_sqlite(element: Matches, compiler: Any, **kw: Any) -> str:
    column, glob, _ = element.clauses
    return f"{compiler.process(column, **kw)} GLOB {compiler.process(glob, **kw)}"


@compiles(Matches, "postgresql")
def _matches_postgresql(element: Matches, compiler: Any, **kw: Any) -> str:
    column, _, like = element.clauses
    return f"{compiler.process(column, **kw)} LIKE {compiler.process(like, **kw)}"


def matches(column: sa.ColumnElement[Any], pieces: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether a text is made of these pieces with anything between them, case-sensitive; null is not."""
    glob = "*".join(re.sub(r"[*?\[]", r"[\g<0>]", piece) for piece in pieces)
    like = "%".join(re.sub(r"[%_\\]", r"\\\g<0>", piece) for piece in pieces)
    return Matches(column, glob, like)


class RandomHex8(GenericFunction[str]):
    """Eight random hex digits, made by the database so that one statement can claim many rollouts."""

    inherit_cache = True
    type = sa.Text()


@compiles(RandomHex8, "sqlite")
def _hex_sqlite(element: RandomHex8, compiler: Any, **kw: Any) -> str:
    return "lower(hex(randomblob(4)))"


@compiles(RandomHex8, "postgresql")
def _hex_postgresql(element: RandomHex8, compiler: Any, **kw: Any) -> str:
    return "substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)"


INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Statement:
    """A Core statement compiled once per dialect and run on the bare driver cursor: for hot paths only.

    `build` gets the dialect's `insert` (for ON CONFLICT) and returns the statement. Parameters are named; types need no
    conversion because our columns are text, numbers and bytes.
    """

    def __init__(self, build: Callable[[Any], ClauseElement]) -> None:
        self._build = build
        self._ready: dict[str, tuple[str, list[str], dict[str, Any]]] = {}

    def on(self, dialect: sa.Dialect) -> tuple[str, list[str], dict[str, Any]]:
        """SQL text, the order of its parameters, and the values that the statement itself holds."""
        ready = self._ready.get(dialect.name)
        if ready is None:
            built = self._build(INSERTS[dialect.name])
            compiled: Any = built.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
            constants = {k: v for k, v in compiled.params.items() if v is not None}
            ready = (str(compiled), list(compiled.positiontup or compiled.params), constants)
            self._ready[dialect.name] = ready
        return ready
