"""The lines of an export: what is written is what is read, whatever it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.errors import BadFormat
from leyden.ingest.export_lines import FIELDS, NOUNS, Reader, Seal, decode, encode, header

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
jsons = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ).flatmap(
        lambda value: st.sampled_from(
            [json.dumps(value), json.dumps(value, indent=1), f" {json.dumps(value)} ", json.dumps(value, ensure_ascii=False)]
        )
    ),
    texts,
    st.sampled_from(["", "{", "{}{}", "[1]]", "nul", '"a', "-", "0 1", "{\r}", "\u2028", '{"a":1,"a":2}']),
)  # fmt: skip
by_type = {
    "text": texts,
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=True),
    "json": jsons,
    "bytes": jsons.map(str.encode) | st.binary(min_size=1, max_size=20),
}


def a_value(kind: str) -> st.SearchStrategy[Any]:
    values = by_type[kind.rstrip("?")]
    return st.none() | values if kind.endswith("?") else values


def rows(noun: str) -> st.SearchStrategy[tuple[Any, ...]]:
    fields = {name: a_value(kind) for name, kind in FIELDS[noun].items()}
    if noun == "span":
        fields["encoding"] = st.sampled_from(["otlp", "otlp-json", "agl"])
    return st.tuples(*fields.values())


@pytest.mark.parametrize("noun", NOUNS)
@given(data=st.data())
def test_a_row_is_read_as_it_was_written(noun: str, data: st.DataObject) -> None:
    row = data.draw(rows(noun))
    line = encode(noun, row)
    assert line.count(b"\n") == 1
    again = decode(line)
    assert again.noun == noun
    # repr tells −0.0 from 0.0, and NaN is NaN.
    assert repr(again.row) == repr(row)
    assert encode(noun, again.row) == line


def test_json_is_there_to_be_read_by_people() -> None:
    row = ("ro-1", "at-1", 1, "t", "s", None, "n", "span", "ok", *[None] * 21, 1, "agl", b'{"a": [1, 2]}')
    assert b'"payload":{"a": [1, 2]}' in encode("span", row)


def test_what_is_missing_changed_or_added_is_noticed() -> None:
    seal = Seal()
    line = encode("evidence", ("f", 0, "ro", "at", "s"))
    seal.add(line, "evidence")
    whole = [header(time=1.5, leyden="0.1.0"), line, seal.end()]

    def read(lines: list[bytes]) -> Reader:
        reader = Reader()
        for raw in lines:
            reader.read(raw)
        return reader

    assert read(whole).missing() is None
    assert read(whole[:2]).missing() is not None
    for broken, told in [
        ([whole[0], whole[2]], "1 lines of type evidence and has 0"),
        ([whole[0], line.replace(b'"ro"', b'"no"'), whole[2]], "digest"),
        ([*whole, line], "follows the end"),
        ([whole[0], *whole], "second header"),
        (whole[1:], "no header"),
    ]:
        with pytest.raises(BadFormat, match=told):
            read(broken)
