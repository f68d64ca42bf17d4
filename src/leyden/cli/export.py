"""`leyden export`: a project out of a store, into a file, a folder or a pipe.

Memory stays flat, however large the store. A file appears under its name once it is complete; until then it is `NAME.partial`.
"""

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import click

from leyden.cli import export_files
from leyden.cli.main import Worded
from leyden.cli.progress import progress
from leyden.cli.session import connected, find_rollout, store_options
from leyden.cli.units import many, since
from leyden.errors import BadInput, LeydenError
from leyden.ingest.export_lines import decode
from leyden.types import RolloutStatus

Format = Literal["jsonl", "parquet", "otlp-json"]


@click.command("export", cls=Worded)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]…")
@click.option(
    "--format", "kind", type=click.Choice(["jsonl", "parquet", "otlp-json"]), default="jsonl", show_default=True,
    help="jsonl and parquet are complete and can be imported again; otlp-json has the spans alone.",
)  # fmt: skip
@click.option(
    "--out", default="-", show_default=True, metavar="FILE|DIR|-",
    help="Where to; - is standard output. Names in .gz and .zst are compressed. Parquet makes a folder.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option(
    "--since", "since_text", metavar="WHEN", help="Only rollouts that began after: 12h, 7d, 2026-03-14."
)
@click.option("--until", "until_text", metavar="WHEN", help="Only rollouts that began before.")
@click.option("--status", type=click.Choice([s.value for s in RolloutStatus]), help="Only these.")
@click.option("--mode", type=click.Choice(["train", "val", "test"]), help="Only these.")
@click.option("--agent", help="Only those of this agent.")
@click.option("--rollout", "ids", multiple=True, metavar="ID", help="Only this one; may be given again.")
@store_options
def command(
    filter_words: tuple[str, ...], kind: Format, out: str, force: bool, since_text: str | None, until_text: str | None, status: str | None, mode: str | None,
    agent: str | None, ids: tuple[str, ...], store: str | None, db: str | None,
) -> None:  # fmt: skip
    """Write rollouts with everything recorded of them to a file, a folder or a pipe.

    `leyden import leyden` reads it again, into any store; nothing is lost but keys, which never leave a store. With a filter the
    rollouts that match are written, and all resources; workers, prices, costs per day and findings go with the whole only. FILTER says
    which: docs/how-to/filter.md has its fields.

    \b
    Examples:
      leyden export --out backup.jsonl.zst
      leyden export --since 7d --format parquet --out week
      leyden export 'agent:support status:failed' --out failed.jsonl
      leyden export | leyden import leyden - --db other.db
    """
    if kind == "parquet" and out == "-":
        raise click.UsageError("Parquet is a folder of files: say where with --out DIR.")
    now = time.time()
    with connected(store, db) as client:
        which: dict[str, Any] = {
            "filter": " ".join(filter_words) or None,
            "since": since(since_text, now=now),
            "until": since(until_text, now=now),
            "status": status,
            "mode": mode,
            "agent": agent,
            "rollout_ids": [find_rollout(client, given) for given in ids] or None,
        }
        target = None if out == "-" else _free(Path(out), force=force)
        with ExitStack() as stack:
            # Opened first: nothing is asked of the store when there is nowhere to write.
            write = stack.enter_context(_writer(kind, target))
            show = stack.enter_context(_progress())
            over_wire = "otlp-json" if kind == "otlp-json" else "jsonl"
            pieces = stack.enter_context(client.export(format=over_wire, **which))
            passed = _Passed(pieces, show)
            write(passed)
            done = passed.check() if kind != "otlp-json" else ""
    if target is not None:
        click.echo(f"Exported {done or 'spans'} to {target}.", err=True)


def _free(target: Path, *, force: bool) -> Path:
    if target.exists() and not force:
        raise BadInput(f"{target} is already there", hint="give another name with --out, or --force")
    return target


Write = Callable[[Iterator[bytes]], None]


@contextmanager
def _writer(kind: Format, target: Path | None) -> Generator[Write]:
    """What writes an export; its file gets its name when the block ends well."""
    if target is None:
        out: Any = sys.stdout.buffer
        yield lambda pieces: _copy(pieces, out)
        return
    partial = target.with_name(target.name + ".partial")
    export_files.remove(partial)
    try:
        if kind == "parquet":
            from leyden.cli import export_parquet

            partial.mkdir(parents=True)
            with export_parquet.writing(partial) as write:
                yield write
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with export_files.writing(partial, target.suffix) as file:
                yield lambda pieces: _copy(pieces, file)
        if target.is_dir():
            export_files.remove(target)
        os.replace(partial, target)
    except BaseException:
        export_files.remove(partial)
        raise


def _copy(pieces: Iterator[bytes], file: Any) -> None:
    for piece in pieces:
        file.write(piece)
    file.flush()


class _Passed:
    """Pieces on their way, counted, with the last line kept."""

    def __init__(self, pieces: Iterator[bytes], show: Callable[[int], None]) -> None:
        self._pieces, self._show = pieces, show
        self._bytes = 0
        self._last = b""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._bytes += len(piece)
        self._show(self._bytes)
        end = piece.rfind(b"\n", 0, len(piece) - 1)
        if end >= 0:
            self._last = piece[end + 1 :]
        else:
            self._last = piece if self._last.endswith(b"\n") else self._last + piece
        return piece

    def check(self) -> str:
        """What was exported, for people. Raises what ended the export before its end."""
        line = decode(self._last) if self._last.endswith(b"\n") else None
        if line is None or line.noun not in ("end", "error"):
            raise LeydenError("The export broke off before its end", hint="try again")
        held = line.row[0]
        if line.noun == "error":
            raise LeydenError(f"The export broke off: {held.message}", held.hint)
        return f"{many(held.counts['rollout'], 'rollout')} with {many(held.counts['span'], 'span')}"


@contextmanager
def _progress() -> Generator[Callable[[int], None]]:
    with progress("Exporting …") as show:
        yield lambda count: show(f"Exporting … {count / 1e6:,.0f} MB")
