"""A connection of its own to PostgreSQL, outside every pool: for what lasts as long as its session (LISTEN, held locks).

Promises: each statement stands alone, and a partner that vanished without a word is noticed within seconds, on both sides.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from leyden.store.engine import Database

# Both sides ask each other over TCP after this many idle seconds, three times; a Unix socket knows by itself.
KEEPALIVE_S = 5
UNANSWERED_S = 15


@contextmanager
def connect_alone(database: Database, *, name: str, idle_s: int = 0) -> Generator[Any]:
    """A psycopg connection that commits by itself and shows in `pg_stat_activity` as `name`.

    idle_s: PostgreSQL ends the session when it hears nothing for so long; 0 is never. Raises the driver's errors.
    """
    import psycopg

    given = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    checks = f"-c tcp_keepalives_idle={KEEPALIVE_S} -c tcp_keepalives_interval={KEEPALIVE_S} -c tcp_keepalives_count=2"
    connection: Any = psycopg.connect(
        given,
        autocommit=True,
        application_name=name,
        connect_timeout=UNANSWERED_S,
        keepalives_idle=KEEPALIVE_S,
        keepalives_interval=KEEPALIVE_S,
        keepalives_count=2,
        tcp_user_timeout=UNANSWERED_S * 1000,
        options=f"{checks} -c idle_session_timeout={idle_s * 1000}",
    )
    try:
        yield connection
    finally:
        connection.close()
