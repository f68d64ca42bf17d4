"""Whether a database holds together: every promise that one table makes about another, looked at row by row.

Promises: reads one moment of the store, changes nothing, holds a handful of rows in memory, and says for each problem what is
wrong and what to do. Rollouts that are being deleted are left out: half of one is what they are.
Refuses to repair.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.store import check_packs, deletion, indexing, recount, tables
from leyden.store.engine import Database, Tx

t = tables.rollout
a = tables.attempt
s = tables.span
p = tables.span_payload

# Of one kind of problem this many are told, and the number of the others.
TOLD = 10


class Check(NamedTuple):
    """One thing that is looked at. `look` yields what is wrong, one line each; `cure` is what to do about it.

    deep: reads every page or unpacks every pack. own: takes a moment of its own, part by part.
    """

    name: str
    look: Callable[[Tx], Iterable[str]]
    cure: str
    deep: bool = False
    own: bool = False


class Result(NamedTuple):
    """What a check found; `problems` are the first ones, `found` is how many there are."""

    name: str
    problems: list[str]
    found: int
    cure: str


def problems(database: Database, *, deep: bool = True) -> list[str]:
    """Everything that is wrong, one line each with what to do; empty when nothing is."""
    found: list[str] = []
    for result in run(database, deep=deep):
        found += [f"{result.name}: {problem} ({result.cure})" for problem in result.problems]
        if result.found > len(result.problems):
            found.append(f"{result.name}: and {result.found - len(result.problems)} more")
    return found


def run(database: Database, *, deep: bool) -> Iterator[Result]:
    """Every check in turn, nearly all on one moment of the store. deep: also those that take long."""
    asked = [check for check in CHECKS if deep or not check.deep]
    with _moment(database) as tx:
        for check in asked:
            if not check.own:
                yield _result(check, tx)
    for check in asked:
        if check.own:
            with database.read() as tx:
                yield _result(check, tx)


@contextmanager
def _moment(database: Database) -> Generator[Tx]:
    """A read in which every statement sees the same state."""
    with database.read() as tx:
        tx.driver("BEGIN" if tx.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield tx
        finally:
            tx.driver("ROLLBACK")


def _result(check: Check, tx: Tx) -> Result:
    told: list[str] = []
    count = 0
    for problem in check.look(tx):
        count += 1
        if count <= TOLD:
            told.append(problem)
    return Result(check.name, told, count, check.cure)


def _rows(tx: Tx, select: sa.Select[*tuple[Any, ...]]) -> Iterator[Any]:
    """Rows as they are read, a few at a time."""
    with tx.connection.execute(select.execution_options(yield_per=500)) as result:
        yield from result


def _standing(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the rollout that a column names is there, or is being deleted right now."""
    return sa.exists().where(t.c.rollout_id == column)


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _pages(pragma: str) -> Callable[[Tx], Iterator[str]]:
    def look(tx: Tx) -> Iterator[str]:
        if not tx.is_sqlite:
            return  # PostgreSQL checks its own files
        try:
            told = [row[0] for row in tx.driver(f"PRAGMA {pragma}(100)")]
        except sqlite3.DatabaseError as error:
            told = [str(error)]
        yield from (line for line in told if line != "ok")

    return look


# ── Rows that belong to rows ─────────────────────────────────────────────────────────────────────────────────────


def _spans_without_home(tx: Tx) -> Iterator[str]:
    attempt = sa.exists().where(a.c.rollout_id == s.c.rollout_id, a.c.attempt_id == s.c.attempt_id)
    home = sa.and_(_standing(s.c.rollout_id), attempt)
    for row in _rows(tx, sa.select(s.c.id, s.c.rollout_id, s.c.attempt_id).where(~home)):
        yield f"span {row.id} belongs to {row.rollout_id}/{row.attempt_id}, which is not there"


def _spans_in_the_wrong_project(tx: Tx) -> Iterator[str]:
    pair = s.join(t, t.c.rollout_id == s.c.rollout_id)
    strange = sa.and_(s.c.project != t.c.project, t.c.project != deletion.DELETED)
    for row in _rows(
        tx, sa.select(s.c.id, s.c.project, t.c.project.label("own")).select_from(pair).where(strange)
    ):
        yield f"span {row.id} is in project {row.project!r}, its rollout in {row.own!r}"


def _payloads_without_span(tx: Tx) -> Iterator[str]:
    for row in _rows(tx, sa.select(p.c.id).where(~sa.exists().where(s.c.id == p.c.id))):
        yield f"payload {row.id} belongs to no span"


def _orphans(table: sa.Table, noun: str) -> Callable[[Tx], Iterator[str]]:
    def look(tx: Tx) -> Iterator[str]:
        for row in _rows(tx, sa.select(table.c.rollout_id).where(~_standing(table.c.rollout_id))):
            yield f"{noun} of {row.rollout_id}, which is not there"

    return look


def _evidence_without_finding(tx: Tx) -> Iterator[str]:
    e, f = tables.finding_evidence, tables.finding
    known = sa.exists().where(f.c.project == e.c.project, f.c.fingerprint == e.c.fingerprint)
    for row in _rows(tx, sa.select(e.c.fingerprint, e.c.rollout_id).where(~known)):
        yield f"evidence {row.rollout_id} of finding {row.fingerprint}, which is not there"


def _lost_workers(tx: Tx) -> Iterator[str]:
    w = tables.worker
    known = sa.exists().where(
        a.c.rollout_id == w.c.current_rollout_id, a.c.attempt_id == w.c.current_attempt_id
    )
    for row in _rows(
        tx,
        sa.select(w.c.worker_id, w.c.current_rollout_id).where(w.c.current_rollout_id.is_not(None), ~known),
    ):
        yield f"worker {row.worker_id} works on {row.current_rollout_id}, which is not there"


# ── Full text ────────────────────────────────────────────────────────────────────────────────────────────────────


def _hits_without_span(tx: Tx) -> Iterator[str]:
    hit = tables.message_hit
    for row in _rows(
        tx, sa.select(hit.c.message_id, hit.c.span_row).where(~sa.exists().where(s.c.id == hit.c.span_row))
    ):
        yield f"text {row.message_id} is found in span {row.span_row}, which is not there"


def _hits_without_text(tx: Tx) -> Iterator[str]:
    hit, message = tables.message_hit, tables.message
    known = sa.exists().where(message.c.id == hit.c.message_id)
    for row in _rows(tx, sa.select(hit.c.message_id, hit.c.span_row).where(~known)):
        yield f"span {row.span_row} says text {row.message_id}, which is not there"


def _texts_nobody_says(tx: Tx) -> Iterator[str]:
    hit, message = tables.message_hit, tables.message
    spoken = sa.exists().where(hit.c.message_id == message.c.id)
    # Tombstones wait for a sweep, which reads their words back from the index.
    for row in _rows(tx, sa.select(message.c.id).where(message.c.hash >= indexing.DEAD, ~spoken)):
        yield f"text {row.id} is said by no span"


# ── Counts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _wrong_attempt_counts(tx: Tx) -> Iterator[str]:
    there = sa.select(sa.func.count()).where(a.c.rollout_id == t.c.rollout_id).scalar_subquery()
    select = sa.select(t.c.rollout_id, t.c.attempts, there.label("there"))
    for row in _rows(tx, select.where(t.c.attempts != there, t.c.project != deletion.DELETED)):
        yield f"{row.rollout_id} counts {row.attempts} attempts and has {row.there}"


def _wrong_latest_attempts(tx: Tx) -> Iterator[str]:
    there = sa.exists().where(a.c.rollout_id == t.c.rollout_id, a.c.attempt_id == t.c.attempt_id)
    for row in _rows(
        tx, sa.select(t.c.rollout_id, t.c.attempt_id).where(t.c.attempt_id.is_not(None), ~there)
    ):
        yield f"the latest attempt of {row.rollout_id} is {row.attempt_id}, which is not there"


def _late_counters(tx: Tx) -> Iterator[str]:
    last = (
        sa.select(s.c.rollout_id, sa.func.max(s.c.sequence_id).label("last"))
        .group_by(s.c.rollout_id)
        .subquery()
    )
    select = sa.select(t.c.rollout_id, t.c.span_seq, last.c.last).join(
        last, last.c.rollout_id == t.c.rollout_id
    )
    for row in _rows(tx, select.where(t.c.span_seq < last.c.last)):
        yield f"{row.rollout_id} counts spans up to {row.span_seq} and has number {row.last}"


def _late_sequences(tx: Tx) -> Iterator[str]:
    if tx.is_sqlite:
        return  # the next number is made from the largest
    for table in tables.metadata.sorted_tables:
        key = next(iter(table.primary_key.columns))
        if not isinstance(key.type, sa.BigInteger | sa.Integer):
            continue
        name = tx.driver(f"SELECT pg_get_serial_sequence('{table.name}', '{key.name}')")[0][0] or (
            "span_id_seq" if table is s else None
        )
        if name is None:
            continue
        highest = tx.first(sa.select(sa.func.max(key)))[0] or 0
        given = tx.driver(f"SELECT last_value FROM {name}")[0][0]
        if given < highest:
            yield f"{table.name} holds number {highest} and would give out {given + 1} next"


def _wrong_sums(tx: Tx) -> Iterator[str]:
    yield from map(str, recount.verify(tx))


RESTORE = "restore a backup; the rest of the store can be exported"
DELETE = "delete that rollout, or keep it as it is: it is readable up to here"
REBUILD = "run `leyden db rebuild`"
HARMLESS = "harmless; nothing shows it"

CHECKS: list[Check] = [
    Check("pages of the file", _pages("quick_check"), RESTORE),
    Check("pages and indexes of the file", _pages("integrity_check"), RESTORE, deep=True),
    Check("spans belong to an attempt", _spans_without_home, HARMLESS),
    Check("spans are in the project of their rollout", _spans_in_the_wrong_project, DELETE),
    Check("spans have a payload, once", check_packs.misplaced, DELETE),
    Check("packs hold what they say", check_packs.damaged, RESTORE, deep=True),
    Check("payloads belong to a span", _payloads_without_span, HARMLESS),
    Check("attempts belong to a rollout", _orphans(a, "attempt"), HARMLESS),
    Check("packs belong to a rollout", _orphans(tables.pack, "pack"), HARMLESS),
    Check("scores belong to a rollout", _orphans(tables.score, "score"), HARMLESS),
    Check("spend belongs to a rollout", _orphans(tables.spend_rollout, "spend"), REBUILD),
    Check("model calls belong to a rollout", _orphans(tables.model_call, "model call"), REBUILD),
    Check("evidence belongs to a rollout", _orphans(tables.finding_evidence, "evidence"), "run `leyden analyze` again"),
    Check("evidence belongs to a finding", _evidence_without_finding, "run `leyden analyze` again"),
    Check("workers work on what is there", _lost_workers, "it ends with the worker's next claim"),
    Check("search hits point at spans", _hits_without_span, HARMLESS),
    Check("search hits point at texts", _hits_without_text, HARMLESS),
    Check("texts are said by spans", _texts_nobody_says, HARMLESS),
    Check("rollouts count their attempts", _wrong_attempt_counts, DELETE),
    Check("rollouts know their latest attempt", _wrong_latest_attempts, DELETE),
    Check("rollouts count their spans", _late_counters, DELETE),
    Check("numbers are not given out twice", _late_sequences, "restore a backup, or set the sequence to a higher number"),
    Check("sums per hour and day equal a recount", _wrong_sums, REBUILD, own=True),
]  # fmt: skip
