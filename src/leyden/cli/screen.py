"""What a person sees: one console and one kind of table.

On a terminal: colour, and lines cut to its width. On a pipe: plain text, nothing cut, nothing animated.
Recorded text reaches rich as `Text` made by `safe_text`, never as markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Column:
    """One column. On a narrow terminal one that `cuts` or `wraps` gives way first, then those that `may_go` are left out."""

    title: str
    number: bool = False
    cuts: bool = False
    wraps: bool = False
    may_go: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table without lines. Cells are recorded text: made safe here."""
    console = screen()
    cells = [[_cell(cell) for cell in row] for row in rows]
    wanted = [max(len(column.title), *(row[i].cell_len for row in cells)) for i, column in enumerate(columns)]
    widths = fit(columns, wanted, room=console.width if console.is_terminal else _UNCUT)
    shown = [i for i, width in enumerate(widths) if width]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    for i in shown:
        table.add_column(
            Text(columns[i].title),
            justify="right" if columns[i].number else "left",
            width=widths[i],
            no_wrap=not columns[i].wraps,
            overflow="fold" if columns[i].wraps else "ellipsis",
        )
    for row in cells:
        table.add_row(*(row[i] for i in shown))
    _print(table, console)


def fit(columns: Sequence[Column], wanted: Sequence[int], *, room: int) -> list[int]:
    """The width of each column so that all fit into `room`, where that can be had; 0 for one that is left out."""
    widths = list(wanted)

    def over() -> int:
        shown = [width for width in widths if width]
        return sum(shown) + _GAP * (len(shown) - 1) - room

    for i, column in enumerate(columns):
        if column.cuts or column.wraps:
            widths[i] = max(min(_NARROWEST, widths[i]), widths[i] - max(0, over()))
    for i in reversed(range(len(columns))):
        if columns[i].may_go and over() > 0:
            widths[i] = 0
    return widths


def _print(table: Table, console: Console) -> None:
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
    """Names and values, one under the other; a long value goes on in the next line of its column."""
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(one_line(value)))
    _print(table, screen())


def say(text: str) -> None:
    """A paragraph of recorded text: broken at words on a terminal, one line on a pipe."""
    console = screen()
    if console.is_terminal:
        console.print(Text(one_line(text)))
    else:
        click.echo(one_line(text))
