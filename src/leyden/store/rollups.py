"""What spans add up to per hour and per day: counts, errors, tokens, cost, and a sketch of their durations.

Owns the table `rollup`, one row per project, grain, time and combination of agent, provider, model, tool, kind and status.
Promises: a row changes in the transaction that stores or deletes its spans, so the rows always equal a recount
(`recount.py`). Sums are integers and the sketch is counts, so taking a span away leaves no trace of it; a row without
spans is removed. Refuses to know: charts (`charts.py`), payloads, why a span came or went.

Who changes a derived column of stored spans hands the old rows to `remove` and the new ones to `add`.

Times are UTC. Spans without a start are at time 0. In a name longer than 120 characters only those count. `errors` are
spans that ended in an error or carry an error's fingerprint. Tokens and cost are summed as the columns have them, over
spans of every kind; readers ask for the kinds in `CALLS` where a parent may repeat what its children used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from operator import add as plus
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from leyden.analysis.sketch import added, bucket_of
from leyden.ingest.record import SpanRecord
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement

r = tables.rollup
bind = sa.bindparam

HOUR, DAY = 3600, 86_400
GRAINS = (HOUR, DAY)
CALLS = ("llm", "embedding")
DIMENSIONS = ("agent", "provider", "model", "tool", "kind", "status")
COUNTS = (
    "spans", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "cost_nano", "priced", "timed", "duration_ns",
)  # fmt: skip
NAME_CHARS = 120

KEYS = [column.name for column in r.primary_key.columns]
VALUES = [*COUNTS, "latency"]

# What is read of a span.
FACTS = (
    "start_ns", *DIMENSIONS, "end_ns", "fingerprint", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_usd",
)  # fmt: skip
COLUMNS = [tables.span.c[name] for name in FACTS]
_facts: Callable[[SpanRecord], tuple[Any, ...]] = itemgetter(*map(SpanRecord._fields.index, FACTS))

_HOUR_NS = HOUR * 1_000_000_000
_MOST_USD = 1e9
_MOST_NS = 2**62

# (project, grain, time, agent, provider, model, tool, kind, status)
Key = tuple[Any, ...]


class Sums(NamedTuple):
    """What a set of spans adds up to: one number per name in `COUNTS`, and how many durations each bucket holds.

    A difference of two such sums is one too: numbers may be negative.
    """

    counts: list[int]
    buckets: dict[int, int]


def add(tx: Tx, project: str, records: Sequence[SpanRecord]) -> None:
    """Count new spans, just before the commit."""
    tx.later(_keep, [(project, 1, list(map(_facts, records)))])


def remove(tx: Tx, project: str, rows: Sequence[Any]) -> None:
    """Take away stored spans: rows of the columns `COLUMNS`, each span once."""
    tx.later(_keep, [(project, -1, rows)])


def _keep(tx: Tx, batches: list[tuple[str, int, Sequence[Any]]]) -> None:
    """Add up what a group of writes did, and change the rows it touches."""
    change(tx, totals(batches))


def totals(batches: Iterable[tuple[str, int, Sequence[Any]]]) -> dict[Key, Sums]:
    """What batches of (project, sign, facts of spans) change, per row. sign: 1 for new spans, −1 for removed ones."""
    found: dict[Key, Sums] = {}
    for project, sign, facts in batches:
        for (time, *dimensions), sums in fold(facts).items():
            names = [name[:NAME_CHARS] if name else "" for name in dimensions]
            given = sums if sign == 1 else negative(sums)
            for grain in GRAINS:
                key = (project, grain, time - time % grain, *names)
                known = found.get(key)
                found[key] = given if known is None else together(known, given)
    return found


def negative(sums: Sums) -> Sums:
    """What takes sums away again."""
    return Sums([-n for n in sums.counts], {bucket: -n for bucket, n in sums.buckets.items()})


def together(one: Sums, other: Sums) -> Sums:
    """What two sets of spans add up to; neither is changed."""
    buckets = dict(one.buckets)
    for bucket, n in other.buckets.items():
        buckets[bucket] = buckets.get(bucket, 0) + n
    return Sums(list(map(plus, one.counts, other.counts)), buckets)


def fold(facts: Iterable[Any]) -> dict[Key, Sums]:
    """Add spans up per hour and dimensions as they came. The hot part of the store's promise: written out, no calls."""
    found: dict[Key, tuple[list[int], dict[int, int]]] = {}
    for (
        start,
        agent,
        provider,
        model,
        tool,
        kind,
        status,
        end,
        print_,
        sent,
        got,
        read,
        written,
        thought,
        cost,
    ) in facts:
        hour = 0 if start is None else start // _HOUR_NS * HOUR
        key = (hour, agent, provider, model, tool, kind, status)
        entry = found.get(key)
        if entry is None:
            entry = found[key] = ([0] * len(COUNTS), {})
        counts, buckets = entry
        counts[0] += 1
        if status == "error" or print_ is not None:
            counts[1] += 1
        if sent is not None:
            counts[2] += sent
        if got is not None:
            counts[3] += got
        if read is not None:
            counts[4] += read
        if written is not None:
            counts[5] += written
        if thought is not None:
            counts[6] += thought
        if cost is not None:
            counts[7] += int((cost if cost < _MOST_USD else _MOST_USD) * 1e9 + 0.5)
            counts[8] += 1
        if start is not None and end is not None:
            took = end - start
            if not 0 <= took < _MOST_NS:
                took = 0 if took < 0 else _MOST_NS
            counts[9] += 1
            counts[10] += took
            bucket = bucket_of(took / 1e9)
            buckets[bucket] = buckets.get(bucket, 0) + 1
    return {key: Sums(*entry) for key, entry in found.items()}


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def change(tx: Tx, sums: Mapping[Key, Sums]) -> None:
    """Add sums to the rows of their keys. Keys are taken in order, so two replicas never wait for each other in a circle."""
    keys = sorted(sums)
    rows: list[Key] = []
    gone: list[Key] = []
    for key, old in zip(keys, hold(tx, keys), strict=True):
        values = _values(old, sums[key])
        (rows if values[0] else gone).append((*key, *values))
    if rows and tx.is_sqlite:
        with _cursor(tx) as cursor:
            cursor.executemany(PUT.on(tx.dialect)[0], rows)
    elif rows:
        tx.hot(PUT_MANY, **_columns(rows, ROW))
    for row in gone:
        tx.hot(DROP, **dict(zip(KEYS, row, strict=False)))


def _values(old: Sequence[Any] | None, more: Sums) -> tuple[Any, ...]:
    """What a row holds after sums were added to it."""
    counts, latency = more.counts, b""
    if old is not None:
        counts, latency = list(map(plus, old, counts)), old[-1]
    if more.buckets:
        latency = added(latency, more.buckets)
    if max(counts) >= 2**63 or min(counts) < -(2**63):
        counts = wrapped(counts)
    return (*counts, latency)


def wrapped(counts: Iterable[int]) -> list[int]:
    """Counts as 64-bit numbers. Sums of absurd numbers go round instead of failing a batch: taking them away is still exact."""
    return [(n + 2**63) % 2**64 - 2**63 for n in counts]


def _cursor(tx: Tx) -> closing[Any]:
    """The driver's own cursor: rows change by the hundred in a group of writes, with their parameters in order."""
    return closing(tx.connection.connection.cursor())


ROW = [*KEYS, *VALUES]
_IS_ROW = sa.and_(*(r.c[name] == bind(name) for name in KEYS))
FIND = Statement(lambda _: sa.select(*(r.c[name] for name in VALUES)).where(_IS_ROW))
DROP = Statement(lambda _: sa.delete(r).where(_IS_ROW))


def _put(insert: Any) -> Any:
    row = insert(r).values({name: bind(name) for name in ROW})
    return row.on_conflict_do_update(index_elements=KEYS, set_={n: row.excluded[n] for n in VALUES})


PUT = Statement(_put)


def hold(tx: Tx, keys: Sequence[Key]) -> list[Any]:
    """The values of each row, in order, kept from everybody else until the commit. None for one that is not there, or all zero."""
    if not tx.is_sqlite:
        return _hold_postgres(tx, keys)
    sql = FIND.on(tx.dialect)[0]
    with _cursor(tx) as cursor:
        return [cursor.execute(sql, key).fetchone() for key in keys]


def _given(names: Sequence[str]) -> sa.TableValuedAlias:
    """The rows that arrays, one per column, spell out; `place` is their order."""
    arrays = [bind(f"all_{name}", type_=ARRAY(r.c[name].type)) for name in names]
    columns = [sa.column(name, r.c[name].type) for name in names]
    return sa.func.unnest(*arrays).table_valued(*columns, with_ordinality="place").render_derived()


def _columns(rows: Sequence[Key], names: Sequence[str]) -> dict[str, list[Any]]:
    return {f"all_{name}": list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _make(insert: Any) -> Any:
    given = _given(KEYS)
    empty: list[sa.ColumnElement[Any]] = [sa.literal_column("0") for _ in COUNTS]
    empty.append(sa.literal_column("''::bytea"))
    rows = sa.select(*(given.c[name] for name in KEYS), *empty).order_by(given.c.place)
    return insert(r).from_select(ROW, rows).on_conflict_do_nothing()


def _hold(_: Any) -> Any:
    given = _given(KEYS)
    same = sa.and_(*(r.c[name] == given.c[name] for name in KEYS))
    rows = sa.select(given.c.place, *(r.c[name] for name in VALUES)).select_from(given.join(r, same))
    return rows.order_by(given.c.place).with_for_update(of=r)


def _put_many(_: Any) -> Any:
    given = _given(ROW)
    same = sa.and_(*(r.c[name] == given.c[name] for name in KEYS))
    return sa.update(r).where(same).values({name: given.c[name] for name in VALUES})


MAKE, HOLD, PUT_MANY = Statement(_make), Statement(_hold), Statement(_put_many)


def _hold_postgres(tx: Tx, keys: Sequence[Key]) -> list[Any]:
    """Every row, locked; made empty when it was missing, and once more when another replica removed it meanwhile."""
    found: dict[Key, Any] = {}
    missing: list[Key] = list(keys)
    while missing:
        arrays = _columns(missing, KEYS)
        tx.hot(MAKE, **arrays)
        for place, *values in tx.hot(HOLD, **arrays):
            found[missing[place - 1]] = values
        missing = [key for key in missing if key not in found]
    return [found[key] for key in keys]
