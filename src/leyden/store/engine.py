"""One open database, and everything in which SQLite and PostgreSQL differ.

Owns: connecting, pragmas, transactions, translating driver errors, and the few words of SQL that are not the same.
Promises: a `Tx` behaves alike on both; nothing above asks which database it runs on. Refuses to know: tables and their meaning.

SQLite: one connection writes (the writer thread's), any number read. An in-memory database has a single connection that
readers and the writer take in turns.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from leyden.errors import BadInput, MissingExtra
from leyden.store import notices
from leyden.store.driver_errors import translated
from leyden.store.sql import Statement

# PostgreSQL takes this from 64 rows on; below that the extra statements cost more than they save.
COPY_FROM_ROWS = 64
# The write-ahead log of SQLite keeps at most this much of the disk, in bytes, once its readers let it.
LOG_BYTES = 64 * 2**20


# A PostgreSQL that vanished without a word (a pulled cable, a lost container) is noticed within about 15 seconds. A Unix socket
# knows by itself.
KEEPALIVE_S = 5
KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 3 * KEEPALIVE_S,
    "keepalives_idle": KEEPALIVE_S,
    "keepalives_interval": KEEPALIVE_S,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000 * KEEPALIVE_S,
}


class Tx:
    """A transaction or a read: what every store function takes first.

    `notices` say what changed ("queue:default", a StoreEvent); PostgreSQL tells the other replicas with the commit, and the
    writer its listeners after it.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.dialect = connection.dialect
        self.is_sqlite = connection.dialect.name == "sqlite"
        self.notices = notices.Notices()
        self._later: dict[Callable[[Tx, list[Any]], None], list[Any]] = {}
        self._raw: Any = connection.connection.dbapi_connection
        self._cursor: Any = (
            self._raw.cursor()
        )  # one for all: every statement's rows are fetched before the next

    def all(self, statement: sa.Executable, params: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Every row of a Core statement."""
        return self.connection.execute(statement, params or {}).all()

    def first(self, statement: sa.Executable, params: Mapping[str, Any] | None = None) -> Any:
        """The first row of a Core statement, or None."""
        return self.connection.execute(statement, params or {}).first()

    def run(self, statement: sa.Executable, params: Any = None) -> int:
        """Execute a Core statement that returns no rows; the number of rows it touched."""
        return (
            self.connection.execute(statement, params).rowcount
            if params is not None
            else self.connection.execute(statement).rowcount
        )

    def hot(self, statement: Statement, /, **params: Any) -> list[Any]:
        """Run a prepared statement on the driver; its rows as plain tuples, [] when it returns none."""
        cursor = self._execute(statement, params)
        return list(cursor.fetchall()) if cursor.description else []

    def hot_count(self, statement: Statement, /, **params: Any) -> int:
        """Run a prepared statement on the driver; how many rows it touched."""
        return self._execute(statement, params).rowcount

    def _execute(self, statement: Statement, params: dict[str, Any]) -> DBAPICursor:
        sql, names, constants = statement.on(self.dialect)
        values = {**constants, **params} if constants else params
        self._cursor.execute(sql, [values[n] for n in names] if self.is_sqlite else values)
        return self._cursor

    def driver(self, sql: str) -> list[Any]:
        """Run plain SQL without parameters on the driver."""
        self._cursor.execute(sql)
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def rows_by_id(self, columns: Sequence[sa.Column[Any]], ids: Sequence[int]) -> list[Any]:
        """Rows of one table by its integer key `id`, in no order. Thousands cost one statement."""
        names, table = ", ".join(column.name for column in columns), columns[0].table
        # One parameter, not one for each number, and one statement, not one for each list: the driver keeps hundreds of those.
        if self.is_sqlite:
            sql, numbers = "SELECT value FROM json_each(?)", f"[{','.join(map(str, ids))}]"
        else:
            sql, numbers = "SELECT unnest(%s::bigint[])", list(ids)
        self._cursor.execute(f"SELECT {names} FROM {table} WHERE id IN ({sql})", [numbers])
        return list(self._cursor.fetchall())

    def insert_new(self, table: sa.Table, rows: list[tuple[Any, ...]], *, key: str = "id") -> set[int] | None:
        """Insert rows (tuples in column order, integer `key` first), leaving out those that conflict.

        Returns None when all of them are new, else the keys of those that are.
        """
        if self.is_sqlite:
            return self._insert_sqlite(table, rows, key)
        return self._insert_postgres(table, rows, key)

    def _insert_sqlite(self, table: sa.Table, rows: list[tuple[Any, ...]], key: str) -> set[int] | None:
        marks = ",".join("?" * len(table.columns))
        cursor = self._cursor
        cursor.executemany(f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT DO NOTHING", rows)
        if cursor.rowcount == len(rows):
            return None
        low, high = rows[0][0], rows[-1][0]
        cursor.execute(f"SELECT {key} FROM {table.name} WHERE {key} BETWEEN ? AND ?", (low, high))
        return {row[0] for row in cursor.fetchall()}

    def _insert_postgres(self, table: sa.Table, rows: list[tuple[Any, ...]], key: str) -> set[int] | None:
        cursor = self._raw.cursor()
        if len(rows) < COPY_FROM_ROWS:
            marks = ",".join(["%s"] * len(table.columns))
            cursor.executemany(
                f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT DO NOTHING RETURNING {key}",
                rows,
                returning=True,
            )
            new: set[int] = set()
            while True:
                new.update(row[0] for row in cursor.fetchall())
                if not cursor.nextset():
                    break
        else:
            staging = f"{table.name}_staging"
            cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table.name})")
            with cursor.copy(f"COPY {staging} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(
                f"INSERT INTO {table.name} SELECT * FROM {staging} ON CONFLICT DO NOTHING RETURNING {key}"
            )
            new = {row[0] for row in cursor.fetchall()}
            cursor.execute(f"TRUNCATE {staging}")
        return None if len(new) == len(rows) else new

    def next_ids(self, table: sa.Table, count: int) -> range | list[int]:
        """`count` fresh values for the integer key of `table`."""
        if self.is_sqlite:
            # Safe because the writer holds the only write lock from BEGIN IMMEDIATE on.
            last = self.driver(f"SELECT coalesce(max(id), 0) FROM {table.name}")[0][0]
            return range(last + 1, last + 1 + count)
        rows = self.driver(f"SELECT nextval('{table.name}_id_seq') FROM generate_series(1, {count})")
        return [row[0] for row in rows]

    def later(self, function: "Callable[[Tx, list[Any]], None]", items: Iterable[Any]) -> None:
        """Hand `items` to `function` just before the commit, together with what other changes of the group hand it.

        What a change that is undone handed over is undone with it. One call for a whole group: sums of many small writes
        cost one update, and a row that every group touches is locked for the moment of the commit only.
        """
        self._later.setdefault(function, []).extend(items)

    def finish(self) -> None:
        """Run what was put off with `later`. The writer's transaction calls it before it commits."""
        while self._later:
            function, items = self._later.popitem()
            function(self, items)

    def commit(self, *, sender: str) -> None:
        """Commit, telling the other replicas what changed. The writer's transaction ends so."""
        if self.is_sqlite or not self.notices:
            self._cursor.execute("COMMIT")
        else:  # several statements in one text cannot be prepared
            self._cursor.execute(notices.commit(self.notices, sender=sender), prepare=False)

    def close(self) -> None:
        """Let go of the driver's cursor, in the thread that used it.

        A failure's traceback holds its transaction, and is freed by whichever thread collects garbage. Freeing a cursor waits for its
        connection, which SQLite keeps while it waits for a lock: an event loop would stand still for all of that time.
        """
        with suppress(Exception):  # a connection that was cut
            self._cursor.close()

    def take_turns(self, name: str) -> None:
        """Wait until no other replica is between here and its commit under this name. SQLite has one writer anyway."""
        if not self.is_sqlite:
            self.first(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Undo what happened inside when it raises; the transaction itself goes on."""
        self.driver("SAVEPOINT one")
        held = {function: len(items) for function, items in self._later.items()}
        try:
            yield
        except BaseException:
            for function, items in self._later.items():
                del items[held.get(function, 0) :]
            if self.is_open:
                self.driver("ROLLBACK TO one")
                self.driver("RELEASE one")
            raise
        self.driver("RELEASE one")

    @property
    def is_open(self) -> bool:
        """False once the database itself has thrown the transaction away (disk full, connection lost)."""
        if self.is_sqlite:
            return bool(self._raw.in_transaction)
        return not self.is_cut and self._raw.info.transaction_status != 0

    @property
    def is_cut(self) -> bool:
        """Whether the connection to PostgreSQL is gone."""
        return not self.is_sqlite and bool(self._raw.closed)


class Database:
    """An open database. Use `open_database`; `read()` from any thread, `begin()` from the writer thread alone."""

    def __init__(self, engine: sa.Engine, readers: sa.Engine, *, label: str, shared: bool) -> None:
        self.engine = engine
        self.readers = readers
        self.label = label  # without a password, for people
        self.name = uuid4().hex[:12]  # by which a replica knows its own notices
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._shared = threading.RLock() if shared else None
        self._connection: sa.Connection | None = None

    @contextmanager
    def read(self) -> Generator[Tx]:
        """A connection for queries. Raises StoreBusy, StoreError."""
        with translated(self.label):
            if self._shared is not None:
                with self._shared, closing(Tx(self._writing())) as tx:
                    yield tx
                return
            with self.readers.connect() as connection, closing(Tx(connection)) as tx:
                yield tx

    @contextmanager
    def snapshot(self) -> Generator[Tx]:
        """A read whose statements all see one moment. Keep it short: SQLite's log grows while it lasts. Raises as `read`."""
        with self.read() as tx:
            tx.driver("BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield tx
            finally:
                tx.driver("ROLLBACK")

    @contextmanager
    def begin(self) -> Generator[Tx]:
        """A write transaction: committed when the block ends, undone when it raises. Raises StoreBusy, StoreFull, StoreError."""
        with translated(self.label), self._shared or nullcontext():
            tx = self._begun()
            try:
                yield tx
                tx.finish()
                tx.commit(sender=self.name)
            except BaseException:
                self._roll_back(tx)
                raise
            finally:
                tx.close()

    def _begun(self) -> Tx:
        """A transaction that has begun, on a new connection when the old one was cut since the last."""
        tx = Tx(self._writing())
        try:
            tx.driver("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN")
        except Exception:
            tx.close()
            if not self._forget_if_cut(tx):
                raise
            tx = Tx(self._writing())
            tx.driver("BEGIN")
        return tx

    def _forget_if_cut(self, tx: Tx) -> bool:
        if self.is_sqlite or self._connection is None or not tx.is_cut:
            return False
        self._connection.invalidate()
        self._connection.close()
        self._connection = None
        return True

    def _writing(self) -> sa.Connection:
        if self._connection is None or self._connection.invalidated:
            self._connection = self.engine.connect()
        return self._connection

    def _roll_back(self, tx: Tx) -> None:
        try:
            if tx.is_open:
                tx.driver("ROLLBACK")
        except Exception:
            pass  # a connection that cannot even roll back is gone, and its transaction with it; the caller hears the first error
        self._forget_if_cut(tx)

    def ping(self) -> None:
        """Ask the database for an answer. Raises StoreBusy, StoreError when it gives none."""
        with self.read() as tx:
            tx.driver("SELECT 1")

    def checkpoint(self, *, patience_s: float | None = None) -> int:
        """Copy SQLite's write-ahead log into the file from another connection; pages the log holds. 0 elsewhere.

        The log starts again from its beginning only when a write finds all of it copied and nobody reading it. With
        `patience_s` those who read it are waited for, at most so long; who begins to read meanwhile reads the file. For the
        writer's thread: whoever wants to write waits too.
        """
        if not self.is_sqlite or self._shared is not None:
            return 0
        mode = "PASSIVE" if patience_s is None else "RESTART"
        with translated(self.label), self.readers.connect() as connection:
            # A connection that has read nothing yet does not know that there is a log, and would copy none of it.
            connection.exec_driver_sql("PRAGMA schema_version").one()
            usual = connection.exec_driver_sql("PRAGMA busy_timeout").one()[0]
            connection.exec_driver_sql(f"PRAGMA busy_timeout={round((patience_s or 0) * 1000)}").one()
            try:
                _busy, pages, _copied = connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})").one()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={usual}").one()
            return max(0, pages)

    def close(self) -> None:
        """Close every connection."""
        if self._connection is not None:
            with suppress(DBAPIError):  # cut by the other side
                self._connection.close()
            self._connection = None
        self.engine.dispose()
        self.readers.dispose()


def open_database(
    url: str, *, busy_timeout_s: float = 10.0, synchronous: str = "NORMAL", readers: int = 16
) -> Database:
    """Open a SQLite path, ":memory:" or a `postgresql://` URL. Does not create tables: see `migrations`.

    Raises BadInput for a URL of another kind, MissingExtra without psycopg, StoreError when the file cannot be opened.
    """
    if url.startswith(("postgresql:", "postgres:", "postgresql+psycopg:")):
        return _open_postgres(url, readers=readers)
    if "://" in url and not url.startswith("sqlite:"):
        raise BadInput(
            f"Database {url.split('://')[0]}:// is not one Leyden speaks",
            hint="give a file path or postgresql://user@host/name",
        )
    return _open_sqlite(
        url.removeprefix("sqlite:///"),
        busy_timeout_s=busy_timeout_s,
        synchronous=synchronous,
        readers=readers,
    )


def _open_sqlite(path: str, *, busy_timeout_s: float, synchronous: str, readers: int) -> Database:
    memory = path == ":memory:"
    if not memory:
        file = Path(path).expanduser().absolute()
        path = str(file)
        with translated(path):
            file.parent.mkdir(parents=True, exist_ok=True)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # The page size takes effect only before the first table is made; on an existing file it changes nothing.
        connection.execute("PRAGMA page_size=8192")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def connect_writer() -> sqlite3.Connection:
        connection = connect()
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if synchronous.upper() == 'FULL' else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint=0" if not memory else "PRAGMA wal_autocheckpoint=1000")
        # A reader that stays for minutes lets the log grow; when it has gone, the file is cut back to this.
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        connection.execute("PRAGMA cache_size=-32768")
        # Every savepoint keeps a journal of its pages; on disk it is a file made and removed for each group of writes.
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    def connect_reader() -> sqlite3.Connection:
        connection = connect()
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cache_size=-8192")
        return connection

    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    writer = sa.create_engine("sqlite://", creator=connect_writer, poolclass=StaticPool, **options)
    if memory:
        return Database(writer, writer, label=":memory:", shared=True)
    reader = sa.create_engine(
        "sqlite://",
        creator=connect_reader,
        poolclass=QueuePool,
        pool_use_lifo=True,  # each connection has a cache: few that are used often hold less than many in turn
        pool_size=readers,
        max_overflow=readers,
        **options,
    )
    return Database(writer, reader, label=path, shared=False)


def _open_postgres(url: str, *, readers: int) -> Database:
    try:
        import psycopg  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtra(
            "PostgreSQL needs the package psycopg", hint='pip install "leyden[postgres]"'
        ) from None
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT", "pool_pre_ping": True, "connect_args": {**KEEPALIVE, "application_name": "leyden"},
    }  # fmt: skip
    writer = sa.create_engine(address, pool_size=1, max_overflow=2, **options)
    reader = sa.create_engine(address, pool_size=readers, max_overflow=readers, **options)
    return Database(writer, reader, label=address.render_as_string(hide_password=True), shared=False)
