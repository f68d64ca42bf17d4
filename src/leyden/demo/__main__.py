"""`python -m leyden.demo`."""

import os
import signal
import sys
from typing import NoReturn

import click

from leyden.demo.run import run
from leyden.errors import LeydenError


@click.command("python -m leyden.demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--tasks", "count", type=click.IntRange(1, 5000), default=40, show_default=True, help="Requests to serve."
)
@click.option("--keep", is_flag=True, help="Leave the server up, and say how to stop it.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of the server; 0 takes a free one."
)
@click.option("--store", metavar="URL", help="Record to this running server instead of starting one.")
@click.option("--stream", is_flag=True, help="Ask the model for streamed answers.")
@click.option("--mended", is_flag=True, help="Describe the tools rightly: the fault the demo finds is gone.")
def main(count: int, keep: bool, port: int, store: str | None, stream: bool, mended: bool) -> None:
    """An agent books meeting rooms; Leyden says what it does wrong. Offline unless OPENAI_BASE_URL is set."""
    # Ended by a signal, it still stops its server.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        run(count=count, keep=keep, port=port, store=store, stream=stream, mended=mended)
    except LeydenError as error:
        click.echo(f"Error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes stdout once more at exit; into the closed pipe that would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
