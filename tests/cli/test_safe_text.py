"""Nothing recorded steers the terminal it is printed on."""

import json

from hypothesis import given
from hypothesis import strategies as st

from leyden.cli.safe_text import many_lines, one_line, to_json

ANY = st.text(st.characters())  # also halves of surrogate pairs
OBEYED = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u2028"}  # fmt: skip


@given(ANY)
def test_one_line_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert not OBEYED & set(one_line(text))


@given(ANY)
def test_many_lines_hold_only_breaks_and_tabs_of_what_a_terminal_obeys(text: str) -> None:
    assert not (OBEYED - {"\n", "\t"}) & set(many_lines(text))


@given(ANY)
def test_json_is_safe_and_reads_back_as_it_was(text: str) -> None:
    written = to_json({"text": text, "list": [text]})
    assert not (OBEYED - {"\n"}) & set(written)
    assert json.loads(written) == {"text": text, "list": [text]}


def test_an_escape_becomes_visible_and_the_rest_stays() -> None:
    assert one_line("a\x1b[31mred\n b\u202ec 日本 é") == "a␛[31mred b\\u202ec 日本 é"
