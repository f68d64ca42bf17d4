"""Read JSON and JSON Lines files strictly, and say in one line what is wrong with the rest.

Owns: finding the files under a path, decoding them, and `BadRecord`. Promises: a bad line or file never raises past the
caller's loop; it becomes a `BadRecord` and reading goes on. Refuses to know: what the values mean.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard, TypeVar

from leyden.errors import BadInput

LINE_SUFFIXES = frozenset({".jsonl", ".ndjson"})
T = TypeVar("T")

SUFFIXES = LINE_SUFFIXES | {".json"}


class BadRecord(NamedTuple):
    """A file or record that was skipped, or `records` neighbouring ones for one reason.

    `where` is "line 3", "entry 0", "span 7", or "" for the whole file.
    """

    file: Path
    where: str
    why: str
    records: int = 1

    def __str__(self) -> str:
        where = f"{self.where} ({self.records} records)" if self.records > 1 else self.where
        return ": ".join(part for part in (str(self.file), where, self.why) if part)


class Found(NamedTuple):
    """One JSON value of a file. `where` is "line N" in JSON Lines, "" when the value is the whole file."""

    file: Path
    where: str
    value: Any


def merged(items: Iterable[T | BadRecord]) -> Iterator[T | BadRecord]:
    """The same items, with neighbouring bad records that have one file and one reason told as one."""
    last: BadRecord | None = None
    first, count = "", 0
    for item in items:
        if last and isinstance(item, BadRecord) and (item.file, item.why) == (last.file, last.why):
            last, count = item, count + 1
            continue
        if last:
            yield _told(last, first, count)
        last = item if isinstance(item, BadRecord) else None
        first, count = (item.where, 1) if isinstance(item, BadRecord) else ("", 0)
        if not isinstance(item, BadRecord):
            yield item
    if last:
        yield _told(last, first, count)


def _told(last: BadRecord, first: str, count: int) -> BadRecord:
    return last if count == 1 else last._replace(where=f"{first} to {last.where}", records=count)


class Malformed(ValueError):
    """Why a value is refused, in one line; readers turn it into a `BadRecord`. Never leaves this package."""


def is_map(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def files(path: Path, suffixes: Iterable[str] = SUFFIXES) -> list[Path]:
    """The file itself, or every file below a folder whose name ends in one of `suffixes`, sorted by path.

    Raises BadInput when the path does not exist or the folder holds no such file.
    """
    path = path.expanduser()
    if not path.exists():
        raise BadInput(f"{path} does not exist.", "Check the path; a file or a folder is accepted.")
    if not path.is_dir():
        return [path]
    wanted = frozenset(suffixes)
    found = sorted(file for file in path.rglob("*") if file.suffix in wanted and file.is_file())
    if not found:
        names = " or ".join(f"*{suffix}" for suffix in sorted(wanted))
        raise BadInput(
            f"{path} holds no {names} file.", "Name the folder the runs were written to, or a file."
        )
    return found


def values(file: Path) -> Iterator[Found | BadRecord]:
    """The JSON values of `file`: one per line of JSON Lines, else one for the file.

    `*.jsonl` and `*.ndjson` are read line by line, never whole. Any other name counts as JSON Lines when its first line is a
    complete JSON value and a second line follows.
    """
    try:
        if file.suffix in LINE_SUFFIXES or _first_line_is_whole(file):
            yield from _lines(file)
        else:
            yield Found(file, "", decode(file.read_bytes()))
    except OSError as error:
        yield BadRecord(file, "", f"cannot be read: {error.strerror or error}")
    except Malformed as error:
        yield BadRecord(file, "", str(error))


def _first_line_is_whole(file: Path) -> bool:
    with file.open("rb") as lines:
        first, second = lines.readline(), lines.readline()
    if not second.strip() or first.strip() in (b"", b"{", b"["):
        return False
    try:
        decode(first)
    except Malformed:
        return False
    return True


def _lines(file: Path) -> Iterator[Found | BadRecord]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield Found(file, f"line {number}", decode(line))
            except Malformed as error:
                yield BadRecord(file, f"line {number}", str(error))


def decode(raw: bytes) -> Any:
    """The JSON value in `raw`. Raises Malformed, with the reason, for anything RFC 8259 refuses.

    Also refuses numbers that no double holds, which would leave the store as null. A lone surrogate, which a transcript cut
    inside an emoji holds, becomes "?".
    """
    try:
        text = raw.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole)
        return _encodable(value) if "\\ud" in text or "\\uD" in text else value
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise Malformed(_json_reason(error)) from error
    except RecursionError as error:
        raise Malformed("is nested too deeply") from error


def _json_reason(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "is empty"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return "ends in the middle of a JSON value (truncated?)"
    return f"is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"is not valid JSON: {name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Malformed(f"holds a number too large to keep: {text[:40]}")
    return value


def _whole(text: str) -> int | float:
    # Encoders downstream take integers of 64 bits; a longer one keeps its magnitude as a double.
    return int(text) if len(text) < 19 else _long(text)


def _long(text: str) -> int | float:
    if len(text) <= 20 and -(2**63) <= int(text) < 2**64:
        return int(text)
    return _finite(text)


def _encodable(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-8", "replace"))
    return value


def looks_like(value: object) -> str | None:
    """The import format a value seems to be written in, for the hint of an error; None when none fits."""
    if is_list(value):
        first = value[0] if value else None
        return "messages" if is_map(first) and "role" in first else looks_like(first)
    if not is_map(value):
        return None
    if "traj" in value:
        return "tau-bench"
    if {"resourceSpans", "resourceLogs", "resourceMetrics"} & value.keys() or "spans" in value:
        return "otel-json"
    if "body" in value and "path" in value:
        return looks_like(value["body"])
    if is_hook(value) or ("sessionId" in value and "type" in value):
        return "claude-code"
    return "messages" if "messages" in value else None


def is_hook(value: dict[str, Any]) -> bool:
    """Whether the object is a Claude Code hook input, bare or under "input"."""
    inner = value.get("input")
    return "hook_event_name" in value or (is_map(inner) and "hook_event_name" in inner)


def wrong_format(value: object, *, wanted: str, expected: str) -> str:
    """Why `value` is refused by the reader of `wanted`, naming the format it looks like."""
    like = looks_like(value)
    hint = f"; it looks like {like}: try `leyden import {like}`" if like and like != wanted else ""
    return f"is not {wanted}: expected {expected}, found {_kind(value)}{hint}"


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), "a number")
