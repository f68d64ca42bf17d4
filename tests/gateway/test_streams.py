"""What a client gets of a stream whose token counts only we asked for: every byte but that one event."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.model_answers import chat_events, event
from gateway.streams import pieces_of
from leyden.gateway.streams import WithoutUsage

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
ENDS = ("\n\n", "\r\n\r\n", "\r\r")


def got(*pieces: bytes) -> bytes:
    without = WithoutUsage()
    return b"".join([*(without.feed(piece) for piece in pieces), without.end()])


def usage_event(end: str = "\n\n", space: str = " ") -> bytes:
    return f"data:{space}{orjson.dumps(CHUNK).decode()}{end}".encode()


def delta(text: str, usage: object = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage})


events = st.one_of(
    st.text(max_size=40).map(delta),
    st.sampled_from(
        [delta("usage and choices", USAGE), event({"choices": [], "usage": None}), event("[DONE]")]
    ),
    st.sampled_from(
        [b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"data: not JSON\n\n", b"\n\n", b"\r\n\r\n"]
    ),
    st.binary(max_size=30).filter(lambda raw: b"usage" not in raw),
    st.integers(60_000, 70_000).map(lambda size: b"data: " + b"x" * size + b"\n\n"),
)
places = st.lists(st.integers(0, 400_000), max_size=12)


@given(st.lists(events, max_size=8), places)
def test_a_stream_without_counts_passes_unchanged_however_it_is_cut(
    stream: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(stream)
    assert got(*pieces_of(whole, cuts)) == whole


@given(
    st.lists(st.text(max_size=40).map(delta), max_size=5),
    st.lists(st.text(max_size=40).map(delta), max_size=5),
    st.sampled_from(ENDS),
    st.sampled_from(["", " "]),
    places,
)
def test_exactly_the_event_with_the_counts_is_left_out_however_the_stream_is_cut(
    before: list[bytes], after: list[bytes], end: str, space: str, cuts: list[int]
) -> None:
    counts = usage_event(end, space)
    whole = b"".join([*before, counts, *after, event("[DONE]")])
    wanted = b"".join([*before, *after, event("[DONE]")])
    assert got(*pieces_of(whole, cuts)) == wanted
    assert got(*(whole[i : i + 1] for i in range(len(whole)))) == wanted


@pytest.mark.parametrize("end", ENDS)
def test_each_event_leaves_as_soon_as_it_is_whole(end: str) -> None:
    without = WithoutUsage()
    events = [one.replace(b"\n\n", end.encode()) for one in chat_events("one two three")]
    counts = events.pop(-2)
    for one in events[:-1]:
        assert without.feed(one) == one
    assert without.feed(counts) == b""
    assert without.feed(events[-1]) == events[-1]
    assert without.end() == b""


def test_counts_at_the_end_without_an_empty_line_are_left_out_too() -> None:
    assert got(delta("a"), usage_event("\n")) == delta("a")


def test_what_is_held_back_of_an_endless_event_is_bounded() -> None:
    without = WithoutUsage()
    sent = 0
    for _ in range(100):
        piece = b"x" * 10_000
        sent += len(without.feed(piece))
    assert sent >= 900_000
    assert sent + len(without.end()) == 1_000_000
