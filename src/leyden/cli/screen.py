"""What a person sees: one console and one kind of table.

On a terminal: colour, and lines cut to its width. On a pipe: plain text, nothing cut, nothing animated.
Recorded text reaches rich as `Text` made by `safe_text`, never as markup.
"""

from collections.abc import Sequence
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leyden.cli.safe_text import one_line

# Wider than any row: on a pipe a table keeps every character.
_UNCUT = 100_000
_STYLES = {
    "succeeded": "green",
    "fixed": "green",
    "failed": "red",
    "high": "bold red",
    "medium": "yellow",
    "timeout": "red",
    "unresponsive": "red",
    "running": "cyan",
    "preparing": "cyan",
    "cancelled": "dim",
    "dismissed": "dim",
    "low": "dim",
}


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def screen(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console on stdout or stderr that guesses nothing about the text: no markup, no emoji codes, no highlighting."""
    return _Screen(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return screen().is_terminal


class Column:
    """One column: its title, whether it holds numbers, and whether it gives way when the terminal is narrow."""

    def __init__(self, title: str, *, number: bool = False, gives_way: bool = False) -> None:
        self.title, self.number, self.gives_way = title, number, gives_way


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table without lines. Cells are recorded text: made safe here."""
    console = screen()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=8 if column.gives_way else None,
            ratio=None,
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _cell(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
        return
    plain = screen(width=_UNCUT)
    with plain.capture() as lines:
        plain.print(table)
    click.echo("\n".join(line.rstrip() for line in lines.get().splitlines()))


def _cell(text: str) -> Text:
    return Text(one_line(text), style=_STYLES.get(text, ""))


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one under the other."""
    width = max(len(name) for name, _ in rows) + 2
    console = screen()
    for name, value in rows:
        line = Text(name.ljust(width), style="bold") + Text(one_line(value), style="not bold")
        say(line, console)


def say(text: str | Text, console: Console | None = None) -> None:
    """One line that is never wrapped; on a terminal it is cut with an ellipsis, on a pipe it is whole."""
    console = console or screen()
    line = Text(text) if isinstance(text, str) else text
    if console.is_terminal:
        console.print(line, no_wrap=True, overflow="ellipsis")
    else:
        click.echo(line.plain.rstrip())
