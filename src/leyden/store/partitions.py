"""Spans in one table per day, on PostgreSQL, for those who store more than they want to delete row by row.

Opt-in and one way: `partition` turns `span` into a table partitioned by the day of `start_ns` (UTC). Spans without a start, and
those of days without a table of their own, lie in the default partition. Everything in the store works alike on both.
Promises: each step happens as a whole; no stored span is lost or counted twice.
Costs: `partition` copies the table while nobody writes. A span is known by its start too, so a span that is sent again with
another start is stored again. A query by rollout or by number looks into every partition; see docs/design/0004.
Refuses to know: which rollouts are due (`retention.py`).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.store import indexing, recount
from leyden.store.driver_errors import translated
from leyden.store.engine import Database, Tx

DAY_NS = 86_400_000_000_000
AHEAD_DAYS = 7
# Older days share the default partition when a database is partitioned: each table costs every query a look.
MOST_DAYS = 400
BATCH = 10_000
DEFAULT = "span_default"
GONE = "span_gone_"
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
    views = tx.driver("SELECT viewname, definition FROM pg_views WHERE schemaname = current_schema()")
    for name, _ in views:  # they look at the table by its number and would keep the old one
        tx.driver(f"DROP VIEW {name}")
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
    for name, definition in views:
        tx.driver(f"CREATE VIEW {name} AS {definition}")
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


def drop_day(database: Database, day: date, *, going: Sequence[str]) -> Dropped:
    """Take a day's table out of `span` with the spans of the rollouts that are going; spans of others move to the default partition.

    One short transaction of its own: it costs what is moved, for the rollups of that day are counted anew from what is left.
    Nobody finds the spans from then on; `clear` lets go of what belongs to them. What else the rollouts have (packs, attempts,
    spans of other days) the caller deletes; it hides them first, so that nobody sees half of one. Raises StoreError when
    somebody holds `span` for too long: try again later.
    """
    with _alone(database) as tx:
        if day not in days(tx):
            return Dropped(0, 0)
        tx.driver(LOCK_TIMEOUT)
        # With this lock no span is stored whose share of the rollups is not committed yet.
        tx.driver("LOCK TABLE span IN ACCESS EXCLUSIVE MODE")
        gone = _name(day).replace("span_d", GONE)
        tx.driver(f"ALTER TABLE span DETACH PARTITION {_name(day)}")
        tx.driver(f"ALTER TABLE {_name(day)} RENAME TO {gone}")
        _fill(tx, going)
        kept = f"NOT EXISTS (SELECT 1 FROM going g WHERE g.rollout_id = {gone}.rollout_id)"
        moving = (
            f"WITH kept AS (DELETE FROM {gone} WHERE {kept} RETURNING *) INSERT INTO span SELECT * FROM kept"
        )
        moved = tx.run(sa.text(moving))
        recount.correct_day(tx, _start_ns(day) // 10**9)
        return Dropped(tx.driver(f"SELECT count(*) FROM {gone}")[0][0], moved)


def clear(tx: Tx, *, limit: int = 500) -> bool:
    """Let go of payloads and search hits of up to `limit` dropped spans; False when nothing is left to do.

    The dropped table is the list of what is to be done, so that a crash in between forgets nothing.
    """
    if tx.is_sqlite:
        return False
    names = tx.driver(
        f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '{GONE}%' ORDER BY 1 LIMIT 1"
    )
    if not names:
        return False
    name = names[0][0]
    some = f"SELECT ctid FROM {name} LIMIT {limit} FOR UPDATE SKIP LOCKED"
    ids = [row[0] for row in tx.driver(f"DELETE FROM {name} WHERE ctid IN ({some}) RETURNING id")]
    if not ids:
        tx.driver(f"DROP TABLE IF EXISTS {name}")
        return True
    indexing.forget(tx, ids)
    tx.driver(f"DELETE FROM span_payload WHERE id IN ({','.join(map(str, ids))})")
    return True


def worth_dropping(tx: Tx, *, before: date, going_spans: int) -> list[date]:
    """Days before `before` of whose spans most belong to rollouts that are being deleted (of project ""), oldest first.

    going_spans: how many spans those rollouts have; larger days are not looked at, for a look reads the day.
    """
    found: list[date] = []
    for day in days(tx):
        if day >= before:
            break
        guess = tx.driver(f"SELECT reltuples FROM pg_class WHERE relname = '{_name(day)}'")[0][0]
        if guess > 2 * going_spans:
            continue
        mine = "count(*) FILTER (WHERE r.project = '')"
        going, all_ = tx.driver(
            f"SELECT {mine}, count(*) FROM {_name(day)} s LEFT JOIN rollout r USING (rollout_id)"
        )[0]
        if going * 2 > all_:
            found.append(day)
    return found


@contextmanager
def _alone(database: Database) -> Generator[Tx]:
    """A transaction beside the writer's: nothing of another change is in it."""
    with translated(database.label), database.readers.connect() as connection:
        tx = Tx(connection)
        tx.driver("BEGIN")
        try:
            yield tx
            tx.driver("COMMIT")
        except BaseException:
            if tx.is_open:
                tx.driver("ROLLBACK")
            raise


def _fill(tx: Tx, going: Sequence[str]) -> None:
    tx.driver("CREATE TEMP TABLE going (rollout_id TEXT PRIMARY KEY) ON COMMIT DROP")
    add = sa.text("INSERT INTO going SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING")
    for some in (going[i : i + BATCH] for i in range(0, len(going), BATCH)):
        tx.run(add, {"ids": list(some)})


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
