"""Full-text search over what spans say, through the store's own functions on both databases."""

import uuid
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.ingest import texts
from leyden.ingest.record import SpanRecord
from leyden.ingest.wanted import parse
from leyden.ingest.words import normalise
from leyden.store import fulltext, indexing, pack, rollouts, scores, search, spans, tables
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from leyden.store.search import Found, Narrow
from store.conftest import delete, make_span

P = "default"
NOW = 1_800_000_000.0


def saying(rollout_id: str, number: int, *said: str, **over: Any) -> SpanRecord:
    """A span whose attributes are the texts."""
    body = {
        "attributes": {f"said.{n}": text for n, text in enumerate(said)},
        "events": [],
        "status": {"status_code": "OK", "description": None},
        "rollout_id": "",
        "attempt_id": "",
        "sequence_id": 0,
    }
    return make_span(rollout_id, "at-1", number, payload=orjson.dumps(body), **over)


def add(store: Store, *records: SpanRecord, project: str = P, mode: str | None = None) -> None:
    """Store spans in ended rollouts, packed and not indexed."""

    def write(tx: Any) -> None:
        for rollout_id in dict.fromkeys(record.rollout_id for record in records):
            rollouts.start(
                tx, NewRollout("null", mode), project=project, rollout_id=rollout_id, attempt_id="at-1",  # pyright: ignore[reportArgumentType]
                worker_id=None, now=NOW, seen=NOW,
            )  # fmt: skip
        assert not spans.insert(tx, records, project=project, now=NOW, quiet_s=900).refused

    store.writer.run(write)
    for rollout_id in dict.fromkeys(record.rollout_id for record in records):
        assert not pack.pack_rollout(store, rollout_id, now=NOW).failed


def index(store: Store) -> int:
    """What the job does."""
    with store.database.read() as tx:
        todo = indexing.pending(tx, limit=10_000)
    assert indexing.index_rollouts(store, todo)
    return len(todo)


def find(
    store: Store, query: str, *, project: str = P, limit: int = 50, cursor: str | None = None, **narrow: Any
) -> Found:
    with store.database.read() as tx:
        return search.find(
            tx, query, project=project, where=Narrow(**narrow).conditions(), limit=limit, cursor=cursor
        )


def ids(found: Found) -> list[str]:
    return [f"{hit.span.rollout_id}/{int(hit.span.span_id, 16)}" for hit in found.hits]


def counts(store: Store) -> tuple[int, int]:
    with store.database.read() as tx:
        return tuple(
            tx.first(sa.select(sa.func.count()).select_from(t))[0]
            for t in (tables.message, tables.message_hit)
        )  # pyright: ignore[reportReturnType]


def forget_all(store: Store, rollout_id: str) -> None:
    """Delete a rollout."""
    store.writer.run(lambda tx: delete(tx, rollout_id, project=P))


# ── What is found ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(store: Store) -> Store:
    """Three rollouts that say something."""
    add(
        store,
        saying("ro-a", 1, "The connection to db_main was refused", "unrelated"),
        saying("ro-a", 2, "Zürich café 日本語 ✅"),
    )
    add(store, saying("ro-b", 3, "connection established; refund was refused"))
    add(store, saying("ro-c", 4, 'call NEAR("x") body:refund * OR col-1'))
    index(store)
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("connection", ["ro-b/3", "ro-a/1"]),
        ("CONNECTION refused", ["ro-b/3", "ro-a/1"]),
        ('"was refused"', ["ro-b/3", "ro-a/1"]),
        ('"db_main was refused"', ["ro-a/1"]),
        ("db_main", ["ro-a/1"]),
        ('"connection refused"', []),
        ("conn* -refund", ["ro-a/1"]),
        ('refused -"refund was"', ["ro-a/1"]),
        ("refund", ["ro-c/4", "ro-b/3"]),
        ("established OR main", ["ro-b/3", "ro-a/1"]),
        ('"main was" OR nothing refused', ["ro-a/1"]),
        ("zurich CAFE", ["ro-a/2"]),
        ("日本", ["ro-a/2"]),
        ("本日", []),
        ("✅", ["ro-a/2"]),
        ("refused unrelated", []),
        ('NEAR("x")', ["ro-c/4"]),
        ("body:refund", ["ro-c/4"]),
        ("rowid:1", []),
        ("'; DROP TABLE message; --", []),
        ('" OR 1=1 --', []),
        ("connection\0refused", []),
        ("connection & !refused | (x)", []),
        ("{body}: connection ^ + :*", []),
        ("col-1", ["ro-c/4"]),
        ("¤", None),
        ("nosuchword", []),
    ],
)
def test_a_query_finds_the_spans_that_say_it(desk: Store, query: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(BadInput):
            find(desk, query)
        return
    found = find(desk, query)
    assert ids(found) == expected
    assert (found.cursor, found.complete) == (None, True)


def test_what_was_found_is_shown_with_its_span_and_its_rollout(desk: Store) -> None:
    desk.writer.run(lambda tx: scores.add_final(tx, "ro-a", "at-1", value=0.5, time=NOW))
    hit = find(desk, '"was refused" main').hits[0]
    assert (hit.span.rollout_id, hit.span.agent, hit.rollout.reward) == ("ro-a", "desk", 0.5)
    assert [[tuple(piece) for piece in snippet] for snippet in hit.snippets] == [
        [("The connection to db_", False), ("main", True), (" ", False), ("was refused", True)]
    ]


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ({"agent": "desk"}, [2, 1]),
        ({"agent": "other"}, [3]),
        ({"tool": "lookup"}, [2]),
        ({"kind": "tool", "status": "error"}, [2]),
        ({"model": "gpt-4o"}, [1]),
        ({"mode": "train"}, [3]),
        ({"rollout_id": "ro-1"}, [2, 1]),
        ({"since": 2.0}, [3, 2]),
        ({"until": 2.0}, [1]),
        ({"since": 1e300}, []),
        ({"min_reward": 0.5}, [2, 1]),
        ({"max_reward": 0.4}, [3]),
        ({"agent": "'; DROP TABLE span; --"}, []),
    ],
)
def test_filters_narrow_what_is_found(store: Store, narrow: dict[str, Any], expected: list[int]) -> None:
    tool = {"kind": "tool", "tool": "lookup", "status": "error", "model": None}
    add(store, saying("ro-1", 1, "needle", scores=(("reward", 0.75),)), saying("ro-1", 2, "needle", **tool))
    add(
        store,
        saying("ro-2", 3, "needle", agent="other", model="o3", scores=(("reward", 0.25),)),
        mode="train",
    )
    index(store)
    assert [int(hit.span.span_id, 16) for hit in find(store, "needle", **narrow).hits] == expected


# ── Each text once ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_repeated_in_every_turn_is_indexed_once_and_found_at_its_first_span(store: Store) -> None:
    add(store, *(saying("ro-1", n, "You are a careful agent", f"turn {n}") for n in range(1, 31)))
    index(store)
    assert counts(store) == (31, 31)
    assert ids(find(store, "careful")) == ["ro-1/1"]
    assert ids(find(store, '"turn 17"')) == ["ro-1/17"]


def test_a_span_that_says_it_several_times_is_found_once_with_each_of_its_texts(store: Store) -> None:
    add(store, saying("ro-1", 1, "the refund", "a refund", "refund three", "four refunds", "refund five"))
    index(store)
    hits = find(store, "refund").hits
    assert len(hits) == 1
    assert ["".join(piece.text for piece in snippet) for snippet in hits[0].snippets] == [
        "refund five",
        "refund three",
        "a refund",
    ]


def test_indexing_again_changes_nothing(desk: Store) -> None:
    before = counts(desk)
    desk.writer.run(lambda tx: tx.run(sa.update(tables.pack).values(texts_by=0)))
    assert index(desk) == 3
    assert index(desk) == 0
    assert counts(desk) == before


def test_spans_that_come_late_are_found_once_packed_again(desk: Store) -> None:
    late = [
        saying("ro-a", 9, "The connection to db_main was refused", "late word"),
        saying("ro-a", 10, "late word", status="error"),
    ]
    desk.writer.run(lambda tx: spans.insert(tx, late, project=P, now=NOW, quiet_s=900))
    assert ids(find(desk, "late")) == []
    pack.pack_rollout(desk, "ro-a", now=NOW)
    index(desk)
    assert ids(find(desk, '"late word"')) == ["ro-a/10", "ro-a/9"]
    assert ids(find(desk, "db_main")) == ["ro-a/1"]


def test_texts_of_older_rules_are_replaced(desk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    of_span: Callable[[Any], list[str]] = texts.of_span
    monkeypatch.setattr(texts, "RULES_VERSION", texts.RULES_VERSION + 1)
    monkeypatch.setattr(
        texts, "of_span", lambda span: [text.replace("refused", "denied") for text in of_span(span)]
    )
    assert index(desk) == 3
    assert ids(find(desk, "refused")) == []
    assert ids(find(desk, "denied")) == ["ro-b/3", "ro-a/1"]


def test_a_span_deleted_while_it_was_indexed_leaves_nothing(store: Store) -> None:
    add(store, saying("ro-1", 1, "needle"))
    with store.database.read() as tx:
        row = tx.first(sa.select(tables.span.c.id))[0]
    said = indexing.Said(indexing.hash_of("needle", project=P), "needle", [row])
    forget_all(store, "ro-1")
    store.writer.run(lambda tx: search.index(tx, [said]))
    assert counts(store) == (0, 0)


def test_indexing_stops_when_asked_and_goes_on_later(store: Store) -> None:
    add(store, *(saying("ro-1", n, f"word{n} " * 9000) for n in range(1, 5)))
    answers = iter([True, False])
    with store.database.read() as tx:
        todo = indexing.pending(tx, limit=9)
    assert not indexing.index_rollouts(store, todo, pause=lambda: next(answers))
    assert counts(store)[0] == 2
    assert index(store) == 1
    assert counts(store)[0] == 4


def test_what_is_not_indexed_yet_is_counted(store: Store) -> None:
    add(store, saying("ro-1", 1, "needle"))
    with store.database.read() as tx:
        assert (indexing.waiting(tx, project=P), indexing.waiting(tx, project="other")) == (1, 0)
    index(store)
    with store.database.read() as tx:
        assert indexing.waiting(tx, project=P) == 0


# ── Apart and gone ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_project_never_finds_what_another_says(store: Store) -> None:
    add(store, saying("ro-mine", 1, "shared words", "mine alone"))
    add(store, saying("ro-theirs", 2, "shared words", "theirs alone"), project="other")
    index(store)
    assert ids(find(store, "shared OR alone")) == ["ro-mine/1"]
    assert ids(find(store, "shared OR alone", project="other")) == ["ro-theirs/2"]
    assert find(store, "theirs").hits == []
    assert find(store, "shared", project="nobody").hits == []


def test_a_deleted_rollout_is_not_found_and_what_others_say_stays(desk: Store) -> None:
    add(desk, saying("ro-d", 7, "unrelated", "only here"))
    index(desk)
    forget_all(desk, "ro-a")
    assert ids(find(desk, "unrelated")) == ["ro-d/7"]
    assert ids(find(desk, "connection")) == ["ro-b/3"]
    add(desk, saying("ro-a", 1, "the connection again", "unrelated"))
    index(desk)
    assert ids(find(desk, "connection")) == ["ro-a/1", "ro-b/3"]
    assert indexing.sweep(desk) >= 0
    assert ids(find(desk, "connection")) == ["ro-a/1", "ro-b/3"]


def test_once_everything_is_deleted_and_swept_the_index_is_empty(desk: Store) -> None:
    for name in ("ro-a", "ro-b", "ro-c"):
        forget_all(desk, name)
    indexing.sweep(desk)
    assert counts(desk) == (0, 0)
    assert words_left(desk) == set()


def words_left(store: Store) -> set[str]:
    """Every word that the index holds, those that mark projects apart."""
    of_index = (
        "SELECT DISTINCT term FROM message_index_words"
        if store.database.is_sqlite
        else "SELECT DISTINCT unnest(tsvector_to_array(body)) FROM message_index"
    )
    with store.database.read() as tx:
        return {row[0] for row in tx.driver(of_index) if not row[0].startswith("¤")}


def test_a_sweep_takes_out_the_words_of_deleted_texts_and_no_others(desk: Store) -> None:
    forget_all(desk, "ro-a")
    indexing.sweep(desk)
    assert words_left(desk) == {
        w
        for text in ("connection established refund was refused", "call near x body refund or col 1")
        for w in text.split()
    }
    assert ids(find(desk, "refused")) == ["ro-b/3"]
    assert indexing.sweep(desk) == 0


def test_a_sweep_is_due_when_a_good_part_of_the_texts_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SWEEP_FROM", 3)
    for n in range(1, 6):
        add(store, saying(f"ro-{n}", n, f"text {n}"))
    index(store)

    def due() -> bool:
        with store.database.read() as tx:
            return indexing.needs_sweep(tx)

    assert not due()
    for n in (1, 2, 3):
        forget_all(store, f"ro-{n}")
    assert due() == store.database.is_sqlite
    indexing.sweep(store)
    assert not due()


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pages(store: Store, query: str, *, limit: int, **narrow: Any) -> Iterable[Found]:
    cursor = None
    while True:
        page = find(store, query, limit=limit, cursor=cursor, **narrow)
        yield page
        if page.cursor is None:
            return
        cursor = page.cursor


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_pages_hold_every_span_once_in_the_same_order(store: Store, limit: int) -> None:
    for r in range(6):
        add(
            store,
            *(
                saying(f"ro-{r}", 10 * r + n, "common prompt", f"needle {n % 3}", f"needle of {r}")
                for n in range(1, 6)
            ),
        )
    index(store)
    once = ids(find(store, "needle", limit=200))
    assert len(once) == len(set(once)) == 18
    assert [name for page in pages(store, "needle", limit=limit) for name in ids(page)] == once


def test_a_page_that_cost_enough_says_so_and_the_next_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOKED_AT", 40)
    add(
        store,
        *(saying(f"ro-{n}", n, f"needle {n}", agent="rare" if n == 1 else "common") for n in range(1, 400)),
    )
    index(store)
    first = find(store, "needle", agent="rare")
    assert (first.hits, first.complete) == ([], False)
    assert [name for page in pages(store, "needle", limit=5, agent="rare") for name in ids(page)] == [
        "ro-1/1"
    ]


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1-2", "1-2-3", "９-９", "1" * 30 + "-1"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(BadInput, match="cursor"):
        find(store, "word", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1000])
def test_a_limit_that_is_none_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(BadInput, match="limit"):
        find(store, "word", limit=limit)


# ── Against a naive search ───────────────────────────────────────────────────────────────────────────────────────

PIECES = st.sampled_from(
    [
        "alpha",
        "Alphabet",
        "béta",
        "gamma_delta",
        "7",
        "42",
        "日本",
        "語",
        "ok.",
        "✅",
        "don't",
        "¤x",
        "NEAR",
        "*",
        '"',
        "-x",
    ]
)
SAID = st.lists(st.one_of(PIECES, st.text(min_size=1, max_size=5)), min_size=1, max_size=8).map(" ".join)


@given(st.lists(SAID, min_size=1, max_size=5), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_word_and_any_phrase_finds_exactly_the_spans_that_say_it(
    store: Store, said: list[str], data: st.DataObject
) -> None:
    project = uuid.uuid4().hex
    add(store, *(saying(f"ro-{project}-{n}", n, text) for n, text in enumerate(said, 1)), project=project)
    index(store)
    words = normalise(data.draw(st.sampled_from(said))).split()
    if not words:
        return
    at = data.draw(st.integers(0, len(words) - 1))
    phrase = " ".join(words[at : data.draw(st.integers(at + 1, len(words)))])
    word = data.draw(st.sampled_from(words))
    for query in (f'"{phrase}"', word, f'{word} -"{phrase}"', f"{phrase} OR alpha"):
        if word in ("OR", "AND"):
            continue
        wanted = parse(query)
        expected = {
            f"ro-{project}-{n}/{n}"
            for n, text in enumerate(said, 1)
            if len(text.strip()) > 1 and wanted.holds(text.strip())
        }
        assert set(ids(find(store, query, project=project))) == expected


def test_the_word_of_a_project_is_never_a_word_of_a_text() -> None:
    assert normalise(fulltext.project_word(P)) != fulltext.project_word(P)


def test_a_span_that_is_deleted_in_the_middle_of_a_search_is_left_out(desk: Store) -> None:
    with desk.database.read() as tx:
        read = tx.all

        def reading(statement: Any, params: Any = None) -> Any:
            """The last statement of a search fetches the spans: their rollout is gone by then."""
            if "outcome" in str(statement):
                forget_all(desk, "ro-a")
            return read(statement, params)

        tx.all = reading  # pyright: ignore[reportAttributeAccessIssue]
        found = search.find(tx, "connection", project=P, where=Narrow().conditions(), limit=50)
    assert ids(found) == ["ro-b/3"]
