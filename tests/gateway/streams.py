"""Streams and bodies written by hand, and how they are cut: what the tests of all protocols need."""

import itertools
import json
from typing import Any

from hypothesis import strategies as st

from leyden.gateway.call import Door
from leyden.gateway.reading import Assembler
from leyden.gateway.wires import wire_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def sse(*events: Any, named: bool = False, done: bool = False) -> bytes:
    """Events as bytes: each an object, or bytes as they are. named: each carries its `type` as the event's too."""
    blocks: list[bytes] = []
    for event in events:
        if isinstance(event, bytes):
            blocks.append(event)
            continue
        head = f"event: {event['type']}\n".encode() if named else b""
        blocks.append(head + b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
    return b"".join(blocks) + (b"data: [DONE]\n\n" if done else b"")


def assembled(door: Door, *pieces: bytes) -> Assembler:
    """The assembler of a door, fed these pieces."""
    assembler = wire_of(door).assembler()
    for piece in pieces:
        assembler.feed(piece)
    return assembler


def pieces_of(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream cut at these places."""
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(at)]


def assert_same_however_cut(door: Door, stream: bytes, places: list[int]) -> None:
    """Any pieces, and single bytes, give the same record as the whole stream at once."""
    whole = assembled(door, stream)
    for pieces in (pieces_of(stream, places), [stream[i : i + 1] for i in range(len(stream))]):
        other = assembled(door, *pieces)
        assert other.body() == whole.body()
        assert (other.broken, other.is_complete) == (whole.broken, whole.is_complete)


def odd_json(words: list[str]) -> st.SearchStrategy[Any]:
    """JSON whose keys and texts are often those that a protocol knows, in places where it does not expect them."""
    word = st.sampled_from(words)
    key = word | st.text(max_size=5)
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | word | st.text(max_size=6)
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(key, inner, max_size=6),
        max_leaves=25,
    )
