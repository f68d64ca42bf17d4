"""`leyden import`: recorded runs from files into the store.

Every run that can be read and stored is; what cannot is named. Importing the same files again changes nothing.
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from leyden.cli import import_export
from leyden.cli.main import FAILED, OK
from leyden.cli.progress import progress
from leyden.cli.safe_text import one_line
from leyden.cli.session import connected, store_options
from leyden.cli.units import many
from leyden.errors import BadInput, LeydenError
from leyden.ingest.readers import READERS, BadRecord, Reader
from leyden.ingest.record import RecordedRun
from leyden.sdk.client import Client

SKIPPED_SOME = 3
_NAMED = 20
# One request: big enough to be quick, small enough to stay under the server's limit of a body.
_BATCH_RUNS, _BATCH_SPANS = 200, 1000


@dataclass
class Outcome:
    """What became of an import. `skipped` has a line for what was not stored; one line may stand for several records."""

    imported: int = 0
    unchanged: int = 0
    spans: int = 0
    skipped: list[str] = field(default_factory=list[str])
    records_skipped: int = 0

    def skip(self, line: str, records: int = 1) -> None:
        """Note what was not stored, and why."""
        self.skipped.append(line)
        self.records_skipped += records

    @property
    def exit_code(self) -> int:
        """0 all good, 3 some records were skipped, 1 nothing could be stored."""
        if not self.skipped:
            return OK
        return SKIPPED_SOME if self.imported or self.unchanged else FAILED


def _formats() -> str:
    width = max(map(len, READERS))
    docs = {name: reader.doc for name, reader in READERS.items()} | {import_export.NAME: import_export.DOC}
    rows = [f"  {name.ljust(width)}  {one_line(doc)}" for name, doc in docs.items()]
    return "\b\nFormats:\n" + "\n".join(rows)


def _help() -> str:
    home = [name for name, reader in READERS.items() if reader.default]
    first = f"  leyden import {home[0]}\n" if home else ""
    paths = next(name for name, reader in READERS.items() if not reader.default)
    return (
        "Load recorded runs from files. Importing the same files again changes nothing.\n\n"
        "PATH is a file or a folder; some formats know where theirs lie. Exit code 3 says that some records were "
        f"skipped.\n\n{_formats()}\n\n\b\nExamples:\n{first}  leyden import {paths} ./runs\n"
    )


@click.command("import", help=_help())
@click.argument("name", metavar="FORMAT", type=click.Choice([*READERS, import_export.NAME]))
@click.argument(
    "paths", nargs=-1, metavar="[PATH]…", type=click.Path(exists=True, allow_dash=True, path_type=Path)
)
@store_options
def command(name: str, paths: tuple[Path, ...], store: str | None, db: str | None) -> int:
    """See `_help`."""
    if name == import_export.NAME:
        return _exports(paths, store, db)
    reader = READERS[name]
    outcome = Outcome()
    places = paths or _default(reader)
    with connected(store, db, must_exist=False) as client, _progress() as show:
        try:
            load(client, _read(reader, places), outcome, show)
        except LeydenError:
            _tell(outcome)
            raise
    _tell(outcome)
    return outcome.exit_code


def _exports(paths: tuple[Path, ...], store: str | None, db: str | None) -> int:
    if not paths:
        raise click.UsageError("Say where the export is: leyden import leyden PATH, or - for standard input")
    with connected(store, db, must_exist=False) as client, progress("Reading …") as show:
        complete = [import_export.load(client, path, show) for path in paths]
    return OK if all(complete) else SKIPPED_SOME


def _default(reader: Reader) -> tuple[Path, ...]:
    if reader.default is None:
        raise click.UsageError(f"Say where the files are: leyden import {reader.name} PATH")
    if not reader.default.exists():
        raise BadInput(
            f"There is nothing at {reader.default}",
            hint=f"say where the files are: leyden import {reader.name} PATH",
        )
    return (reader.default,)


def _read(reader: Reader, places: Iterable[Path]) -> Iterator[RecordedRun | BadRecord]:
    for place in places:
        try:
            yield from reader.read(place)
        except (BadInput, OSError) as error:
            why = error.message if isinstance(error, BadInput) else error.strerror or str(error)
            yield BadRecord(place, "", why)


def load(
    client: Client,
    items: Iterable[RecordedRun | BadRecord],
    outcome: Outcome,
    show: Callable[[Outcome], None],
) -> None:
    """Send what was read in batches, counting into `outcome`, which is right also when an error ends it early."""
    for batch in _batches(items, outcome):
        _send(client, batch, outcome)
        show(outcome)


def _batches(items: Iterable[RecordedRun | BadRecord], outcome: Outcome) -> Iterator[list[RecordedRun]]:
    batch: list[RecordedRun] = []
    spans = 0
    for item in items:
        if isinstance(item, BadRecord):
            outcome.skip(str(item), item.records)
            continue
        if batch and (len(batch) >= _BATCH_RUNS or spans + len(item.spans) > _BATCH_SPANS):
            yield batch
            batch, spans = [], 0
        batch.append(item)
        spans += len(item.spans)
    if batch:
        yield batch


def _send(client: Client, batch: list[RecordedRun], outcome: Outcome) -> None:
    try:
        answer = client.import_runs(batch)
    except BadInput as error:
        # One run that the server refuses, or a batch over its limit, must not cost the others.
        if len(batch) == 1:
            outcome.skip(f"{batch[0].rollout_id}: {error.message}")
            return
        middle = len(batch) // 2
        _send(client, batch[:middle], outcome)
        _send(client, batch[middle:], outcome)
        return
    outcome.imported += answer["imported"]
    outcome.unchanged += answer["unchanged"]
    outcome.spans += answer["spans"]
    for entry in answer["rejected"]:
        outcome.skip(_refused(entry))


def _refused(entry: dict[str, Any]) -> str:
    return f"{entry['rollout_id']}: span {entry['span_id']}: {entry['reason']}"


def _tell(outcome: Outcome) -> None:
    unchanged = f" {many(outcome.unchanged, 'run')} unchanged." if outcome.unchanged else ""
    click.echo(f"Imported {many(outcome.imported, 'run')} with {many(outcome.spans, 'span')}.{unchanged}")
    if outcome.skipped:
        click.echo(f"Skipped {many(outcome.records_skipped, 'record')}:", err=True)
    for line in itertools.islice(outcome.skipped, _NAMED):
        click.echo(f"  {one_line(line)}", err=True)
    if len(outcome.skipped) > _NAMED:
        click.echo(f"  … and {len(outcome.skipped) - _NAMED:,} more", err=True)


@contextmanager
def _progress() -> Generator[Callable[[Outcome], None]]:
    with progress("Reading …") as show:
        yield lambda outcome: show(
            f"{many(outcome.imported + outcome.unchanged, 'run')}, {many(outcome.spans, 'new span')}"
        )
