"""The port a server listens on: bound before anything starts, so that one which is taken is a plain message; and how uvicorn serves on it.

Refuses to know: what is served there, and until when.
"""

import errno
import socket
import sys
from typing import Any

import uvicorn

from leyden.errors import BadInput, LeydenError
from leyden.server.protocol import Protocol
from leyden.settings import Settings

# How long running requests may take to finish when the server stops.
GRACE_S = 5
_BACKLOG = 2048


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


def free_port(host: str) -> int:
    """A port that nobody listens on now. Raises LeydenError for a host that is none of this machine."""
    with bind(host, 0) as listening:
        return listening.getsockname()[1]


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


def config(app: Any) -> uvicorn.Config:
    """How an application is served on a socket that is bound already."""
    fast = sys.platform != "win32"
    return uvicorn.Config(
        app,
        loop="uvloop" if fast else "asyncio",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
