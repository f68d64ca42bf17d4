"""A connection of its own to PostgreSQL, outside every pool: for what lasts as long as its session (LISTEN, held locks).

Promises: each statement stands alone, and a partner that vanished without a word is noticed within seconds, on both sides.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from leyden.store.engine import KEEPALIVE, KEEPALIVE_S, Database


@contextmanager
def connect_alone(database: Database, *, name: str, idle_s: int = 0) -> Generator[Any]:
    """A psycopg connection that commits by itself and shows in `pg_stat_activity` as `name`.

    idle_s: PostgreSQL ends the session when it hears nothing for so long; 0 is never. Raises the driver's errors.
    """
    import psycopg

    given = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection: Any = psycopg.connect(given, autocommit=True, application_name=name, **KEEPALIVE)
    try:
        # Settings of the session, not of the address: an address may have options of its own.
        connection.execute(f"SET tcp_keepalives_idle = {KEEPALIVE_S}")
        connection.execute(f"SET tcp_keepalives_interval = {KEEPALIVE_S}")
        connection.execute("SET tcp_keepalives_count = 2")
        connection.execute(f"SET idle_session_timeout = {idle_s * 1000}")
        yield connection
    finally:
        connection.close()
