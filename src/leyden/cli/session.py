"""Which store a command works on: a running server, or a database opened in this process.

Owns the options `--store` and `--db` that every command has. What is given on the command line wins over the environment.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leyden.errors import MissingExtra, NotFound
from leyden.sdk.client import Client
from leyden.settings import ROLES, Settings

if TYPE_CHECKING:
    from leyden.store.opening import Store

F = TypeVar("F", bound=Callable[..., Any])

# Analysing a large store takes longer than any other request.
TIMEOUT_S = 600.0


def store_options(command: F) -> F:
    """Add `--store` and `--db`; the command receives both as `store` and `db`, None when not given."""
    command = click.option(
        "--db", metavar="PATH|URL", help="SQLite file or PostgreSQL URL to open here.  [env: LEYDEN_DB]"
    )(command)
    return click.option(
        "--store", metavar="URL", help="Address of a running server to ask instead.  [env: LEYDEN_URL]"
    )(command)


@contextmanager
def connected(store: str | None, db: str | None, *, must_exist: bool = True) -> Generator[Client]:
    """A client of the store that the options name.

    must_exist: refuse a SQLite file that is not there, instead of making an empty one. Raises click.UsageError when both
    options are given, NotFound, MissingExtra and what opening a database raises.
    """
    if store and db:
        raise click.UsageError("--store asks a server and --db opens a database here: give one of them.")
    settings = Settings.from_env(url=store, db=db)
    if settings.url and not db:
        if not settings.url.startswith(("http://", "https://")):
            raise click.UsageError(f"{settings.url!r} is no address of a server: write http://host:4747.")
        with Client(settings.url, key=settings.api_key, timeout_s=TIMEOUT_S) as client:
            yield client
        return
    if must_exist:
        _check_exists(settings.database_url)
    with server_packages():
        from leyden.server.app import create_app
    # Whoever can open the file needs no key; settings meant for the server must not lock its owner out.
    local = replace(settings, host="127.0.0.1", require_keys=False, roles=",".join(ROLES))
    with Client(app=create_app(local), key="", timeout_s=TIMEOUT_S) as client:
        yield client


@contextmanager
def server_packages() -> Generator[None]:
    """A block of imports; raises MissingExtra, with what to install, where one of them is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] == "leyden":
            raise
        raise MissingExtra(
            'Opening a database here needs: pip install "leyden[server]"',
            hint="to ask a running server, name it with --store",
        ) from error


def _check_exists(database: str) -> None:
    path = database.removeprefix("sqlite:///")
    if "://" in path or path == ":memory:" or Path(path).expanduser().exists():
        return
    raise NotFound(
        f"There is no database at {path}",
        hint="`leyden up` or `leyden import` makes one; --db names another, --store a running server",
    )


def db_option(command: F) -> F:
    """Add `--db` alone: for commands on the database itself, which no server can be asked for."""
    return click.option(
        "--db", metavar="PATH|URL", help="SQLite file or PostgreSQL URL to open here.  [env: LEYDEN_DB]"
    )(command)


def database_here(db: str | None) -> str:
    """The database that `--db` or the environment names. Raises click.UsageError when only a server is named."""
    settings = Settings.from_env(db=db)
    if settings.url and not settings.db:
        raise click.UsageError("LEYDEN_URL names a server, and this works on the database itself: add --db.")
    return settings.database_url


@contextmanager
def opened(db: str | None) -> "Generator[Store]":
    """The store itself, without a server over it. Raises NotFound, MissingExtra and what opening one raises."""
    url = database_here(db)
    _check_exists(url)
    from leyden.store.opening import open_store

    store = open_store(Settings.from_env(url="", db=url))
    try:
        yield store
    finally:
        store.close()


def find_rollout(client: Client, given: str) -> str:
    """The id of the one rollout that `given` is, or begins. Raises NotFound, also when several begin so."""
    if not given:
        raise NotFound("An empty id names no rollout", hint="`leyden rollouts` lists them")
    if client.rollouts(rollout_id_in=[given], limit=1).items:
        return given
    page = client.rollouts(rollout_id_contains=given, limit=1000)
    ids = [item.rollout_id for item in page.items if item.rollout_id.startswith(given)]
    return only(ids, given, noun="rollout", look="`leyden rollouts` lists them")


def only(ids: list[str], given: str, *, noun: str, look: str) -> str:
    """The one of `ids` that `given` names: itself, or the only one it begins. Raises NotFound with what to do."""
    if given in ids:
        return given
    if not ids:
        raise NotFound(f"No {noun} is or begins with {given!r}", hint=look)
    if len(ids) > 1:
        some = ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "")
        raise NotFound(f"{len(ids)} {noun}s begin with {given!r}", hint=f"give more of the id: {some}")
    return ids[0]
