"""The lines of a Leyden export: one JSON object each, written and read, losslessly.

Owns: which columns of which noun an export holds, and how a value of each type is spelt. A header comes first, then resources,
workers, prices and spend, then each rollout followed by its attempts, scores, spend, model calls and spans, then findings, then
`end` with counts and a digest of everything between. Version 1 has no prices, spend and model calls, and is read too.
`docs/how-to/export-and-import.md` describes it for people.
Promises: `decode(encode(kind, row))` is `(kind, row)`, byte for byte: JSON is spliced where that keeps it and travels as text
otherwise, bytes that are no JSON travel as base64, floats that JSON lacks as text. What is null is left out.
Refuses to know: databases, files, keys (secrets never leave the store).
"""

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from leyden.errors import BadFormat, LeydenError
from leyden.ingest.record import SpanRecord

FORMAT, VERSION = "leyden-export", 2
ENCODINGS = frozenset({"otlp", "otlp-json", "agl"})

Row = tuple[Any, ...]

# Columns by noun, in order. Types: text, int, float, json (a text that holds JSON), bytes; a "?" may be null.
FIELDS: dict[str, dict[str, str]] = {
    "resources": {
        "resources_id": "text",
        "version": "int",
        "create_time": "float",
        "update_time": "float",
        "content": "json",
        "content_hash": "text",
    },
    "worker": {
        "worker_id": "text",
        "status": "text",
        "heartbeat_stats": "json?",
        **dict.fromkeys(
            ("last_heartbeat_time", "last_dequeue_time", "last_busy_time", "last_idle_time"), "float?"
        ),
        "current_rollout_id": "text?",
        "current_attempt_id": "text?",
    },
    "price": {"pattern": "text", "rates": "json", "create_time": "float"},
    "spend": {
        "day": "int",
        **dict.fromkeys(("key_id", "agent", "operation", "provider", "model"), "text"),
        **dict.fromkeys(
            (
                "calls", "errors", "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens",
                "output_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "cost_nano", "priced",
            ),
            "int",
        ),
    },
    "rollout": {
        "rollout_id": "text",
        "status": "text",
        "mode": "text?",
        "input": "json",
        "config": "json",
        "metadata": "json?",
        "resources_id": "text?",
        "start_time": "float",
        "end_time": "float?",
        "failure_reason": "text?",
        "idempotency_key": "text?",
        "source": "text?",
        "agent": "text?",
        "queue_pos": "int?",
        "timeout_seconds": "float?",
        "unresponsive_seconds": "float?",
        "deadline": "float?",
        "attempts": "int",
        "attempt_id": "text?",
        "span_seq": "int",
    },
    "attempt": {
        "rollout_id": "text",
        "attempt_id": "text",
        "sequence_id": "int",
        "status": "text",
        "start_time": "float",
        "end_time": "float?",
        "worker_id": "text?",
        "last_heartbeat_time": "float?",
        "metadata": "json?",
        "failure_reason": "text?",
        "lease_until": "float?",
    },
    "score": {
        "rollout_id": "text",
        "attempt_id": "text?",
        "span_id": "text?",
        "name": "text",
        "value": "float",
        "is_primary": "int",
        "source": "text",
        "time": "float",
    },
    "rollout_spend": {"rollout_id": "text", "calls": "int", "cost_nano": "int"},
    "model_call": {"rollout_id": "text", "response_id": "text", "end_ns": "int"},
    "span": {
        "rollout_id": "text",
        "attempt_id": "text",
        "sequence_id": "int",
        "trace_id": "text",
        "span_id": "text",
        "parent_id": "text?",
        "name": "text",
        "kind": "text",
        "status": "text",
        **dict.fromkeys(("start_ns", "end_ns"), "int?"),
        **dict.fromkeys(
            (
                "agent", "tool", "provider", "model", "session", "error_type", "error_message", "fingerprint", "call_hash",
            ),
            "text?",
        ),
        **dict.fromkeys(
            (
                "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
            ),
            "int?",
        ),
        **dict.fromkeys(("cost_usd", "ttft_ms"), "float?"),
        **dict.fromkeys(("input_preview", "output_preview", "dialect"), "text?"),
        "derived_by": "int",
        "encoding": "text",
        "payload": "bytes",
    },
    "finding": {
        **dict.fromkeys(("fingerprint",), "text"),
        "rank": "int",
        **dict.fromkeys(("kind", "severity", "status", "title", "recommendation"), "text"),
        **dict.fromkeys(("occurrences", "runs", "failed_runs"), "int"),
        "time_s": "float",
        "tokens": "int",
        "cost_usd": "float?",
        **dict.fromkeys(("agent", "tool", "error_type", "error_message"), "text?"),
        "first_seen": "float?",
        "last_seen": "float?",
    },
    "evidence": {
        "fingerprint": "text",
        "position": "int",
        "rollout_id": "text",
        "attempt_id": "text",
        "span_id": "text",
    },
}  # fmt: skip
assert tuple(FIELDS["span"]) == SpanRecord._fields[:-2]

NOUNS = tuple(FIELDS)
COLUMNS: dict[str, tuple[str, ...]] = {noun: tuple(fields) for noun, fields in FIELDS.items()}
# Whose lines belong to the rollout line before them.
OF_ROLLOUT = ("attempt", "score", "rollout_spend", "model_call", "span")
# What no export of version 1 has.
SINCE_2 = frozenset({"price", "spend", "rollout_spend", "model_call"})


class Line(NamedTuple):
    """One decoded line: a noun of `NOUNS` with its row in the order of `COLUMNS`, or "header", "end", "error" with its object."""

    noun: str
    row: Row


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Layout:
    """How the columns of one noun are written and read."""

    def __init__(self, noun: str, fields: Mapping[str, str]) -> None:
        self.names = tuple(fields)
        kinds = {name: kind.rstrip("?") for name, kind in fields.items()}
        self.floats = [n for n, name in enumerate(self.names) if kinds[name] == "float"]
        self.jsons = [n for n, name in enumerate(self.names) if kinds[name] == "json"]
        self.bytes = [n for n, name in enumerate(self.names) if kinds[name] == "bytes"]
        types: list[tuple[str, Any, Any]] = []
        for name, kind in fields.items():
            types += _members(name, kind)
        self.struct = msgspec.defstruct(
            f"Line_{noun}", types, tag=noun, tag_field="type", kw_only=True, forbid_unknown_fields=True
        )
        self.pick = attrgetter(*self.names)
        self.required = [
            n
            for n, name in enumerate(self.names)
            if not fields[name].endswith("?") and kinds[name] in ("json", "bytes")
        ]


def _members(name: str, kind: str) -> list[tuple[str, Any, Any]]:
    plain: dict[str, Any] = {"text": str, "int": int, "float": float | str}
    base = kind.rstrip("?")
    if base == "json":
        return [(name, msgspec.Raw, msgspec.Raw()), (f"{name}_text", str | None, None)]
    if base == "bytes":
        return [(name, msgspec.Raw, msgspec.Raw()), (f"{name}_base64", str | None, None)]
    if kind.endswith("?"):
        return [(name, plain[base] | None, None)]
    return [(name, plain[base], msgspec.NODEFAULT)]


_LAYOUTS = {noun: _Layout(noun, fields) for noun, fields in FIELDS.items()}


def encode(noun: str, row: Row) -> bytes:
    """One row as a line, with its line break."""
    layout = _LAYOUTS[noun]
    made: dict[str, Any] = {"type": noun}
    made.update((name, value) for name, value in zip(layout.names, row, strict=True) if value is not None)
    for n in layout.floats:
        value = row[n]
        if value is not None and not math.isfinite(value):
            made[layout.names[n]] = repr(value)
    for n in layout.jsons:
        if (text := row[n]) is not None:
            _put(made, layout.names[n], text.encode(), text)
    for n in layout.bytes:
        _put(made, layout.names[n], row[n], None)
    return orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)


def _put(made: dict[str, Any], name: str, raw: bytes, text: str | None) -> None:
    """Splice JSON where reading it gives the same bytes back; else as text or base64."""
    if _can_splice(raw):
        made[name] = orjson.Fragment(raw)
        return
    del made[name]
    if text is not None:
        made[f"{name}_text"] = text
    else:
        made[f"{name}_base64"] = base64.b64encode(raw).decode()


_WHITE = b" \t\r\n"


def _can_splice(raw: bytes) -> bool:
    if not raw or raw[0] in _WHITE or raw[-1] in _WHITE or b"\n" in raw or b"\r" in raw:
        return False
    if raw[:1] == b"{" or raw[:1] == b"[":
        # Protobuf may begin so too.
        return raw[-1:] in (b"}", b"]") and _is_json(raw)
    return raw[:1] in b'"-0123456789tfn' and _is_json(raw)


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def header(*, time: float, leyden: str) -> bytes:
    """The first line. time: unix seconds; leyden: the version that writes."""
    made = {"type": "header", "format": FORMAT, "version": VERSION, "leyden": leyden, "time": time}
    return orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)


def error_line(error: LeydenError) -> bytes:
    """What an export that breaks off says last."""
    made = {"type": "error", "code": error.code, "message": error.message, "hint": error.hint}
    return orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)


class Seal:
    """Counts the lines of an export and takes their digest, header and end left out. Both sides keep one."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(NOUNS, 0)
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, lines: bytes, noun: str, count: int = 1) -> None:
        """Take note of `count` lines of a noun, line breaks included."""
        self.counts[noun] += count
        self._digest.update(lines)

    @property
    def digest(self) -> str:
        """Of everything added."""
        return self._digest.hexdigest()

    def end(self) -> bytes:
        """The last line."""
        made = {"type": "end", "counts": self.counts, "digest": self.digest}
        return orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Header(msgspec.Struct, tag="header", tag_field="type"):
    format: str
    version: int
    leyden: str = ""
    time: float = 0.0


class _End(msgspec.Struct, tag="end", tag_field="type"):
    counts: dict[str, int]
    digest: str


class _Error(msgspec.Struct, tag="error", tag_field="type"):
    message: str
    code: str = "error"
    hint: str | None = None


def _any_line() -> Any:
    found: Any = _Header | _End | _Error
    for layout in _LAYOUTS.values():
        found = found | layout.struct
    return found


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_any_line())


class _Odd(Exception):
    """What is wrong with a line."""


def decode(line: bytes) -> Line:
    """The noun and the row of a line. Raises BadFormat that says what does not fit."""
    try:
        held = _DECODER.decode(line)
        noun: str = held.__struct_config__.tag
        layout = _LAYOUTS.get(noun)
        return Line(noun, _row(layout, held) if layout is not None else (held,))
    except _Odd as odd:
        raise BadFormat(str(odd)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadFormat(str(error).split(" - at `$`")[0]) from None


def _row(layout: _Layout, held: Any) -> Row:
    row: list[Any] = list(layout.pick(held))
    for n in layout.floats:
        value = row[n]
        if isinstance(value, str | int):
            row[n] = float(value)
    for n in layout.jsons:
        text = getattr(held, f"{layout.names[n]}_text")
        raw = bytes(row[n])
        row[n] = text if text is not None else raw.decode() if raw else None
    for n in layout.bytes:
        encoded = getattr(held, f"{layout.names[n]}_base64")
        row[n] = _unbase(encoded) if encoded is not None else bytes(row[n]) or None
    for n in layout.required:
        if row[n] is None:
            raise _Odd(f"Object missing required field `{layout.names[n]}`")
    if layout.bytes and row[-2] not in ENCODINGS:
        raise _Odd(f"{row[-2]!r} is no encoding of a span")
    return tuple(row)


def _unbase(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _Odd("its base64 does not decode") from None


class Reader:
    """Reads an export line by line and checks it: the header first, nothing missing, nothing changed, nothing after the end.

    Feed it lines with their breaks in order; ask what is `missing` after the last. `number` is that of the line read last, from 1.
    """

    def __init__(self) -> None:
        self.number = 0
        self._seal = Seal()
        self._ended = False

    def read(self, raw: bytes) -> Line | None:
        """The row in a line; None for a header, the end and an empty line. Raises BadFormat, or the error an export ended in."""
        self.number += 1
        if not raw.strip():
            return None
        if self._ended:
            raise self._odd("something follows the end of the export")
        try:
            line = decode(raw)
        except BadFormat as error:
            if self.number == 1:
                raise self._no_export() from None
            raise self._odd(error.message) from None
        if self.number == 1:
            self._check_header(line)
        elif line.noun == "header":
            raise self._odd("a second header; import the two exports one after the other")
        elif line.noun == "end":
            self._check_end(line.row[0])
        elif line.noun == "error":
            told = line.row[0]
            raise LeydenError(f"The export broke off at line {self.number}: {told.message}", told.hint)
        else:
            self._seal.add(raw if raw.endswith(b"\n") else raw + b"\n", line.noun)
            return line
        return None

    def missing(self) -> BadFormat | None:
        """What to say when the input ends here; None after the end of the export."""
        if self._ended:
            return None
        if not self.number:
            return BadFormat(
                "There is nothing to import: the input is empty", hint="`leyden export` makes an export"
            )
        return BadFormat(
            f"The export is cut short after line {self.number}: its last line is missing",
            hint="export again, or copy the whole file",
        )

    def _check_header(self, line: Line) -> None:
        held = line.row[0]
        if line.noun != "header" or held.format != FORMAT:
            raise self._no_export()
        if held.version > VERSION:
            raise BadFormat(
                f"This export has version {held.version} of the format, written by Leyden {held.leyden}; "
                f"this Leyden reads up to {VERSION}",
                hint="import it with that version or a newer one",
            )

    def _check_end(self, end: _End) -> None:
        counts = {noun: count for noun, count in self._seal.counts.items() if count}
        said = {noun: count for noun, count in end.counts.items() if count}
        for noun in NOUNS:
            if counts.get(noun, 0) != said.get(noun, 0):
                raise self._odd(
                    f"the export should hold {said.get(noun, 0)} lines of type {noun} and has {counts.get(noun, 0)}"
                )
        if end.digest != self._seal.digest:
            raise self._odd("the digest of the export does not fit: something in it was changed")
        self._ended = True

    def _odd(self, why: str) -> BadFormat:
        return BadFormat(
            f"Line {self.number} of the export: {why}", hint="export again, or copy the whole file"
        )

    def _no_export(self) -> BadFormat:
        return BadFormat(
            "This is no export of Leyden: its first line is no header", hint="`leyden export` makes one"
        )
