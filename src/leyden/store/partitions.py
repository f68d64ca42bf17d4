"""Spans in one table per day, on PostgreSQL, for those who store more than they want to delete row by row.

Opt-in and one way: `partition` turns `span` into a table partitioned by the day of `start_ns` (UTC). Spans without a start, and
those of days without a table of their own, lie in the default partition. Everything in the store works alike on both.
Promises: each function is one transaction that happens as a whole; no stored span is lost or counted twice.
Costs: `partition` copies the table while nobody writes. A span is known by its start too, so a span that is sent again with
another start is stored again. A query by rollout or by number looks into every partition; see docs/design/0004.
Refuses to know: which rollouts are due (`retention.py`).
"""

from collections.abc import Generator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.store import rollups
from leyden.store.engine import Tx

DAY_NS = 86_400_000_000_000
AHEAD_DAYS = 7
# Older days share the default partition when a database is partitioned: each table costs every query a look.
MOST_DAYS = 400
BATCH = 10_000
DEFAULT = "span_default"
# Who waits for a lock on `span` holds up everybody behind it, so a job rather tries again later.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '3s'"

INDEXES = (
    "CREATE INDEX ix_span_id ON span (id)",
    "CREATE UNIQUE INDEX uq_span_rollout_id_attempt_id_span_id ON span (rollout_id, attempt_id, span_id, start_ns) NULLS NOT DISTINCT",
    "CREATE INDEX ix_span_order ON span (rollout_id, attempt_id, sequence_id)",
    "CREATE INDEX ix_span_start ON span (start_ns)",
)


class Dropped(NamedTuple):
    """What became of a day: spans that are gone, and spans of kept rollouts that moved to the default partition."""

    dropped: int
    moved: int


def is_partitioned(tx: Tx) -> bool:
    """Whether spans lie in one table per day."""
    return not tx.is_sqlite and tx.driver("SELECT relkind FROM pg_class WHERE oid = 'span'::regclass") == [
        ("p",)
    ]


def days(tx: Tx) -> list[date]:
    """The days with a table of their own, oldest first; [] when spans are not partitioned."""
    if not is_partitioned(tx):
        return []
    children = "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'span'::regclass"
    names = [row[0] for row in tx.driver(children) if row[0].startswith("span_d")]
    return sorted(date.fromisoformat(name.removeprefix("span_d")) for name in names if name != DEFAULT)


def partition(tx: Tx, *, today: date) -> int:
    """Turn `span` into one table per stored day and a week ahead; how many days. Does nothing when that was done before.

    Copies every span: writers wait meanwhile, and the database needs room for the table twice. Raises BadInput on SQLite and
    on a PostgreSQL older than 15, which cannot keep spans without a start apart.
    """
    if tx.is_sqlite:
        raise BadInput("SQLite has no partitions", hint="they need PostgreSQL; see docs/how-to/postgresql.md")
    if tx.driver("SELECT current_setting('server_version_num')::int >= 150000") != [(True,)]:
        raise BadInput("Partitions need PostgreSQL 15 or newer", hint="upgrade it, or stay with one table")
    tx.driver("LOCK TABLE span IN ACCESS EXCLUSIVE MODE")
    if is_partitioned(tx):
        return len(days(tx))
    found = tx.driver(
        f"SELECT DISTINCT start_ns / {DAY_NS} FROM span WHERE start_ns >= 0 ORDER BY 1 DESC LIMIT {MOST_DAYS}"
    )
    wanted = {_day(number) for (number,) in found} | set(_week(today))
    tx.driver("ALTER TABLE span RENAME TO span_whole")
    tx.driver(
        "CREATE TABLE span (LIKE span_whole INCLUDING DEFAULTS INCLUDING STORAGE) PARTITION BY RANGE (start_ns)"
    )
    tx.driver("CREATE TABLE span_default PARTITION OF span DEFAULT")
    for day in sorted(wanted):
        tx.driver(f"CREATE TABLE {_name(day)} PARTITION OF span {_bounds(day)}")
    tx.driver("INSERT INTO span SELECT * FROM span_whole")
    tx.driver("DROP TABLE span_whole")
    for statement in INDEXES:  # after the copy: sorted once instead of row by row
        tx.driver(statement)
    return len(wanted)


def lacks(tx: Tx, *, today: date) -> list[date]:
    """The days of today and the next week that have no table yet; [] when spans are not partitioned."""
    known = set(days(tx))
    return [day for day in _week(today) if day not in known] if is_partitioned(tx) else []


def ahead(tx: Tx, *, today: date) -> int:
    """Make the tables of today and the next week that are missing; how many were. Nothing on an unpartitioned database.

    Spans of such a day that came early move out of the default partition.
    """
    missing = lacks(tx, today=today)
    if missing:
        tx.driver(LOCK_TIMEOUT)
    for day in missing:
        early = f"start_ns >= {_start_ns(day)} AND start_ns < {_start_ns(day) + DAY_NS}"
        tx.driver(f"CREATE TABLE {_name(day)} (LIKE span INCLUDING DEFAULTS INCLUDING STORAGE)")
        tx.driver(
            f"WITH gone AS (DELETE FROM span_default WHERE {early} RETURNING *) INSERT INTO {_name(day)} SELECT * FROM gone"
        )
        tx.driver(f"ALTER TABLE span ATTACH PARTITION {_name(day)} {_bounds(day)}")
    return len(missing)


def drop_day(tx: Tx, day: date, *, going: Sequence[str]) -> Dropped:
    """Drop a day's table with the spans of the rollouts that are going; spans of others move to the default partition.

    Takes what belongs to those spans along: payloads, search hits and their share of the rollups. What else the rollouts have
    (packs, attempts, spans of other days) the caller deletes next; it hides them first, so that nobody sees half of one.
    Nothing happens without a table of that day. The cost: each row is read once for the rollups, about as much as deleting
    three indexes' entries of it would be, and nothing is left to vacuum.
    """
    if day not in days(tx):
        return Dropped(0, 0)
    tx.driver(LOCK_TIMEOUT)
    name = _name(day)
    tx.driver(f"ALTER TABLE span DETACH PARTITION {name}")
    tx.driver("CREATE TEMP TABLE going (rollout_id TEXT PRIMARY KEY) ON COMMIT DROP")
    _fill(tx, going)
    kept = f"NOT EXISTS (SELECT 1 FROM going g WHERE g.rollout_id = {name}.rollout_id)"
    moving = f"WITH kept AS (DELETE FROM {name} WHERE {kept} RETURNING *) INSERT INTO span SELECT * FROM kept"
    moved = tx.run(sa.text(moving))
    dropped = _uncount(tx, name)
    tx.driver(f"DELETE FROM span_payload p USING {name} s WHERE p.id = s.id")
    _forget_messages(tx, name)
    tx.driver(f"DROP TABLE {name}")
    tx.driver("DROP TABLE going")
    return Dropped(dropped, moved)


def _fill(tx: Tx, going: Sequence[str]) -> None:
    add = sa.text("INSERT INTO going SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING")
    for some in (going[i : i + BATCH] for i in range(0, len(going), BATCH)):
        tx.run(add, {"ids": list(some)})


def _uncount(tx: Tx, name: str) -> int:
    """Take the spans of a detached day out of the rollups; how many there were. Memory holds one batch of them."""
    counted = 0

    def batches() -> Generator[tuple[str, int, list[Any]]]:
        nonlocal counted
        facts, last = ", ".join(rollups.FACTS), 0
        while True:
            select = f"SELECT id, project, {facts} FROM {name} WHERE id > {last} ORDER BY id LIMIT {BATCH}"
            rows = tx.driver(select)
            for project, some in groupby(sorted(rows, key=itemgetter(1)), key=itemgetter(1)):
                yield project, -1, [row[2:] for row in some]
            counted += len(rows)
            if len(rows) < BATCH:
                return
            last = rows[-1][0]

    # All at once: sums taken in several steps would be locked out of order.
    rollups.change(tx, rollups.totals(batches()))
    return counted


def _forget_messages(tx: Tx, name: str) -> None:
    """Remove the search hits of a detached day, and texts that nobody says any more."""
    hits = f"DELETE FROM message_hit h USING {name} s WHERE h.span_row = s.id RETURNING h.message_id"
    tx.driver("CREATE TEMP TABLE unsaid (id BIGINT) ON COMMIT DROP")
    tx.driver(f"WITH gone AS ({hits}) INSERT INTO unsaid SELECT DISTINCT message_id FROM gone")
    tx.driver("DELETE FROM unsaid u WHERE EXISTS (SELECT 1 FROM message_hit h WHERE h.message_id = u.id)")
    tx.driver("DELETE FROM message_index i USING unsaid u WHERE i.rowid = u.id")
    tx.driver("DELETE FROM message m USING unsaid u WHERE m.id = u.id")
    tx.driver("DROP TABLE unsaid")


def _week(today: date) -> list[date]:
    return [today + timedelta(days=n) for n in range(AHEAD_DAYS + 1)]


def _day(number: int) -> date:
    return datetime.fromtimestamp(number * 86_400, UTC).date()


def _start_ns(day: date) -> int:
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY_NS


def _name(day: date) -> str:
    return f"span_d{day:%Y%m%d}"


def _bounds(day: date) -> str:
    return f"FOR VALUES FROM ({_start_ns(day)}) TO ({_start_ns(day) + DAY_NS})"
