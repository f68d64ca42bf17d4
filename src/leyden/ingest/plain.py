"""The columns of many spans of one layout at once, for spans that are plain: most of what agents send.

The rules are `derive`'s and give what it gives; only the order of work differs. Attributes are read key by key for all
spans, which costs half of reading them span by span. A span that is not plain is left to `derive`: one that failed, has
events, rewards or evaluations, or speaks a dialect that keeps JSON inside attributes.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, cast

from leyden.ingest import wire
from leyden.ingest.derive import NO_TOKENS, REDACTED, Tokens, amount, failed_answer, tokens, ttft
from leyden.ingest.dialects.dialect import Dialect
from leyden.ingest.fingerprint import call_hash
from leyden.ingest.preview import preview
from leyden.ingest.subject import NAME_CHARS, Subject, known_subjects, subject
from leyden.ingest.text import column
from leyden.types import SpanKind

# With one of these the rules need to look at more than one attribute at a time.
SPECIAL = frozenset(
    ("error.type", "exception.type", "gen_ai.evaluation.score.value", "agentlightning.reward.0.value")
)
CALLS: frozenset[SpanKind] = frozenset(("llm", "embedding"))


class Batch:
    """Spans of one layout by key. Their attributes are known to decode."""

    def __init__(self, layout: wire.Layout, rows: Sequence[Sequence[bytes]]) -> None:
        self.layout = layout
        self.rows = rows
        self.raws = dict(zip(layout.keys, zip(*rows, strict=True), strict=True))
        self._nothing: list[Any] = [None] * len(rows)

    def values(self, key: str) -> list[Any]:
        """The plain values of one attribute, span by span; None for each when the layout lacks it."""
        at = self.layout.ends.get(key)
        return self._nothing if at is None else wire.values(self.raws[key], at)

    def first(self, keys: tuple[str, ...]) -> list[Any]:
        """Of each span the value of the first attribute that is not empty."""
        found = self._nothing
        for key in keys:
            if found is not self._nothing and None not in found:
                break
            later = self.values(key)
            if "" in later:
                later = [None if value == "" else value for value in later]
            if found is not self._nothing:
                later = [b if a is None else a for a, b in zip(found, later, strict=True)]
            found = later
        return found

    def attributes(self, n: int) -> dict[str, Any]:
        """The attributes of span `n`."""
        return wire.Attributes().of(self.rows[n])


_Figures = tuple[Tokens, float | None, float | None]
_NO_FIGURES: _Figures = (NO_TOKENS, None, None)


def derive_plain(batch: Batch, names: Sequence[str]) -> list[tuple[Any, ...] | None]:
    """The fields of `Columns` of each span, or None for one that only `derive` can read."""
    nothing: list[tuple[Any, ...] | None] = [None] * len(names)
    if not SPECIAL.isdisjoint(batch.layout.ends):
        return nothing
    abouts = _subjects(batch, names)
    dialect = abouts[0].dialect
    if dialect.view is not None:
        return nothing
    return [
        _columns(*fields) if fields[0].dialect is dialect and fields[0].kind != "reward" else None
        for fields in zip(
            abouts,
            map(column, batch.first(dialect.session), repeat(NAME_CHARS)),
            batch.first(dialect.input),
            batch.first(dialect.output),
            batch.first(dialect.arguments),
            batch.first(dialect.result),
            _figures(batch, dialect, abouts),
            strict=False,
        )
    ]


def _subjects(batch: Batch, names: Sequence[str]) -> list[Subject]:
    known = known_subjects(batch.layout.keys)
    if known is None:
        return [subject(batch.attributes(n), name) for n, name in enumerate(names)]
    values = zip(*map(batch.raws.__getitem__, known.read), strict=True) if known.read else repeat(())
    keys = list(zip(names, values, strict=False))
    found = list(map(known.subjects.get, keys))
    for n, about in enumerate(found):
        if about is None:
            about = found[n] = subject(batch.attributes(n), names[n])
            known.keep(*keys[n], about)
    return cast(list[Subject], found)


def _figures(batch: Batch, dialect: Dialect, abouts: list[Subject]) -> Iterable[_Figures]:
    if not any(about.kind in CALLS for about in abouts):
        return repeat(_NO_FIGURES)
    sent, output = batch.first(dialect.input_tokens), batch.first(dialect.output_tokens)
    read, written = batch.first(dialect.cache_read), batch.first(dialect.cache_write)
    counts = map(tokens, repeat(dialect), sent, output, read, written, batch.first(dialect.reasoning))
    return zip(counts, map(amount, batch.first(dialect.cost)), _ttfts(batch, dialect), strict=False)


def _ttfts(batch: Batch, dialect: Dialect) -> Iterable[float | None]:
    keys = [key for key, _ in dialect.ttft]
    if not keys:
        return repeat(None)
    return (
        ttft(dict(zip(keys, values, strict=True)).get, dialect)
        for values in zip(*map(batch.values, keys), strict=True)
    )


def _columns(
    about: Subject,
    session: str | None,
    said: Any,
    answer: Any,
    arguments: Any,
    result: Any,
    figures: _Figures,
) -> tuple[Any, ...] | None:
    _, dialect, kind, agent, tool, provider, model, _ = about
    called = None
    if kind == "tool":
        said, answer = arguments, result
        if answer is not None and failed_answer(answer):
            return None
    elif kind not in CALLS:
        figures = _NO_FIGURES
    elif (said is None or answer is None) and (dialect.messages_in or dialect.messages_out):
        return None
    if said in REDACTED:
        said = None
    if tool is not None and said is not None:
        called = call_hash(tool, said)
    counts, cost, ttft_ms = figures
    return (
        kind,
        agent,
        tool,
        provider,
        model,
        session,
        None,
        None,
        None,
        called,
        *counts,
        cost,
        ttft_ms,
        preview(said) if said is not None else None,
        preview(answer) if answer is not None else None,
        about.spoken,
        (),
    )
