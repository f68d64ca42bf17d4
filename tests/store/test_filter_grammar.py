"""The filter language as text: what parses, what is refused and where, and that a tree survives being written."""

from contextlib import suppress

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.store.filters import rollout_tests, span_tests
from leyden.store.filters.grammar import (
    And,
    Not,
    Or,
    Term,
    Tree,
    Value,
    Words,
    all_of,
    any_of,
    parse,
    text_of,
)

NOW = 1_800_000_000.0


def term(name: str, operator: str, *values: str) -> Term:
    return Term(name, operator, tuple(Value(value) for value in values))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", And()),
        ("refused", Words("refused")),
        ('"connection refused"', Words("connection refused")),
        ("Agent:Router", term("agent", ":", "Router")),
        ("agent=router", term("agent", ":", "router")),
        ("status:error,unset", term("status", ":", "error", "unset")),
        ('tool:"a, b",c', Term("tool", ":", (Value("a, b", quoted=True), Value("c")))),
        ('tool:"say \\"hi\\" \\\\ C:\\temp"', Term("tool", ":", (Value('say "hi" \\ C:\\temp', quoted=True),))),
        ("cost>=0.01", term("cost", ">=", "0.01")),
        ("tool!=search", term("tool", "!=", "search")),
        ("-tool:*", Not(term("tool", ":", "*"))),
        ("attr.User.Id:4:2", term("attr.User.Id", ":", "4:2")),
        ("SPAN.Tool:x", term("span.tool", ":", "x")),
        ("a b OR c", Or((And((Words("a"), Words("b"))), Words("c")))),
        ("a AND (b OR c)", And((Words("a"), Or((Words("b"), Words("c")))))),
        ("((a))", Words("a")),
        ("(a b) c", And((Words("a"), Words("b"), Words("c")))),
        ("-(a b)", Not(And((Words("a"), Words("b"))))),
        ("or and not", And((Words("or"), Words("and"), Words("not")))),
        ('"OR"', Words("OR")),
    ],
)  # fmt: skip
def test_a_text_is_this_tree(text: str, tree: Tree) -> None:
    assert parse(text) == tree
    assert parse(text_of(tree)) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status:ok  agnt:x", "unknown field 'agnt' at column 12; did you mean 'agent'?"),
        ("agent:", "a value is missing at column 7; for example status:error or name:\"two words\""),
        ("agent:x,", "a value is missing at column 9; for example status:error or name:\"two words\""),
        ("(a OR b", "a parenthesis that is never closed at column 1"),
        ("a)", "nothing to close at column 2"),
        ("()", "nothing in parentheses at column 2"),
        ('a "b', "a quote that is never closed at column 3"),
        ("a OR", "a term is missing at column 5"),
        ("OR a", "a term is missing at column 1"),
        ("a ,b", "a list that belongs to no field at column 3"),
        ("status:eror", "'eror' does not fit 'status' at column 8; did you mean 'error'?"),
        ("status:ok kind:7", "'7' does not fit 'kind' at column 16; it is one of agent, llm"),
        ("cost>cheap", "'cheap' does not fit 'cost' at column 6; write dollars: 0.01, $2"),
        ("duration>5k", "'5k' does not fit 'duration' at column 10; write a duration"),
        ("tokens:..", "'..' does not fit 'tokens' at column 8; write a range"),
        ("tokens>1,2", "'tokens' takes one value at column 10"),
        ("tokens>99999999999999999999", "at column 8; that is more than a number here can be"),
        ("agent>x", "'agent' does not take '>' at column 1; it takes : and !="),
        ("since>7d", "'since' does not take '>' at column 1"),
        ("since:yesterday", "'yesterday' does not fit 'since' at column 7; write 30m, 12h"),
        ("tool:a*b*c*d*e*f", "at column 6; a pattern may have 4 stars"),
        ("http://example.org", "unknown field 'http' at column 1; quote a text that holds a colon"),
        ('""', "a text without a letter at column 1"),
        ("a\0b", "a character that no text holds at column 2"),
        ("attr.:x", "unknown field 'attr.' at column 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_column(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        span_tests(text, now=NOW)
    assert message in caught.value.message
    column = int(caught.value.message.partition("at column ")[2].split(";")[0])
    shown, caret = (caught.value.hint or "").split("\n")
    assert caret == " " * (column - 1) + "^"
    assert shown == text.replace("\0", " ")


def test_the_hint_shows_the_place_in_a_long_filter() -> None:
    with pytest.raises(BadInput) as caught:
        span_tests("refused " * 60 + "agnt:x " + "again " * 10, now=NOW)
    shown, caret = (caught.value.hint or "").split("\n")
    assert shown[caret.index("^") :].startswith("agnt:x")
    assert len(shown) <= 80


@pytest.mark.parametrize(
    "text", ["a" * 5000, "a " * 101, "-" * 30 + "a", "tool:" + ",".join("a" * 201)]
)  # fmt: skip
def test_a_filter_is_bounded(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)


def test_parentheses_alone_nest_nothing() -> None:
    assert parse("(" * 30 + "a OR b" + ")" * 30) == Or((Words("a"), Words("b")))


ODD = st.text(st.sampled_from('ab:"\\()-,.*<>=!$ \t\n\0é\ud800OR07dsk'), max_size=40)
FIELDS = st.sampled_from(
    ["agent", "cost", "status", "since", "attr.a", "duration", "kind", "span.tool", "score.x", "tokens"]
)
LIKELY = st.lists(
    st.one_of(ODD, st.builds("{}{}{}".format, FIELDS, st.sampled_from([":", ">", "!=", "<="]), ODD)), max_size=5
).map(" ".join)  # fmt: skip


@given(st.one_of(st.text(max_size=200), ODD, LIKELY))
def test_any_text_is_a_filter_or_bad_input(text: str) -> None:
    for tests in (span_tests, rollout_tests):
        with suppress(BadInput):
            tests(text, now=NOW)


NAMES = st.from_regex(r"[a-z_]{1,8}(\.[A-Za-z.]{1,6})?", fullmatch=True).filter(
    lambda name: not name.startswith("span.")
)
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
BARE = st.text(st.sampled_from("ab*.:-<>=$0"), min_size=1, max_size=8).filter(lambda text: text[0] != "=")
VALUES = st.one_of(st.builds(Value, BARE), st.builds(Value, TEXT, st.just(True)))
TERMS = st.one_of(
    st.builds(Words, TEXT),
    st.builds(Term, NAMES, st.sampled_from([":", "!=", ">", ">=", "<", "<="]), st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
)  # fmt: skip
TREES = st.recursive(
    TERMS,
    lambda trees: st.one_of(
        trees.map(Not), st.lists(trees, min_size=1, max_size=3).map(all_of), st.lists(trees, min_size=1, max_size=3).map(any_of)
    ),
    max_leaves=12,
)  # fmt: skip


@given(TREES)
def test_a_tree_written_and_parsed_is_the_same_tree(tree: Tree) -> None:
    note(text_of(tree))
    assert parse(text_of(tree)) == tree
