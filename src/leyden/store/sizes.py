"""Where the bytes of a database are, and what it holds: figures for people, measured now.

SQLite tells the size of a table when it was built with `dbstat`; where it was not, only the whole file is known.
"""

import sqlite3
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.ingest import texts
from leyden.store import deletion, migrations, tables
from leyden.store.engine import Tx

t = tables.rollout
s = tables.span
p = tables.span_payload
k = tables.pack

# Which tables are which part of the store, in the order people read them. The others are "other".
PARTS = {
    "spans": ("span",),
    "payloads, as they came": ("span_payload",),
    "payloads, packed": ("pack", "pack_object"),
    "search": ("message", "message_hit", "message_index"),
    "sums per hour and day": ("rollup",),
    "rollouts and attempts": ("rollout", "attempt"),
    "scores": ("score",),
    "findings": ("finding", "finding_evidence"),
}
_PART_OF = {table: part for part, names in PARTS.items() for table in names}


class Part(NamedTuple):
    """One part of the store: rows, bytes of tables and of their indexes. Bytes are None when the database does not tell."""

    name: str
    rows: int
    table_bytes: int | None
    index_bytes: int | None


class Group(NamedTuple):
    """The rollouts of a project in one mode and status. mode None: given none."""

    project: str
    mode: str | None
    status: str
    rollouts: int
    spans: int


class Payloads(NamedTuple):
    """Payloads by how they lie: spans, bytes as they came, bytes on disk; how many packs lie at a URL."""

    hot_spans: int
    hot_bytes: int
    packs: int
    packed_spans: int
    raw_bytes: int
    packed_bytes: int
    elsewhere: int


class Waiting(NamedTuple):
    """Work that a job has still to do: ended rollouts to pack, packs to index, rollouts half deleted."""

    unpacked: int
    unindexed: int
    deleting: int


class Sizes(NamedTuple):
    """Everything `leyden db stats` says. total_bytes is the file (or the database) with its log; free_bytes are unused pages."""

    schema: str | None
    total_bytes: int
    free_bytes: int
    parts: list[Part]
    groups: list[Group]
    payloads: Payloads
    waiting: Waiting
    oldest: float | None
    newest: float | None


def measure(tx: Tx) -> Sizes:
    """Look at everything once. Reads the whole index of spans, and on SQLite every page of the file."""
    known = _sqlite(tx) if tx.is_sqlite else _postgres(tx)
    total, free = _file(tx) if tx.is_sqlite else (total_bytes(tx), 0)
    oldest, newest = tx.first(
        sa.select(sa.func.min(t.c.start_time), sa.func.max(t.c.start_time)).where(
            t.c.project != deletion.DELETED
        )
    )
    return Sizes(
        migrations.version(tx), total, free, _parts(tx, known), groups(tx), payloads(tx), waiting(tx), oldest, newest
    )  # fmt: skip


def total_bytes(tx: Tx) -> int:
    """The size of the whole database."""
    if tx.is_sqlite:
        return _file(tx)[0]
    return int(tx.driver("SELECT pg_database_size(current_database())")[0][0])


def _file(tx: Tx) -> tuple[int, int]:
    pages, free, size = (
        tx.driver(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
    )
    return pages * size, free * size


def _sqlite(tx: Tx) -> dict[str, tuple[int, int]]:
    """Bytes of each table and of its indexes; empty when this SQLite cannot tell."""
    try:
        rows = tx.driver("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE")
    except sqlite3.OperationalError:
        return {}
    owner: dict[str, str] = dict(tx.driver("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index'"))
    found: dict[str, tuple[int, int]] = {}
    name: str
    for name, size in rows:
        table: str = owner.get(name, name)
        own, indexes = found.get(table, (0, 0))
        found[table] = (own, indexes + size) if name in owner else (own + size, indexes)
    return found


def _postgres(tx: Tx) -> dict[str, tuple[int, int]]:
    rows = tx.driver(
        "SELECT coalesce(of.relname, c.relname), sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class c "
        "LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class of ON of.oid = i.inhparent "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' GROUP BY 1"
    )
    return {name: (int(own), int(indexes)) for name, own, indexes in rows}


def _parts(tx: Tx, known: dict[str, tuple[int, int]]) -> list[Part]:
    sums: dict[str, list[int]] = {}
    for table, sizes in known.items():
        # SQLite's full text has tables of its own behind it.
        name = "message_index" if table.startswith("message_index") else table
        both = sums.setdefault(_PART_OF.get(name, "other"), [0, 0])
        both[0] += sizes[0]
        both[1] += sizes[1]
    found: list[Part] = []
    for part, names in PARTS.items():
        own, indexes = sums.get(part, (None, None))
        rows = tx.first(sa.select(sa.func.count()).select_from(tables.metadata.tables[names[0]]))[0]
        found.append(Part(part, rows, own, indexes))
    if "other" in sums:
        found.append(Part("other", 0, *sums["other"]))
    return found


def groups(tx: Tx) -> list[Group]:
    """Rollouts and their spans per project, mode and status, without what is being deleted."""
    spans = sa.select(s.c.rollout_id, sa.func.count().label("n")).group_by(s.c.rollout_id).subquery()
    keys = (t.c.project, t.c.mode, t.c.status)
    select = (
        sa.select(*keys, sa.func.count(), sa.func.coalesce(sa.func.sum(spans.c.n), 0))
        .select_from(t.outerjoin(spans, spans.c.rollout_id == t.c.rollout_id))
        .where(t.c.project != deletion.DELETED)
        .group_by(*keys)
        .order_by(t.c.project, sa.func.coalesce(t.c.mode, ""), t.c.status)
    )
    return [
        Group(project, mode, status, rollouts, int(count))
        for project, mode, status, rollouts, count in tx.all(select)
    ]


def payloads(tx: Tx) -> Payloads:
    """Payloads by how they lie."""
    hot = tx.first(sa.select(sa.func.count(), sa.func.sum(sa.func.length(p.c.payload))))
    packed = tx.first(
        sa.select(
            sa.func.count(), sa.func.sum(k.c.spans), sa.func.sum(k.c.raw_bytes), sa.func.sum(k.c.packed_bytes),
            sa.func.count(k.c.url),
        )
    )  # fmt: skip
    return Payloads._make(_whole(each) for each in (*hot, *packed))


def waiting(tx: Tx) -> Waiting:
    """Work that a job has still to do."""

    def count(table: sa.Table, *where: Any) -> int:
        return tx.first(sa.select(sa.func.count()).select_from(table).where(*where))[0]

    return Waiting(
        count(t, t.c.unpacked == 1, t.c.end_time.is_not(None)),
        count(k, k.c.texts_by < texts.RULES_VERSION),
        count(t, t.c.project == deletion.DELETED),
    )


def _whole(number: Any) -> int:
    # PostgreSQL sums BIGINT into NUMERIC.
    return int(number or 0)
