"""A line on stderr that says how far a long command is; on a terminal only."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from leyden.cli.screen import screen


@contextmanager
def progress(first: str) -> Generator[Callable[[str], None]]:
    """A function that changes what the line says; it vanishes when the block ends."""
    console = screen(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda text: bar.update(task, description=text)
