"""What came back in an exchange, read: the answer put together when it was a stream, and whether it is all there. Pure.

Promises: never raises on anything that an upstream sent. Refuses to know: what the record of it becomes.
"""

from typing import Any, NamedTuple

import orjson

from leyden.gateway.call import Exchange
from leyden.gateway.decoding import decoded, read_json
from leyden.gateway.fitting import fitting_answer
from leyden.gateway.reading import Assembler, Said
from leyden.gateway.wires import wire_of
from leyden.ingest.shapes import is_list, is_object

NOTHING_SAID = Said(None, None, (), None, [], [])


class Heard(NamedTuple):
    """An answer. body: as JSON, put together when it was streamed. is_unfinished: a stream that never came to its end, as far as is known."""

    said: Said
    body: bytes
    is_unfinished: bool = False


def heard(exchange: Exchange, *, max_bytes: int) -> Heard:
    """What the answer says. max_bytes: of an answer that is kept as it is because it cannot be read."""
    # Undone only where it has to be, and never joined before it is read: it may be many megabytes.
    pieces = [decoded(exchange.body, exchange.encoding).data] if exchange.encoding else exchange.body
    first = next((said for piece in pieces if (said := piece.lstrip()[:1])), b"")
    if exchange.call.door == "other" and not is_text(first):
        return Heard(NOTHING_SAID, b"")
    # A streamed call may be answered with plain JSON all the same, as errors are.
    if exchange.call.is_stream and first not in (b"{", b"["):
        return _stream(exchange, pieces)
    if exchange.is_cut:
        return Heard(NOTHING_SAID, decoded(pieces, "", limit=max_bytes).data)
    raw = b"".join(pieces)
    return Heard(_said(exchange, read_json(raw)), raw)


def is_text(body: bytes) -> bool:
    """Whether a body of a surface that nobody reads is JSON or a stream of events, and no form, picture or sound."""
    return body.lstrip()[:1] in (b"{", b"[", b"d", b"e", b":")


def _stream(exchange: Exchange, pieces: list[bytes]) -> Heard:
    assembler = wire_of(exchange.upstream_door).assembler()
    for piece in pieces:
        assembler.feed(piece)
    if exchange.is_cut:
        _skip(exchange, assembler)
    else:
        assembler.end()
    body = assembler.body()
    said = _said(exchange, body)
    if exchange.is_cut:  # with some tokens missing, the rest would be another answer
        said = said._replace(response_token_ids=None, logprobs=None)
    try:
        raw = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # arguments that nest deeper than orjson writes: the events are kept instead
        raw = b"".join(pieces)
    # How a stream ends of which nothing is known but its events, or of which a part is missing, nobody can say.
    is_known = exchange.call.door != "other" and not exchange.is_cut
    return Heard(said, raw, is_known and not assembler.is_complete)


def _skip(exchange: Exchange, assembler: Assembler) -> None:
    """Over the part that was not kept, to the end of the stream, where its counts are. What is compressed has no such end."""
    if exchange.tail and not exchange.encoding:
        assembler.skip()
        assembler.feed(exchange.tail)
        assembler.end()


def _said(exchange: Exchange, body: Any) -> Said:
    if is_list(body):  # Gemini's errors come in a list of one
        body = next(iter(body), None)
    return wire_of(exchange.upstream_door).said(fitting_answer(body)) if is_object(body) else NOTHING_SAID
