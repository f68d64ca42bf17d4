"""`agl store`: Agent Lightning's flags for the server that `leyden up` runs."""

import click

from leyden.cli.serve import serve
from leyden.settings import Settings

LEVELS = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False)


@click.command("store")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Address to bind; others than loopback need a key.  [default: 127.0.0.1; env: LEYDEN_HOST]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to bind; 0 takes a free one.  [default: 4747]"
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Allow pages of this origin; repeatable, * for all.",
)
@click.option("--log-level", type=LEVELS, help="How much to log.  [default: INFO]")
@click.option(
    "--backend",
    type=click.Choice(["sqlite", "memory", "mongo"]),
    default="sqlite",
    show_default=True,
    help="sqlite keeps everything in a file, memory forgets it at the end.",
)
@click.option("--db", metavar="PATH|URL", help="SQLite file or PostgreSQL URL.  [env: LEYDEN_DB]")
@click.option(
    "--n-workers",
    type=click.IntRange(1),
    default=1,
    help="Accepted for compatibility: one process serves all.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="Accepted for compatibility: /metrics is always served.",
)
@click.option("--mongo-uri", metavar="URI", hidden=True)
def command(
    host: str | None,
    port: int | None,
    cors_origins: tuple[str, ...],
    log_level: str | None,
    backend: str,
    db: str | None,
    n_workers: int,
    trackers: tuple[str, ...],
    mongo_uri: str | None,
) -> None:
    """Start the store, with the flags of Agent Lightning.

    \b
    Examples:
      agl store --port 4747
      agl store --backend memory --log-level DEBUG --cors-origin http://localhost:3000
    """
    if backend == "mongo" or mongo_uri:
        raise click.UsageError("There is no MongoDB backend: use --backend sqlite, or --db postgresql://…")
    if backend == "memory" and db:
        raise click.UsageError("--backend memory keeps nothing, --db names a database: give one of them.")
    if n_workers > 1:
        click.echo(f"--n-workers {n_workers}: one process serves all requests.", err=True)
    level = None if log_level is None else "error" if log_level.upper() == "CRITICAL" else log_level.lower()
    settings = Settings.from_env(
        host=host, port=port, db=":memory:" if backend == "memory" else db, log_level=level
    )
    serve(settings, cors_origins=cors_origins)
