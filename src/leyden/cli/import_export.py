"""`leyden import leyden`: an export put back, from a file, a folder of Parquet files, or a pipe."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from leyden.cli import export_files
from leyden.cli.safe_text import one_line
from leyden.cli.units import many
from leyden.sdk.client import Client

NAME = "leyden"
DOC = "an export of this program: a file, a folder, or - for standard input"
_PIECE_BYTES = 256 * 1024
_NAMED = 20


def load(client: Client, path: Path, show: Callable[[str], None]) -> bool:
    """Put one export into the store and say what became of it; whether all of it is there now."""
    answer = client.import_export(_shown(_pieces(path), show))
    added, unchanged = answer["added"], answer["unchanged"]
    same = f" {many(unchanged['rollout'], 'rollout')} unchanged." if unchanged["rollout"] else ""
    click.echo(f"Imported {many(added['rollout'], 'rollout')} with {many(added['span'], 'span')}.{same}")
    _tell(answer)
    return not answer["left"]


def _pieces(path: Path) -> Iterator[bytes]:
    if not path.is_dir():
        return export_files.pieces(path)
    from leyden.cli import export_parquet

    return _joined(export_parquet.lines(path))


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _shown(pieces: Iterator[bytes], show: Callable[[str], None]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        show(f"Importing … {size / 1e6:,.0f} MB")
        yield piece


def _tell(answer: dict[str, Any]) -> None:
    if not answer["left"]:
        return
    click.echo(f"Left {many(answer['left'], 'record')} as they are in the store:", err=True)
    for line in islice(answer["conflicts"], _NAMED):
        click.echo(f"  {one_line(line)}", err=True)
    if answer["left"] > _NAMED:
        click.echo(f"  … and {answer['left'] - _NAMED:,} more", err=True)
