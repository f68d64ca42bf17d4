"""The optional decoder in C (`native/`, package `leyden_native`): used when it is installed and not switched off.

It reads what every encoder writes and answers None for the rest, which the Python beside it then reads; what a span is about and
every value out of the ordinary it asks of the same functions. So both give the same records and the same JSON, and a test holds
them to it. Refuses to know: rules.
"""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from leyden.ingest.derive import NAME_CHARS, RULES_VERSION, amount, failed_answer, tokens, ttft
from leyden.ingest.dialects.dialect import Dialect
from leyden.ingest.filing import Limits, Owner, Refused, filed, owner_of
from leyden.ingest.fingerprint import call_hash
from leyden.ingest.plain import CALLS, SPECIAL
from leyden.ingest.preview import preview
from leyden.ingest.record import SpanRecord
from leyden.ingest.subject import Known, Subject
from leyden.ingest.text import column

if TYPE_CHECKING:
    from leyden_native import Reader

try:
    from leyden_native import Reader as _Reader
    from leyden_native import spans_json as _spans_json
except ImportError:
    _Reader = _spans_json = None

_COLUMNS = (
    "session",
    "input",
    "output",
    "input_tokens",
    "output_tokens",
    "cache_read",
    "cache_write",
    "reasoning",
    "cost",
)
_MOST_PLACES = 16
_OWNER_KEYS = ("agentlightning.rollout_id", "agentlightning.attempt_id", "agentlightning.span_sequence_id")

reader: "Reader | None" = None
"""The reader of records, or None while Python reads them all."""
spans_json: "Callable[[list[Any]], list[bytes | None]] | None" = None
"""The writer of JSON, or None while Python writes it all."""


def use(is_wanted: bool) -> bool:
    """Use the decoder in C from now on, in this whole process, or do not; whether it is used, which takes that it is installed."""
    global reader, spans_json
    if not is_wanted or _Reader is None:
        reader = spans_json = None
    elif reader is None:
        reader, spans_json = _new_reader(_Reader), _spans_json
    return reader is not None


def in_use() -> str:
    """Which decoder reads spans: "native" or "python"."""
    return "python" if reader is None else "native"


class _Learner:
    """What spans with one sequence of keys are about, and where their columns stand among these keys."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._places = {key: place for place, key in enumerate(keys)}
        self._known = Known(keys)
        self._lock = Lock()  # what is learned grows by steps that take several statements

    def __call__(self, attributes: Mapping[str, Any], name: str) -> tuple[Any, tuple[int, ...]]:
        """What C keeps about a span, None for one that is not plain; and the places of the attributes that decided it."""
        with self._lock:
            about = self._known.learn(attributes, name)
            read = tuple(self._places[key] for key in self._known.read)
        return self._answer(about, column(name, NAME_CHARS) or ""), read

    def _answer(self, about: Subject, title: str) -> tuple[Any, ...] | None:
        spoken, dialect, kind, agent, tool, provider, model, _ = about
        if dialect.view is not None or kind == "reward":
            return None
        is_tool, is_call = kind == "tool", kind in CALLS
        names = ("session", "arguments", "result", *_COLUMNS[3:]) if is_tool else _COLUMNS
        places = [self._found(getattr(dialect, column)) for column in names]
        places.append(self._found(tuple(key for key, _ in dialect.ttft)))
        if max(map(len, places)) > _MOST_PLACES:
            return None
        facts = (is_tool, is_call, dialect.input_includes_cache, is_call and _is_indexed(dialect))
        return (title, kind, agent, tool, provider, model, spoken, dialect, *facts, *places)

    def _found(self, keys: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self._places[key] for key in keys if key in self._places)


def _is_indexed(dialect: Dialect) -> bool:
    return dialect.messages_in is not None or dialect.messages_out is not None


def _learner(keys: tuple[str, ...]) -> _Learner | None:
    """None for keys of which no span is plain."""
    return _Learner(keys) if len(set(keys)) == len(keys) and SPECIAL.isdisjoint(keys) else None


def _owner(rollout_id: Any, attempt_id: Any, sequence_id: Any, limits: Limits) -> Owner | None:
    named: dict[str, Any] = dict(zip(_OWNER_KEYS, (rollout_id, attempt_id, sequence_id), strict=True))
    try:
        return owner_of(named.get, limits)
    except Refused:
        return None


def _ttft(attributes: Mapping[str, Any], dialect: Dialect) -> float | None:
    return ttft(attributes.get, dialect)


def _new_reader(make: "type[Reader]") -> "Reader":
    return make(
        SpanRecord,
        _learner,
        _owner,
        filed,
        column,
        preview,
        call_hash,
        failed_answer,
        tokens,
        amount,
        _ttft,
        RULES_VERSION,
    )


use(True)
