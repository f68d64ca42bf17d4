"""The options that the commands share which start a server: `leyden up`, `leyden serve` and `leyden gateway`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

LEVELS = ("debug", "info", "warning", "error")
F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = [
    click.option(
        "--host", metavar="ADDRESS", help="Address to bind.  [default: 127.0.0.1; env: LEYDEN_HOST]"
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        help="Port to bind; 0 takes a free one.  [default: 4747; env: LEYDEN_PORT]",
    ),
    click.option(
        "--db",
        metavar="PATH|URL",
        help="SQLite file or PostgreSQL URL.  [default: leyden.db in your data directory; env: LEYDEN_DB]",
    ),
    click.option("--postgres", metavar="URL", help="The same as --db, for PostgreSQL."),
    click.option(
        "--config",
        metavar="FILE",
        help="The gateway's models and upstreams.  [default: ./leyden.yaml if there; env: LEYDEN_CONFIG]",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        help="How much to log.  [default: info; env: LEYDEN_LOG_LEVEL]",
    ),
]
IS_POSTGRES = ("postgres:", "postgresql:", "postgresql+psycopg:")


def server_options(command: F) -> F:
    """Add --host, --port, --db, --postgres, --config and --log-level; `chosen` makes settings of them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def chosen(
    *,
    host: str | None,
    port: int | None,
    db: str | None,
    postgres: str | None,
    config: str | None,
    log_level: str | None,
) -> dict[str, Any]:
    """The options as fields of Settings, None where the environment decides. Raises click.UsageError."""
    if db and postgres:
        raise click.UsageError("--db and --postgres both name the database: give one of them.")
    if postgres and not postgres.startswith(IS_POSTGRES):
        raise click.BadParameter("begins with postgresql://", param_hint="'--postgres'")
    level = log_level.lower() if log_level else None
    return {"host": host, "port": port, "db": postgres or db, "config": config, "log_level": level}
