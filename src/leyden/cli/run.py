"""`leyden run`: any program, unchanged, as one recorded rollout.

Owns: the story of such a rollout, from its announcement to its exit status. The program keeps its own stdin, stdout and stderr; what is
said here goes to stderr, at the end, in one line. Refuses to know: protocols of models, which are the gateway's business.
"""

import os
import shlex
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, cast

import click

from leyden.cli.run_environment import environment_of
from leyden.cli.run_program import Ended, NoProgram, find_program, run_program
from leyden.cli.run_record import Heartbeats, Run, account, begin, end
from leyden.cli.safe_text import one_line
from leyden.cli.session import server_packages, store_options
from leyden.errors import LeydenError
from leyden.sdk.client import Client
from leyden.sdk.wire import DEFAULT_URL
from leyden.settings import ROLES, Settings
from leyden.types import Mode

# Is a server on this machine there at all? It answers at once, or it is not one.
_LOOK_S = 2.0


# Everything behind the first word is the program's, options too.
@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--input", metavar="TEXT", help="The rollout's input.  [default: the command line]")
@click.option("--mode", type=click.Choice(["train", "val", "test"]), help="The rollout's mode.")
@click.option("--agent", metavar="NAME", help="The agent that the program is.")
@click.option("--name", metavar="NAME", help="A name for the rollout, kept in its metadata.")
@click.option("--reward-from-exit", is_flag=True, help="Reward 1 for exit status 0, else 0.")
@click.option(
    "--no-telemetry", is_flag=True, help="Do not tell the program's own OpenTelemetry where to send spans."
)
@click.option("--quiet", is_flag=True, help="Say nothing at the end.")
@store_options
def command(
    words: tuple[str, ...], input: str | None, mode: str | None, agent: str | None, name: str | None, reward_from_exit: bool,
    no_telemetry: bool, quiet: bool, store: str | None, db: str | None,
) -> int:  # fmt: skip
    """Run a program with its model calls recorded, as one rollout. Its exit status becomes the rollout's, and ours.

    The program finds the gateway in its environment (OPENAI_BASE_URL, ANTHROPIC_BASE_URL) and needs no change. It is recorded by
    the server of --store, else by one that runs on this machine, else by one that runs as long as the program does.

    \b
    Examples:
      leyden run -- python my_agent.py
      leyden run --agent coder --reward-from-exit -- claude -p "make the tests pass"
    """
    if not words:
        raise click.UsageError("Which program? `leyden run -- COMMAND` starts one.")
    find_program(words[0])
    with _place(store, db) as place:
        run = begin(place.client, words, input=input, mode=cast(Mode | None, mode), name=name, agent=agent)
        ended = _run(place, run, mode=mode, telemetry=not no_telemetry)
        told = _record(place, run, ended, is_rewarded=reward_from_exit)
    if not quiet:
        click.echo(f"leyden: {told}", err=True)
    return ended.exit_code


class _Place(NamedTuple):
    """Where the run is recorded. look: what `leyden show` must be told to find it there."""

    client: Client
    url: str
    look: str


def _run(place: _Place, run: Run, *, mode: str | None, telemetry: bool) -> Ended:
    environment = environment_of(
        os.environ,
        run.ids,
        url=place.url,
        key=place.client.wire.key,
        mode=mode,
        program=os.path.basename(run.words[0]),
        telemetry=telemetry,
    )
    try:
        with Heartbeats(place.client, run.ids):
            return run_program(run.words, environment)
    except NoProgram as error:
        end(place.client, run, Ended(error.exit_code), is_rewarded=False)
        raise


def _record(place: _Place, run: Run, ended: Ended, *, is_rewarded: bool) -> str:
    """Record the end, and say in a line what the run was. A server that went away meanwhile changes no exit status."""
    failed = "" if ended.is_success else f"{ended.reason}, "
    try:
        end(place.client, run, ended, is_rewarded=is_rewarded)
        return f"{failed}{account(place.client, run.ids)}; leyden show {run.ids.rollout_id}{place.look}"
    except LeydenError as error:
        return f"{failed}the end of {run.ids.rollout_id} could not be recorded: {one_line(error.message)}"


@contextmanager
def _place(store: str | None, db: str | None) -> Generator[_Place]:
    """The server that records: named, running on this machine, or started for as long as the block runs."""
    if store and db:
        raise click.UsageError("--store asks a server and --db opens a database here: give one of them.")
    settings = Settings.from_env(url=store, db=db)
    if settings.url and not db:
        with Client(settings.url, key=settings.api_key) as client:
            yield _Place(client, client.url, f" --store {client.url}" if store else "")
    elif _is_served(settings):
        with Client(DEFAULT_URL, key=settings.api_key) as client:
            yield _Place(client, client.url, f" --store {client.url}")
    else:
        with server_packages():
            from leyden.server.background import BackgroundServer
        # Whoever can open the file needs no key; settings meant for a server must not lock its owner out.
        local = replace(settings, host="127.0.0.1", port=0, require_keys=False, roles=",".join(ROLES), url="")
        with BackgroundServer(local) as server, Client(server.url, key="") as client:
            yield _Place(client, server.url, f" --db {shlex.quote(db)}" if db else "")


def _is_served(settings: Settings) -> bool:
    """Whether a server runs at the default address that writes to the database which was named, if one was."""
    try:
        with Client(DEFAULT_URL, key=settings.api_key, timeout_s=_LOOK_S) as client:
            client.health()
            return not settings.db or client.info().get("database") == settings.db
    except LeydenError:
        return False
