"""The parser of server-sent events, and the undoing of what a recorded body is wrapped in."""

import gzip
import itertools
import json
import time
import zlib

import brotli
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leyden.errors import BadFormat
from leyden.gateway.decoding import Decoder, decoded, read_json
from leyden.gateway.sse import Event, Parser


def events(*pieces: bytes, limit: int = 1 << 20) -> list[Event]:
    parser = Parser(max_event_bytes=limit)
    return [event for piece in pieces for event in parser.feed(piece)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(at)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [Event("message", b"a")]),
        (b"data:a\n\n", [Event("message", b"a")]),
        (b"data:  a\n\n", [Event("message", b" a")]),
        (b"data: a\ndata: b\n\n", [Event("message", b"a\nb")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event("message", b""), Event("message", b"\n")]),
        (b"event: ping\ndata: {}\n\n", [Event("ping", b"{}")]),
        (b"event: ping\n\ndata: {}\n\n", [Event("message", b"{}")]),
        (b": a comment\n\ndata: a\n\n", [Event("message", b"a")]),
        (b"retry: 10\nunknown: x\ndata: a\n\n", [Event("message", b"a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [Event("message", c) for c in (b"a", b"b", b"c")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("message", b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [Event("message", b"a"), Event("message", b"b")]),
        (b"data: a\n", []),
        (b"event: only\n\n", []),
    ],
)  # fmt: skip
def test_events_are_read_by_the_rules_of_the_standard(stream: bytes, expected: list[Event]) -> None:
    assert events(stream) == expected
    assert events(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_the_newest_id_outlives_its_event_and_one_with_nul_is_ignored() -> None:
    parser = Parser()
    parser.feed(b"id: 7\ndata: a\n\ndata: b\n\nid: x\0\ndata: c\n\n")
    assert parser.last_id == "7"
    parser.feed(b"id\ndata: d\n\n")
    assert parser.last_id == ""


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_an_event_without_its_blank_line_comes_only_when_asked_for(end: bytes) -> None:
    parser = Parser()
    assert parser.feed(b"data: a\n\ndata: b" + end) == [Event("message", b"a")]
    assert parser.flush() == [Event("message", b"b")]
    assert parser.flush() == []


_LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:\xe2\x82\xac", b"event: x", b"id: 1", b": c", b"data", b"", b"", b"\xef\xbb\xbf", b"data: " + b"z" * 9]
    ),
    max_size=12,
)  # fmt: skip


@settings(deadline=None)
@given(
    _LINES,
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=12, max_size=12),
    st.lists(st.integers(0, 500)),
    st.integers(1, 20),
)
@example([b"data: zzzzzzzz", b"", b"", b"data: a", b""], [b"\n"] * 12, list(range(40)), 5)
@example([b"event: x", b"", b"data"], [b"\n", b"\r\n", b"\r\n"] + [b"\n"] * 9, [9, 16], 7)
def test_events_and_drops_do_not_depend_on_where_the_bytes_are_cut(
    lines: list[bytes], ends: list[bytes], places: list[int], limit: int
) -> None:  # fmt: skip
    stream = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    whole, pieces = Parser(max_event_bytes=limit), Parser(max_event_bytes=limit)
    expected = whole.feed(stream)
    assert [e for piece in cut(stream, places) for e in pieces.feed(piece)] == expected
    assert (pieces.dropped, pieces.last_id) == (whole.dropped, whole.last_id)
    assert pieces.flush() == whole.flush()


def test_an_event_over_the_limit_is_dropped_and_counted_and_the_next_one_comes() -> None:
    parser = Parser(max_event_bytes=100)
    stream = b"data: " + b"x" * 95 + b"\n\ndata: a\n\n"
    assert [e for i in range(0, len(stream), 7) for e in parser.feed(stream[i : i + 7])] == [
        Event("message", b"a")
    ]
    assert parser.dropped == 1
    assert events(b"data: " + b"x" * 94 + b"\n\n", limit=100) != []


def test_an_event_of_fifty_megabytes_costs_no_more_per_byte_than_a_small_one() -> None:
    def seconds(megabytes: int) -> float:
        piece = b"x" * 65536
        began = time.process_time()
        parser = Parser()
        parser.feed(b"data: ")
        for _ in range(megabytes * 16):
            parser.feed(piece)
        assert len(parser.feed(b"\n\n")[0].data) == megabytes * 2**20
        return time.process_time() - began

    seconds(1)
    assert seconds(50) < 1.5  # 50 MB copied 800 times, which quadratic work means, takes 5 s and more


_TEXT = json.dumps({"text": "The same words again. " * 5000}).encode()


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


_ENCODINGS = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "deflate": zlib.compress,
    " deflate": _raw_deflate,
    "zstd": zstandard.compress,
    " zstd": lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
    "br": brotli.compress,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_each_content_encoding_is_undone_wherever_the_bytes_are_cut(encoding: str) -> None:
    packed = _ENCODINGS[encoding](_TEXT)
    assert decoded([packed], encoding) == (_TEXT, None)
    assert decoded([packed[i : i + 1] for i in range(len(packed))], encoding) == (_TEXT, None)
    assert decoded([], encoding) == (b"", None)
    decoder = Decoder(encoding)
    assert b"".join(step for i in range(len(packed)) for step in decoder.feed(packed[i : i + 1])) == _TEXT
    assert decoder.is_whole


@pytest.mark.parametrize("encoding", [name for name in _ENCODINGS if name not in ("", "identity")])
def test_a_cut_body_is_decoded_as_far_as_it_goes(encoding: str) -> None:
    text = bytes(range(256)) * 40 + zlib.compress(_TEXT, 0)
    packed = _ENCODINGS[encoding](text)
    data, problem = decoded([packed[: len(packed) - 10]], encoding)
    assert problem == "cut"
    assert text.startswith(data)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_a_body_that_breaks_in_the_middle_keeps_what_came_before(encoding: str) -> None:
    text = b"".join(b"%x " % (n * n) for n in range(80_000))
    packed = _ENCODINGS[encoding](text)
    half = len(packed) // 2
    data, problem = decoded([packed[:half] + b"\xff\xfe" * 999 + packed[half:]], encoding)
    assert (problem or "").startswith("broken")
    # A few bytes of rubbish may pass for data before they are found out.
    assert len(data) > len(text) // 3
    assert data[: len(text) // 3] == text[: len(text) // 3]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_a_bomb_gives_no_more_than_the_limit(encoding: str) -> None:
    packed = _ENCODINGS[encoding](bytes(50_000_000))
    assert len(packed) < 100_000
    assert decoded([packed], encoding, limit=1000) == (bytes(1000), "more than 1000 bytes")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_one_piece_of_a_bomb_gives_no_more_than_the_limit_in_bounded_steps(encoding: str) -> None:
    steps: list[int] = []
    with pytest.raises(BadFormat, match="more than 1000000 bytes"):
        steps.extend(
            map(len, Decoder(encoding).feed(_ENCODINGS[encoding](bytes(50_000_000)), limit=1_000_000))
        )
    assert max(steps) <= 16 * 2**20


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=50)),
    st.sampled_from(["gzip", "deflate", "zstd", "br", "gzip, br", "rot13", ",", "é"]),
)
def test_undoing_never_raises(pieces: list[bytes], encoding: str) -> None:  # fmt: skip
    assert isinstance(decoded(pieces, encoding).data, bytes)


def test_an_encoding_nobody_knows_is_named() -> None:
    assert decoded([b"abc"], "rot13") == (b"", "unknown content-encoding 'rot13'")


def test_json_that_servers_send_although_strict_readers_refuse_it_is_read() -> None:
    assert read_json(b'{"a": "\xff", "b": NaN, "c": "\\ud83d", "d": -Infinity}') == {
        "a": "�",
        "b": None,
        "c": "�",
        "d": None,
    }
    assert read_json(b'{"cut": ') is None
    assert read_json(b"[" * 100_000) is None
