"""`leyden up`: the server on one port."""

import click

from leyden.cli.serve import LEVELS, serve
from leyden.settings import Settings


@click.command("up")
@click.option("--host", metavar="ADDRESS", help="Address to bind.  [default: 127.0.0.1; env: LEYDEN_HOST]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to bind; 0 takes a free one.  [default: 4747; env: LEYDEN_PORT]",
)
@click.option(
    "--db",
    metavar="PATH|URL",
    help="SQLite file or PostgreSQL URL.  [default: leyden.db in your data directory; env: LEYDEN_DB]",
)
@click.option("--postgres", metavar="URL", help="The same as --db, for PostgreSQL.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="How much to log.  [default: info; env: LEYDEN_LOG_LEVEL]",
)
def command(
    host: str | None, port: int | None, db: str | None, postgres: str | None, log_level: str | None
) -> None:
    """Start the server: store, OpenTelemetry collector and API on one port.

    It serves this machine without keys. To serve others, make a key first and bind another address.

    \b
    Examples:
      leyden up
      leyden up --port 45993 --db ./runs.db
      leyden keys create --name ops --scope admin && leyden up --host 0.0.0.0
    """
    if db and postgres:
        raise click.UsageError("--db and --postgres both name the database: give one of them.")
    if postgres and not postgres.startswith(("postgres:", "postgresql:", "postgresql+psycopg:")):
        raise click.BadParameter("begins with postgresql://", param_hint="'--postgres'")
    level = log_level.lower() if log_level else None
    serve(Settings.from_env(host=host, port=port, db=postgres or db, log_level=level))
