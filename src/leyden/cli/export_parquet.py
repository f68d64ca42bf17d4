"""An export as a folder of Parquet files, one per noun, and back again, losslessly.

`spans.parquet` and `rollouts.parquet` are what people query; the others complete the export. Rows stand in the order of the
lines of an export, so the lines can be made again without sorting; `export.json` keeps the first and the last of them.
Row groups are bounded, so memory stays flat both ways. Needs the extra `[parquet]`.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from leyden.errors import BadFormat, MissingExtra
from leyden.ingest.export_lines import COLUMNS, FIELDS, OF_ROLLOUT, SINCE_2, decode, encode

# Of one row group.
_GROUP_ROWS, _GROUP_BYTES = 50_000, 16 * 2**20
_READ_ROWS = 256

FILES = {
    "resources": "resources.parquet",
    "worker": "workers.parquet",
    "price": "prices.parquet",
    "spend": "spend.parquet",
    "rollout": "rollouts.parquet",
    "attempt": "attempts.parquet",
    "score": "scores.parquet",
    "rollout_spend": "rollout_spend.parquet",
    "model_call": "model_calls.parquet",
    "span": "spans.parquet",
    "finding": "findings.parquet",
    "evidence": "evidence.parquet",
}
ENDS = "export.json"


def _arrow() -> tuple[Any, Any]:
    # Not import statements: pyarrow is an extra, and has no types.
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(
            "Parquet needs the package pyarrow", hint='pip install "leyden[parquet]"'
        ) from None


class _Table:
    """One file on its way: rows gather until they fill a row group."""

    def __init__(self, path: Path, noun: str) -> None:
        self._arrow, parquet = _arrow()
        types = {"text": "string", "json": "string", "int": "int64", "float": "float64", "bytes": "binary"}
        self._schema = self._arrow.schema(
            [
                self._arrow.field(name, getattr(self._arrow, types[kind.rstrip("?")])(), nullable=kind[-1] == "?")
                for name, kind in FIELDS[noun].items()
            ]
        )  # fmt: skip
        # Payloads and texts differ from row to row: a dictionary of them would only cost memory.
        narrow = [name for name, kind in FIELDS[noun].items() if kind.startswith("text")]
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=narrow)
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def add(self, row: tuple[Any, ...], size: int) -> None:
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_table(
            self._arrow.Table.from_arrays(arrays, schema=self._schema), row_group_size=_GROUP_ROWS
        )
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        if self._rows:
            self._write()
        self._file.close()


@contextmanager
def writing(directory: Path) -> Generator[Callable[[Iterator[bytes]], None]]:
    """A function that writes the pieces of an export into a folder that is there. Raises MissingExtra."""
    tables = {noun: _Table(directory / name, noun) for noun, name in FILES.items()}

    def write(pieces: Iterator[bytes]) -> None:
        ends: dict[str, str] = {}
        for raw in _lines(pieces):
            line = decode(raw)
            if line.noun in tables:
                tables[line.noun].add(line.row, len(raw))
            else:
                ends[line.noun] = raw.decode()
        (directory / ENDS).write_bytes(orjson.dumps(ends, option=orjson.OPT_INDENT_2))

    try:
        yield write
    finally:
        for table in tables.values():
            table.close()


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        if whole:
            whole[0] = b"".join([*rest, whole[0]])
            rest = []
        rest.append(last)
        for line in whole:
            yield line + b"\n"
    if left := b"".join(rest):
        yield left


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(directory: Path) -> Iterator[bytes]:
    """The lines of the export in a folder, as they were. Raises BadFormat, MissingExtra."""
    try:
        ends: dict[str, str] = orjson.loads((directory / ENDS).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise BadFormat(
            f"{directory} is no export of Leyden: it has no {ENDS}",
            hint="name the folder that `leyden export` made",
        ) from None
    yield ends.get("header", "").encode()
    for noun in ("resources", "worker", "price", "spend"):
        yield from (encode(noun, row) for row in _rows(directory, noun))
    yield from _rollouts(directory)
    for noun in ("finding", "evidence"):
        yield from (encode(noun, row) for row in _rows(directory, noun))
    yield ends.get("end", "").encode()


def _rollouts(directory: Path) -> Iterator[bytes]:
    streams = {noun: _rows(directory, noun) for noun in OF_ROLLOUT}
    waiting = {noun: next(stream, None) for noun, stream in streams.items()}
    for rollout in _rows(directory, "rollout"):
        yield encode("rollout", rollout)
        for noun, stream in streams.items():
            row = waiting[noun]
            while row is not None and row[0] == rollout[0]:
                yield encode(noun, row)
                row = next(stream, None)
            waiting[noun] = row
    for noun, row in waiting.items():
        if row is not None:
            raise BadFormat(
                f"{directory / FILES[noun]} is not in the order of {FILES['rollout']}",
                hint="import the folder as it was exported",
            )


def _rows(directory: Path, noun: str) -> Iterator[tuple[Any, ...]]:
    arrow, parquet = _arrow()
    path = directory / FILES[noun]
    if noun in SINCE_2 and not path.exists():
        return  # of version 1; were it lost, the counts at the end would tell
    names = list(COLUMNS[noun])
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=names):
                columns = [batch.column(name).to_pylist() for name in names]
                yield from zip(*columns, strict=True)
    except (OSError, KeyError, arrow.ArrowException) as error:
        raise BadFormat(f"{path} does not read as part of an export: {error}") from None
