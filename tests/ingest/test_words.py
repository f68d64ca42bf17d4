"""Words: the same from a whole text and one by one, whatever the script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.ingest.words import LONGEST, located, normalise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Connection REFUSED!", "connection refused"),
        ("connection_refused", "connection refused"),
        ("order W-1042: 19.99 €", "order w 1042 19 99"),
        ("Zürich café naïve São", "zurich cafe naive sao"),
        ("e\u0301cole", "ecole"),
        ("ﬁx ｆｕｌｌ Straße", "fix full strasse"),
        ("ΟΔΟΣ Ёлка", "οδοσ елка"),
        ("日本語 テスト ｶﾞ", "日 本 語 テ ス ト カ"),
        ("がぎ", "が ぎ"),
        ("한국어 시험", "한국어 시험"),
        ("สวัสดี", "ส ว ั ส ด ี"),
        ("हिन्दी में", "हिन्दी में"),
        ("done ✅ 🎉ok", "done ✅ 🎉 ok"),
        ("\x00\u200b\u202e —…!?", ""),
        ("", ""),
    ],
)
def test_a_text_becomes_its_words(text: str, words: str) -> None:
    assert normalise(text) == words


def test_a_word_is_kept_up_to_its_longest() -> None:
    assert normalise(f"a {'x' * 500} b") == f"a {'x' * LONGEST} b"


@given(st.text())
def test_words_found_one_by_one_are_those_of_the_whole_text(text: str) -> None:
    found = list(located(text))
    assert " ".join(word.word for word in found) == normalise(text)
    assert all(0 <= word.start < word.end <= len(text) for word in found)
    assert [word.start for word in found] == sorted(word.start for word in found)


@given(st.text())
def test_words_of_words_are_the_same_words(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(), st.text())
def test_white_space_parts_words(one: str, other: str) -> None:
    assert normalise(f"{one} {other}").split() == normalise(one).split() + normalise(other).split()
