"""A query as it is typed: what it means, which texts hold it, what is shown of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.ingest.wanted import SNIPPET_CHARS, parse
from leyden.ingest.words import normalise

TEXT = "The connection to db_main was refused; customer W-1042 asked for a refund."


@pytest.mark.parametrize(
    "query",
    [
        "refused connection", "CONNECTION", '"was refused"', "refu*", '"customer w 10"*', "db_main", "W-1042", "nothing OR refund",
        "refund AND connection", 'refund -timeout -"refund asked"', '"was refused', "connection) OR (nothing"
    ],
)  # fmt: skip
def test_a_query_finds_its_text(query: str) -> None:
    assert parse(query).holds(TEXT)


@pytest.mark.parametrize(
    "query",
    [
        "refunded", '"refused was"', "main_db", "fund", "*fund", "refund -connection", 'refund -"was refused"', "timeout OR abort",
        "refund (timeout)", "body:refund", '"connection refused"', "NEAR(refund connection)", "refund -refu*",
    ],
)  # fmt: skip
def test_a_query_does_not_find_what_it_does_not_say(query: str) -> None:
    assert not parse(query).holds(TEXT)


@pytest.mark.parametrize(
    "query",
    ["", "   ", "-refund", '-"was refused" -x', '"', "* - !", '""', "OR", "a*", "x" * 2000, "word " * 100],
)
def test_a_query_without_a_word_to_look_for_is_refused_with_what_to_do(query: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(query)
    assert refused.value.hint


@given(st.text(max_size=200))
def test_any_text_is_a_query_or_refused(query: str) -> None:
    try:
        parse(query)
    except BadInput:
        return


def shown(query: str, text: str) -> str:
    return "".join(f"⟦{piece.text}⟧" if piece.match else piece.text for piece in parse(query).snippet(text))


def test_a_snippet_marks_what_was_looked_for() -> None:
    assert shown('refund "was refused"', TEXT) == (
        "The connection to db_main ⟦was refused⟧; customer W-1042 asked for a ⟦refund⟧."
    )


def test_a_snippet_marks_words_as_they_were_written() -> None:
    assert shown("zurich 日本 refun*", "In ZÜRICH\n\n 日本語: refunded") == "In ⟦ZÜRICH⟧ ⟦日本⟧語: ⟦refunded⟧"


def test_a_snippet_of_a_long_text_is_short_and_shows_most_of_the_query() -> None:
    filler = "the quick brown fox jumps over it " * 300
    text = f"{filler} a refund was asked. {filler} the refund was approved by Ana. {filler}"
    found = shown("refund approved ana", text)
    assert "⟦refund⟧ was ⟦approved⟧ by ⟦Ana⟧." in found
    assert len(found) < SNIPPET_CHARS + 20
    assert found.startswith("…")
    assert found.endswith("…")


WORDS = st.lists(
    st.sampled_from(["alpha", "Béta", "gamma_delta", "7", "日本", "ok."]), min_size=1, max_size=400
)


@given(WORDS, st.integers(0, 400), st.integers(1, 3))
def test_any_part_of_a_text_is_found_and_shown(words: list[str], at: int, length: int) -> None:
    text = " ".join(words)
    part = words[at % len(words) :][:length]
    wanted = parse(f'"{" ".join(part)}"')
    assert wanted.holds(text)
    pieces = wanted.snippet(text)
    assert any(normalise(piece.text) == normalise(" ".join(part)) for piece in pieces if piece.match)
    plain = "".join(piece.text for piece in pieces).strip("…")
    assert plain in re.sub(r"\s+", " ", text)
