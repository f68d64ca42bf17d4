"""The `leyden` command: its list of commands, and how every one of them ends.

A command's module loads when it is called, so `leyden --help` costs no database and no server, and works without extras.
No command prints a traceback: each error becomes one line that says what happened, and one that says what to do.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from leyden import __version__
from leyden.errors import LeydenError, MissingExtra

OK, FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 130, 141


class ReaderLeft(Exception):
    """Whoever read our output closed it (`leyden show … | head`): no error, nothing left to say."""


class Group(click.Group):
    """A group whose commands load on first use and whose errors end in one or two lines and an exit code."""

    def __init__(self, *args: Any, modules: dict[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order a newcomer meets them."""
        return [*self._modules, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. Raises MissingExtra when its packages are not installed."""
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        try:
            return import_module(self._modules[cmd_name][0]).command
        except ModuleNotFoundError as error:
            if not error.name or error.name.split(".")[0] == "leyden":
                raise
            raise MissingExtra(f'`leyden {cmd_name}` needs: pip install "leyden[server]"') from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone: nothing is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, doc) for name, (_, doc) in self._modules.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Raises ReaderLeft where click would make a broken pipe an error like any other."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def main(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run and exit. 0 fine, 1 an error, 2 a usage error, 130 interrupted, 141 the reader of our output left."""
        sys.exit(self._run(args, prog_name, extra | {"standalone_mode": False}))

    def _run(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        _print_anything()
        try:
            code = super().main(args, prog_name or self.name, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except (BrokenPipeError, ReaderLeft):
            # Python flushes stdout once more at exit; into the closed pipe that would print an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except Exception as error:
            if os.environ.get("LEYDEN_DEBUG"):
                traceback.print_exc()
            for line in describe(error):
                click.echo(line, err=True)
            return FAILED
        return code if isinstance(code, int) else OK


class Worded(click.Command):
    """A command that takes words of a query: where one that begins with - was read as an option, it says where such words go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was given. Raises click.NoSuchOption with a second line, unless an option was merely misspelt."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.possibilities:
                raise
            hint = f"words that begin with - go after --: {ctx.command_path} -- refund -test"
            raise click.NoSuchOption(error.option_name, f"{error.message}\n  {hint}", ctx=ctx) from error


def describe(error: Exception) -> list[str]:
    """An error as the lines a person reads."""
    from leyden.cli.safe_text import many_lines, one_line

    if isinstance(error, LeydenError):
        # A hint may point into a text: a line of it, and a caret below.
        return [
            f"Error: {one_line(error.message)}",
            *(f"  {line}" for line in many_lines(error.hint or "").splitlines()),
        ]
    if isinstance(error, OSError) and error.strerror:
        where = f": {one_line(str(error.filename))}" if error.filename else ""
        return [f"Error: {error.strerror}{where}"]
    return [
        f"Error: {type(error).__name__}: {one_line(str(error))[:300]}",
        "  This is a defect of Leyden; LEYDEN_DEBUG=1 shows where it happened.",
    ]


def _print_anything() -> None:
    # Recorded text may hold what the terminal's encoding lacks, such as half of a surrogate pair.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


COMMANDS = {
    "up": ("leyden.cli.up", "Start the server: store, OpenTelemetry collector, gateway, API."),
    "serve": ("leyden.cli.serve", "Start one of several servers over one PostgreSQL."),
    "gateway": ("leyden.cli.gateway", "Start a server for model calls alone."),
    "run": ("leyden.cli.run", "Run any program with its model calls recorded."),
    "import": ("leyden.cli.import_runs", "Load recorded runs from files."),
    "export": ("leyden.cli.export", "Write rollouts to files that can be imported again."),
    "rollouts": ("leyden.cli.rollouts", "List rollouts, newest first."),
    "spans": ("leyden.cli.spans", "List spans of all rollouts, newest first."),
    "show": ("leyden.cli.show", "Show one rollout as a tree of spans."),
    "search": ("leyden.cli.search", "Find spans by what they say."),
    "analyze": ("leyden.cli.analyze", "Say what goes wrong, how often, and what it costs."),
    "findings": ("leyden.cli.findings", "List what is worth fixing, and decide about it."),
    "metrics": ("leyden.cli.metrics", "Show spans, errors, latency and cost over time."),
    "costs": ("leyden.cli.costs", "Show what calls through the gateway cost; set prices."),
    "delete": ("leyden.cli.delete", "Delete rollouts with everything recorded of them."),
    "db": ("leyden.cli.db", "Look after the database: size, retention, check, backup."),
    "keys": ("leyden.cli.keys", "Create, list and revoke the keys of a server."),
    "info": ("leyden.cli.info", "Say which store this is and what it holds."),
}


@click.command(
    "leyden", cls=Group, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="leyden %(version)s")
def main() -> None:
    """Leyden stores what AI agents do and turns it into better agents.

    \b
    Start here:
      leyden up                       a server for any agent that speaks OpenTelemetry
      leyden import claude-code       or: the runs that are on this machine already
      leyden analyze                  what goes wrong in them

    A command works on the database of this machine, on another with --db, or on a running server with --store.
    """
