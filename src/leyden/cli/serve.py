"""Run the server in this process until it is told to stop: what `leyden up` and `agl store` share; and `leyden serve`.

An address that others reach is not bound while nobody has a key. The port is bound before anything starts, so one that is
taken is a plain message; the address is printed when requests are answered. SIGTERM ends it with exit code 0, Ctrl-C with
130; both let running requests finish. So does the end of its terminal (SIGHUP), unless it is to be ignored (`nohup`). A second Ctrl-C ends it
at once.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import click
import uvicorn

import leyden
from leyden.cli.safe_text import one_line
from leyden.cli.serving import IS_POSTGRES, LEVELS, chosen, server_options
from leyden.errors import BadInput
from leyden.server.app import create_app
from leyden.server.auth import check_bind
from leyden.server.context import Context
from leyden.server.port import bind, config, url_of
from leyden.server.process import collect_rarely, raise_open_files, share_arenas, switch_often
from leyden.settings import Settings

_INTERRUPTED = 130


def serve(settings: Settings, *, cors_origins: Sequence[str] = ()) -> None:
    """Serve until a signal. Raises LeydenError when the port is taken, a key is missing or the database does not open."""
    _log(settings.log_level)
    share_arenas()
    raise_open_files()
    switch_often()
    collect_rarely()
    _ = settings.roles_here
    check_bind(settings)
    listening = bind(settings.host, settings.port)
    try:
        settings = replace(settings, port=listening.getsockname()[1])
        signal.signal(signal.SIGTERM, _stop)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _hang_up)
        app = create_app(settings)
        app.context.cors_origins = frozenset(cors_origins)
        _Server(config(_with_cors(app, cors_origins)), settings, app.context).run(sockets=[listening])
    finally:
        listening.close()


def _stop(*_: object) -> NoReturn:
    sys.exit(0)


def _hang_up(*_: object) -> None:
    # To whoever hears of SIGTERM now: `_stop`, or uvicorn.
    signal.raise_signal(signal.SIGTERM)


def announce(settings: Settings, database: str) -> None:
    """Where the server is, what it writes to, and what to do next."""
    url, roles = url_of(settings), settings.roles_here
    click.secho(f"Leyden {leyden.__version__} listens on {url}", bold=True)
    click.echo(f"  database     {one_line(database)}")
    if "ingest" in roles:
        click.echo(f'  send traces  leyden.init("{url}") in Python; elsewhere')
        click.echo(f"               OTEL_EXPORTER_OTLP_ENDPOINT={url}")
    if "gateway" in roles:
        click.echo(f"  call models  OPENAI_BASE_URL={url}/v1")
        click.echo(f"               ANTHROPIC_BASE_URL={url}")
    if "api" in roles:
        click.echo(f"  analyse      leyden analyze --store {url}")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, settings: Settings, context: Context) -> None:
        super().__init__(config)
        self._settings, self._context = settings, context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            # Not by an exception, which would go off wherever the stop is now. What was acknowledged is in the database.
            os.write(sys.stderr.fileno(), b"Ended at once: what was not stored yet is lost.\n")
            os._exit(_INTERRUPTED)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        announce(self._settings, self._context.store.database.label)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Long polls and streams end at once; otherwise each stop would wait for them.
        self._context.drain()
        await super().shutdown(sockets)


def _with_cors(app: Any, origins: Sequence[str]) -> Any:
    if not origins:
        return app
    from starlette.middleware.cors import CORSMiddleware

    allowed = ["*"] if "*" in origins else list(origins)
    return CORSMiddleware(
        app, allow_origins=allowed, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"],
        allow_credentials=True,
    )  # fmt: skip


def _log(level: str) -> None:
    """Log to stderr. What libraries say about their own start and stop shows only at debug. Raises BadInput."""
    if level.lower() not in LEVELS:
        raise BadInput(f"{level!r} is no log level", hint=f"use {', '.join(LEVELS)}")
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    if level.lower() != "debug":
        for library in ("uvicorn", "alembic", "httpx"):
            logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


@click.command("serve")
@server_options
@click.option(
    "--roles",
    metavar="LIST",
    help="What this replica does: some of api, ingest, jobs.  [default: all; env: LEYDEN_ROLES]",
)
def command(
    host: str | None, port: int | None, db: str | None, postgres: str | None, config: str | None, log_level: str | None,
    roles: str | None,
) -> None:  # fmt: skip
    """Start one of several servers over one PostgreSQL, behind a load balancer.

    They share the work without a coordinator: claims never overlap, each background job runs on one of them and moves to
    another when that one dies, and what one commits wakes those who wait at any other.

    \b
    Examples:
      leyden serve --postgres postgresql://leyden@db/leyden --host 0.0.0.0
      leyden serve --postgres postgresql://leyden@db/leyden --port 4748 --roles ingest
    """
    given = chosen(host=host, port=port, db=db, postgres=postgres, config=config, log_level=log_level)
    settings = Settings.from_env(roles=roles, **given)
    if not settings.database_url.startswith(IS_POSTGRES):
        raise click.UsageError(
            "Replicas share a PostgreSQL: name it with --postgres. For one SQLite file use `leyden up`."
        )
    serve(settings)
