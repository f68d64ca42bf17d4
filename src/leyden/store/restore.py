"""Putting an export back (`transfer.py` reads it out): every row as it was, without running the state machine.

Promises
1. Statuses, times, queue places, leases and deadlines are those of the export, also of queued and running rollouts.
2. Putting the same export back again changes nothing, and one that broke off goes on where it stopped.
3. What is there under the same name with other content stays as it is and is reported; a rollout that differs keeps its
   attempts, scores and spans too. Everything else goes in.

A batch holds rows in the order of the export. What it must know of the batches before it is a `Place`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.ingest.export_lines import COLUMNS, Line
from leyden.ingest.prices import rates_of
from leyden.ingest.record import SpanRecord
from leyden.ingest.shapes import is_object
from leyden.store import prices, spans, tables
from leyden.store.engine import Tx
from leyden.store.sql import INSERTS
from leyden.store.transfer import span_rows
from leyden.types import QUEUED_ROLLOUT

t = tables.rollout
a = tables.attempt
s = tables.span

Row = tuple[Any, ...]


class Place(NamedTuple):
    """Where an import stands between two batches: the rollout that comes last so far, and whether its rows go in.

    `is_new` says that this import made it, so nothing of it was there before.
    """

    rollout_id: str = ""
    goes_in: bool = False
    is_new: bool = False


class Restored(NamedTuple):
    """What became of a batch: rows by noun that went in or were there already, and why others were left out."""

    place: Place
    added: Counter[str]
    unchanged: Counter[str]
    conflicts: list[str]


class _Batch:
    """The rows of one batch on their way in."""

    def __init__(self, tx: Tx, project: str) -> None:
        self.tx, self.project = tx, project
        self.added: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()
        self.conflicts: list[str] = []

    def note(self, noun: str, *, is_new: bool, is_same: bool, name: str) -> bool:
        """Count one row; whether it is there now as the export has it."""
        if is_new:
            self.added[noun] += 1
        elif is_same:
            self.unchanged[noun] += 1
        else:
            self.conflicts.append(f"{noun} {name}: it is there with other content and stays as it is")
        return is_new or is_same


def restore(tx: Tx, batch: Sequence[Line], place: Place, *, project: str) -> Restored:
    """Put one batch back; the next one takes the place that is returned.

    A line about a rollout that does not stand before it counts as a conflict.
    """
    here = _Batch(tx, project)
    by_noun: dict[str, list[Row]] = {}
    for line in batch:
        by_noun.setdefault(line.noun, []).append(line.row)
    _resources(here, by_noun.get("resources", []))
    _workers(here, by_noun.get("worker", []))
    _prices(here, by_noun.get("price", []))
    _spend(here, by_noun.get("spend", []))
    places = _rollouts(here, by_noun.get("rollout", []))
    places[place.rollout_id] = place
    _attempts(here, _going_in(here, by_noun.get("attempt", []), places, "attempt"), places)
    _scores(here, _going_in(here, by_noun.get("score", []), places, "score"), places)
    _rollout_spend(here, _going_in(here, by_noun.get("rollout_spend", []), places, "rollout_spend"))
    _model_calls(here, _going_in(here, by_noun.get("model_call", []), places, "model_call"))
    _spans(here, _going_in(here, by_noun.get("span", []), places, "span"))
    _findings(here, by_noun.get("finding", []))
    _evidence(here, by_noun.get("evidence", []))
    last = by_noun["rollout"][-1][0] if "rollout" in by_noun else place.rollout_id
    return Restored(places[last], here.added, here.unchanged, here.conflicts)


def _going_in(here: _Batch, rows: list[Row], places: dict[str, Place], noun: str) -> list[Row]:
    """The rows whose rollout goes in. Those of one that was left out were reported with it."""
    for row in rows:
        if row[0] not in places:
            here.conflicts.append(
                f"{noun} {row[1] or ''} of rollout {row[0]}: its rollout does not stand before it"
            )
    return [row for row in rows if row[0] in places and places[row[0]].goes_in]


def _there(
    here: _Batch, table: sa.Table, noun: str, key: str, values: Iterable[Any], *, scoped: bool
) -> list[Row]:
    """The rows that are there, by one column; `scoped`: of this project alone."""
    found: list[Row] = []
    wanted = list(dict.fromkeys(values))
    select = sa.select(*[table.c[name] for name in COLUMNS[noun]])
    if scoped:
        select = select.where(table.c.project == here.project)
    for some in (wanted[i : i + 500] for i in range(0, len(wanted), 500)):
        found += [tuple(row) for row in here.tx.all(select.where(table.c[key].in_(some)))]
    return found


def _insert(here: _Batch, table: sa.Table, noun: str, row: Row, **more: Any) -> bool:
    """Add a row unless one of its names is taken; whether it went in."""
    values = {**dict(zip(COLUMNS[noun], row, strict=True)), **more}
    insert = INSERTS[here.tx.dialect.name](table).on_conflict_do_nothing()
    return here.tx.first(insert.returning(table.c[COLUMNS[noun][0]]), values) is not None


def _keyed(
    here: _Batch, table: sa.Table, noun: str, rows: list[Row], key: Callable[[Row], Row], **more: Any
) -> list[Row]:
    """Add rows that have a name; those that went in."""
    known = {
        key(row): row
        for row in _there(here, table, noun, COLUMNS[noun][0], (row[0] for row in rows), scoped="project" in more)
    } if rows else {}  # fmt: skip
    added: list[Row] = []
    for row in rows:
        old = known.get(key(row))
        is_new = old is None and _insert(here, table, noun, row, **more)
        if is_new:
            added.append(row)
        here.note(noun, is_new=is_new, is_same=old == row, name=" ".join(map(str, key(row))))
    return added


# ── Of the project ───────────────────────────────────────────────────────────────────────────────────────────────


def _resources(here: _Batch, rows: list[Row]) -> None:
    r = tables.resources
    added = _keyed(here, r, "resources", rows, lambda row: row[:2], project=here.project, is_latest=0)
    for resources_id in dict.fromkeys(row[0] for row in added):
        same = sa.and_(r.c.project == here.project, r.c.resources_id == resources_id)
        newest = sa.select(sa.func.max(r.c.version)).where(same).scalar_subquery()
        here.tx.run(sa.update(r).where(same).values(is_latest=sa.case((r.c.version == newest, 1), else_=0)))


def _workers(here: _Batch, rows: list[Row]) -> None:
    _keyed(here, tables.worker, "worker", rows, lambda row: row[:1], project=here.project)


def _prices(here: _Batch, rows: list[Row]) -> None:
    """A line that is no price is left out: with it in the store, nothing of the project would be priced."""
    good = [row for row in rows if _is_price(row[1])]
    here.conflicts += [f"price {row[0]}: its rates are none" for row in rows if row not in good]
    if _keyed(here, tables.price_override, "price", good, lambda row: row[:1], project=here.project):
        here.tx.notices.add(prices.CHANGED)


def _is_price(rates: str) -> bool:
    try:
        given: Any = orjson.loads(rates)
        rates_of(given if is_object(given) else {})
    except (BadInput, orjson.JSONDecodeError):
        return False
    return True


def _spend(here: _Batch, rows: list[Row]) -> None:
    """What a day cost under one key, agent and model stands as it is or goes in whole: added up, it would count twice."""
    _keyed(here, tables.spend, "spend", rows, lambda row: row[:6], project=here.project)


def _findings(here: _Batch, rows: list[Row]) -> None:
    _keyed(here, tables.finding, "finding", rows, lambda row: row[:1], project=here.project)


def _evidence(here: _Batch, rows: list[Row]) -> None:
    _keyed(here, tables.finding_evidence, "evidence", rows, lambda row: row[:2], project=here.project)


# ── Of rollouts ──────────────────────────────────────────────────────────────────────────────────────────────────


def _rollouts(here: _Batch, rows: list[Row]) -> dict[str, Place]:
    """Add rollouts; for each whether what belongs to it goes in too."""
    known = {
        row[0]: row for row in _there(here, t, "rollout", "rollout_id", (r[0] for r in rows), scoped=True)
    }
    places: dict[str, Place] = {}
    for row in rows:
        old = known.get(row[0])
        is_new = old is None and _insert(here, t, "rollout", row, project=here.project)
        goes_in = here.note("rollout", is_new=is_new, is_same=old == row, name=row[0])
        places[row[0]] = Place(row[0], goes_in, is_new)
        if is_new and row[1] in QUEUED_ROLLOUT:
            here.tx.notices.add(f"queue:{here.project}")
    return places


def _attempts(here: _Batch, rows: list[Row], places: dict[str, Place]) -> None:
    new = [row for row in rows if places[row[0]].is_new]
    names = COLUMNS["attempt"]
    if new:
        here.tx.run(sa.insert(a), [dict(zip(names, row, strict=True)) for row in new])
        here.added["attempt"] += len(new)
    old = [row for row in rows if not places[row[0]].is_new]
    _keyed(here, a, "attempt", old, lambda row: row[:2])


def _scores(here: _Batch, rows: list[Row], places: dict[str, Place]) -> None:
    """Scores have no name: of a rollout that was there, those are missing that it has not as often."""
    old = {row[0] for row in rows if not places[row[0]].is_new}
    there = (
        Counter(_there(here, tables.score, "score", "rollout_id", old, scoped=False))
        if old
        else Counter[Row]()
    )
    missing: list[Row] = []
    for row in rows:
        if there[row] > 0:
            there[row] -= 1
        else:
            missing.append(row)
    here.unchanged["score"] += len(rows) - len(missing)
    here.added["score"] += len(missing)
    if missing:
        names = COLUMNS["score"]
        here.tx.run(sa.insert(tables.score), [dict(zip(names, row, strict=True)) for row in missing])


def _rollout_spend(here: _Batch, rows: list[Row]) -> None:
    _keyed(here, tables.spend_rollout, "rollout_spend", rows, lambda row: row[:1])


def _model_calls(here: _Batch, rows: list[Row]) -> None:
    _keyed(here, tables.model_call, "model_call", rows, lambda row: row[:2])


def _spans(here: _Batch, rows: list[Row]) -> None:
    if not rows:
        return
    is_new = spans.restore(here.tx, [SpanRecord(*row) for row in rows], project=here.project)
    touched = {row[0] for row, new in zip(rows, is_new, strict=True) if new}
    here.added["span"] += sum(is_new)
    if touched:
        here.tx.run(sa.update(t).where(t.c.rollout_id.in_(touched)).values(unpacked=1))
    old = [row for row, new in zip(rows, is_new, strict=True) if not new]
    if not old:
        return
    known = _known_spans(here.tx, old)
    for row in old:
        name = f"{row[4]} of rollout {row[0]}"
        here.note("span", is_new=False, is_same=known.get((row[0], row[1], row[4])) == row, name=name)


def _known_spans(tx: Tx, rows: list[Row]) -> dict[Row, Row]:
    """The spans that stood in the way, by rollout, attempt and span id."""
    wanted = {(row[0], row[1], row[4]) for row in rows}
    ids = list(dict.fromkeys(row[4] for row in rows))
    numbers: list[tuple[int, str]] = []
    for some in (ids[i : i + 500] for i in range(0, len(ids), 500)):
        select = sa.select(s.c.id, s.c.rollout_id, s.c.attempt_id, s.c.span_id).where(
            s.c.rollout_id.in_({row[0] for row in rows}), s.c.span_id.in_(some)
        )
        numbers += [(row[0], row[1]) for row in tx.all(select) if tuple(row[1:]) in wanted]
    return {(row[0], row[1], row[4]): row for row in span_rows(tx, numbers).values()}
