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
_GAP = 2
_NARROWEST = 8
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
    """One column: its title, whether it holds numbers, and whether it (one of them) gives way on a narrow terminal.

    What gives way is cut, or goes on in the next line when it `wraps`.
    """

    def __init__(
        self, title: str, *, number: bool = False, gives_way: bool = False, wraps: bool = False
    ) -> None:
        self.title, self.number, self.gives_way, self.wraps = title, number, gives_way or wraps, wraps


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table without lines. Cells are recorded text: made safe here."""
    console = screen()
    cells = [[cell if isinstance(cell, Text) else _cell(cell) for cell in row] for row in rows]
    widths = [max(len(column.title), *(row[i].cell_len for row in cells)) for i, column in enumerate(columns)]
    over = sum(widths) + _GAP * (len(columns) - 1) - console.width
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    for column, width in zip(columns, widths, strict=True):
        given_way = max(0, over) if column.gives_way and console.is_terminal else 0
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            width=max(_NARROWEST, width - given_way) if given_way else width,
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
        )
    for row in cells:
        table.add_row(*row)
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
