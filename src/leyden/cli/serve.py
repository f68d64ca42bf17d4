"""Run the server in this process until it is told to stop: what `leyden up` and `agl store` share; and `leyden serve`.

An address that others reach is not bound while nobody has a key. The port is bound before anything starts, so one that is
taken is a plain message; the address is printed when requests are answered. SIGTERM ends it with exit code 0, Ctrl-C with
130; both let running requests finish.
"""

import errno
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click
import uvicorn

import leyden
from leyden.cli.safe_text import one_line
from leyden.cli.serving import IS_POSTGRES, LEVELS, chosen, server_options
from leyden.errors import BadInput, LeydenError
from leyden.server.app import create_app
from leyden.server.auth import check_bind
from leyden.server.context import Context
from leyden.server.memory import share_arenas
from leyden.settings import Settings

# How long running requests may take to finish after a signal.
GRACE_S = 5
_BACKLOG = 2048


def serve(settings: Settings, *, cors_origins: Sequence[str] = ()) -> None:
    """Serve until a signal. Raises LeydenError when the port is taken, a key is missing or the database does not open."""
    _log(settings.log_level)
    share_arenas()
    _ = settings.roles_here
    check_bind(settings)
    listening = bind(settings.host, settings.port)
    try:
        settings = replace(settings, port=listening.getsockname()[1])
        signal.signal(signal.SIGTERM, _stop)
        app = create_app(settings)
        _Server(_config(_with_cors(app, cors_origins)), settings, app.context).run(sockets=[listening])
    finally:
        listening.close()


def _stop(*_: object) -> NoReturn:
    sys.exit(0)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises LeydenError that says why it cannot be had and what to do."""
    if not 0 <= port <= 65535:
        raise BadInput(f"{port} is no port", hint="give one from 0 to 65535; 0 takes a free one")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise LeydenError(
            f"{host!r} is no address of this machine", hint="give --host an IP address such as 127.0.0.1"
        ) from error
    listening = socket.socket(family, kind, proto)
    try:
        if sys.platform != "win32":  # there it would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _refused(error, host, port) from error
    return listening


def _refused(error: OSError, host: str, port: int) -> LeydenError:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 4747
        return LeydenError(
            f"Port {port} on {host} is already in use",
            hint=f"is another `leyden up` running? Otherwise choose another port: --port {other}",
        )
    if error.errno == errno.EACCES:
        return LeydenError(
            f"Port {port} needs more rights than you have", hint="choose one above 1023: --port 4747"
        )
    return LeydenError(
        f"Cannot bind {host} port {port}: {error.strerror}", hint="give --host an address of this machine"
    )


def url_of(settings: Settings) -> str:
    """The address to type on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def announce(settings: Settings, database: str) -> None:
    """Where the server is, what it writes to, and what to do next."""
    url = url_of(settings)
    click.secho(f"Leyden {leyden.__version__} listens on {url}", bold=True)
    click.echo(f"  database     {one_line(database)}")
    click.echo(f'  send traces  leyden.init("{url}") in Python; elsewhere')
    click.echo(f"               OTEL_EXPORTER_OTLP_ENDPOINT={url}")
    click.echo(f"  analyse      leyden analyze --store {url}")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, settings: Settings, context: Context) -> None:
        super().__init__(config)
        self._settings, self._context = settings, context

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


def _config(app: Any) -> uvicorn.Config:
    fast = sys.platform != "win32"
    return uvicorn.Config(
        app,
        loop="uvloop" if fast else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )


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
    host: str | None,
    port: int | None,
    db: str | None,
    postgres: str | None,
    log_level: str | None,
    roles: str | None,
) -> None:
    """Start one of several servers over one PostgreSQL, behind a load balancer.

    They share the work without a coordinator: claims never overlap, each background job runs on one of them and moves to
    another when that one dies, and what one commits wakes those who wait at any other.

    \b
    Examples:
      leyden serve --postgres postgresql://leyden@db/leyden --host 0.0.0.0
      leyden serve --postgres postgresql://leyden@db/leyden --port 4748 --roles ingest
    """
    given = chosen(host=host, port=port, db=db, postgres=postgres, log_level=log_level)
    settings = Settings.from_env(roles=roles, **given)
    if not settings.database_url.startswith(IS_POSTGRES):
        raise click.UsageError(
            "Replicas share a PostgreSQL: name it with --postgres. For one SQLite file use `leyden up`."
        )
    serve(settings)
