"""Filters find what a naive reading of them finds: spans, rollouts, pages and totals, on both databases."""

import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.errors import BadInput
from leyden.store import rollouts, span_lists, spans
from leyden.store.filters import span_tests
from leyden.store.filters.fields import SPAN_FIELDS, bind
from leyden.store.filters.grammar import Not, Term, Tree, Value, Words, all_of, any_of, parse, text_of
from leyden.store.filters.spans import taken_apart
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from leyden.store.span_lists import Found, place_of
from store.conftest import make_span
from store.naive_filter import span_matches

NOW = 1_800_000_000.0
HOUR = 3_600_000_000_000
ROLLOUTS = 9
Rows = list[dict[str, Any]]


def made_up(rng: random.Random) -> Rows:
    """Spans over three days with few distinct values, some without a start time, two of them in 1970."""
    rows: Rows = []
    for n in range(90):
        start = (
            None
            if n % 15 == 4
            else int(NOW) * 10**9 - rng.randrange(72) * HOUR - rng.choice([0, 5, 7 * 10**11])
        )
        start = rng.randrange(10**9) if n in (30, 31) else start
        attributes = {
            k: v
            for k, v in {"a": rng.choice(["x", 7, True, None]), "deep.key": rng.choice(["x", None])}.items()
            if v is not None
        }
        rows.append(
            {
                "rollout_id": f"ro-{n % ROLLOUTS}", "attempt_id": f"at-{n % ROLLOUTS}", "trace_id": f"t{n % 4}", "span_id": f"s{n}",
                "parent_id": rng.choice([None, "s1"]), "name": rng.choice(["Chat", "chat gpt", "100% [a]?", "a_b"]),
                "kind": rng.choice(["llm", "tool", "agent"]), "status": rng.choice(["ok", "ok", "error", "unset"]), "start_ns": start,
                "end_ns": None if start is None or n % 7 == 0 else start + rng.choice([10**6, 2 * 10**9, 90 * 10**9]),
                "agent": rng.choice([None, "router", "desk", "Desk"]), "tool": rng.choice([None, "search", "search_web", "it's"]),
                "provider": rng.choice([None, "openai"]), "model": rng.choice([None, "gpt-4o", "x" * 130, "x" * 130 + "y"]),
                "session": rng.choice([None, "s-1"]), "error_type": rng.choice([None, "TimeoutError"]),
                "error_message": rng.choice([None, "Connection refused by é", "no answer"]), "fingerprint": rng.choice([None, None, "f1"]),
                "input_tokens": rng.choice([None, 0, 10, 1500]), "output_tokens": rng.choice([None, 5, 2000]),
                "cache_read_tokens": rng.choice([None, 3]), "cost_usd": rng.choice([None, 0.0, 0.02, 2.0]),
                "ttft_ms": rng.choice([None, 80.0, 1200.0]), "input_preview": rng.choice([None, "hello World"]),
                "output_preview": rng.choice([None, "it was refused"]), "dialect": rng.choice([None, "genai"]), "attributes": attributes,
            }
        )  # fmt: skip
        # As ingest has it: whoever has an error's type or message carries its fingerprint.
        if rows[-1]["error_type"] or rows[-1]["error_message"]:
            rows[-1]["fingerprint"] = rows[-1]["fingerprint"] or "f2"
    return rows


def payload(attributes: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {"attributes": attributes, "resource": {"attributes": {"host": "h1"}, "schema_url": ""}}
    )


@pytest.fixture
def filled(store: Store) -> tuple[Store, Rows]:
    rows = made_up(random.Random(5))
    fill(store, rows, "default", "ro")
    fill(store, [{**row, "rollout_id": f"x{row['rollout_id']}"} for row in rows[:20]], "other", "xro")
    return store, rows


def fill(store: Store, rows: Rows, project: str, prefix: str) -> None:
    for n in range(ROLLOUTS):
        store.writer.run(
            lambda tx, n=n: rollouts.start(
                tx, NewRollout(f'{{"q": "Hello {n}"}}', mode="train" if n % 2 else None), project=project,
                rollout_id=f"{prefix}-{n}", attempt_id=f"at-{n}", worker_id="w1" if n < 3 else None, now=NOW - n * 3600,
            )
        )  # fmt: skip
    made = [
        make_span(row["rollout_id"], row["attempt_id"], **{k: v for k, v in row.items() if k not in ("attributes", "rollout_id", "attempt_id")}, payload=payload(row["attributes"]))
        for row in rows
    ]  # fmt: skip
    stored = store.writer.run(lambda tx: spans.insert(tx, made, project=project, now=NOW, quiet_s=900))
    assert not stored.refused


def found(store: Store, text: str, **paging: Any) -> Found:
    wanted = taken_apart(span_tests(text, now=NOW))
    with store.database.read() as tx:
        return span_lists.page(tx, wanted, project="default", **{"limit": -1, **paging})


def said(page: Found) -> list[str]:
    return [row.span_id for row in page.rows]


EVERY_FIELD = [
    "kind:llm", "kind:llm,tool", "kind!=llm", "kind:l*", "name:Chat", "name:chat*", "name:*a*", 'name:"100% [a]?"', "name:100%*]?", "name:a_b",
    "status:error", "status:error,unset", "-status:ok", "agent:router", "agent:desk", "agent:*", "-agent:*", 'agent:""', 'agent:"",router',
    "agent!=router", "tool:search", "tool:search*", "tool:*web", 'tool:"it\'s"', "provider:openai", "model:gpt-4o", "model:" + "x" * 130,
    "model:xx*", "model:*y", "session:s-1", "rollout:ro-3", "rollout:ro-3,ro-4 status:ok", "attempt:at-2", "trace:t1", "span:s7", "parent:s1",
    "-parent:*", "error:TimeoutError", "error:*", "-error:*", "message:refused", "message:REFUSED*é", "message:*", 'message:""', "fingerprint:f1",
    "dialect:genai", "input_tokens:10", "input_tokens>=10", "output_tokens<6", "cache_read_tokens:*", "tokens:0..15", "tokens>1k", "tokens:2..",
    "tokens:..10", "tokens>9.5", "-tokens:*", "cost:0", "cost>0.01", "cost:0.02,$2", "cost:0..0.5", "cost<=$2", "-cost>1", "duration>1s", "duration:2s",
    "duration<5ms", "duration:1s..2m", "duration>1", "-duration:*", "ttft<500ms", "ttft>1s", "since:1d", "since:7d tool:search", "until:1d", "-since:1d",
    "since:2d until:12h", f"since:{int(NOW) - 100_000}", "attr.a:x", "attr.a:7", "attr.a:true", "attr.a>5", "-attr.a:*", "attr.a:x,7 status:error",
    "attr.deep.key:x", "attr.host:h1", "(attr.a:x OR attr.a:7) kind:tool", "refused", "REFUSED", '"by é"', "hello OR tool:search", "-refused",
    "status:error (agent:desk OR cost>1) -tool:search*", "agent:nobody", "agent:router cost>1000", "tokens>1M", "kind:tool OR (kind:llm agent:desk)",
    "", "since:1d OR agent:desk",
]  # fmt: skip


def test_every_field_and_operator_finds_what_a_naive_reading_finds(filled: tuple[Store, Rows]) -> None:
    store, rows = filled
    for text in EVERY_FIELD:
        agrees(store, rows, parse(text))


def agrees(store: Store, rows: Rows, tree: Tree) -> None:
    """Everything, a page, a page behind a cursor and a page at an offset are what the naive reading says; totals keep their word."""
    known = [{**row, "attributes": {"host": "h1", **row["attributes"]}} for row in rows]
    expected = {row["span_id"] for row in known if span_matches(tree, row, now=NOW)}
    text = text_of(tree)
    whole = found(store, text)
    ids = said(whole)
    assert (set(ids), len(ids), whole.is_exact, whole.total) == (
        expected,
        len(expected),
        True,
        len(expected),
    ), text
    starts = [(row.start_ns is not None, row.start_ns or 0) for row in whole.rows]
    assert starts == sorted(starts, reverse=True), text
    assert walked(store, text, limit=23) == ids, text
    for offset in (3, 40):
        page = found(store, text, limit=4, offset=offset)
        assert said(page) == ids[offset : offset + 4], text
        assert page.total == len(ids) if page.is_exact else len(ids) > page.total > offset, text


def walked(store: Store, text: str, *, limit: int) -> list[str]:
    """All pages, each behind the cursor of the one before."""
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = found(store, text, limit=limit, after=place_of(cursor) if cursor else None)
        ids += said(page)
        assert page.next != cursor
        cursor = page.next
    return ids


POOL: dict[str, Sequence[str]] = {
    "kind": ["llm", "tool", "*", "l*"], "name": ["Chat", "chat*", "*a*", "a_b", "*%*"], "status": ["ok", "error", "*"],
    "agent": ["router", "desk", "D*", "*", "nobody"], "tool": ["search", "search*", "*web", "it's"], "provider": ["openai", "*"],
    "model": ["gpt-4o", "x" * 130, "x*", "*y"], "rollout": ["ro-1", "ro-2", "ro-*"], "error": ["TimeoutError", "*"],
    "message": ["refused", "ANSWER", "*"], "fingerprint": ["f1", "*"], "tokens": ["10", "0..2k", "*"], "cost": ["0", "0.02", "$1..", "*"],
    "duration": ["2s", "1s..1h", "*"], "attr.a": ["x", "7", "*"],
}  # fmt: skip
COMPARED = {"tokens": ["9", "1k"], "cost": ["0.01", "1"], "duration": ["1s", "5m"], "ttft": ["100ms", "1"]}


@st.composite
def terms(draw: st.DrawFn) -> Tree:
    shape = draw(st.integers(0, 4))
    if shape == 0:
        return Words(draw(st.sampled_from(["refused", "HELLO", "chat", "nowhere"])))
    if shape == 1:
        name = draw(st.sampled_from(sorted(COMPARED)))
        operator: Any = draw(st.sampled_from([">", ">=", "<", "<="]))
        return Term(name, operator, (Value(draw(st.sampled_from(COMPARED[name]))),))
    if shape == 2:
        return Term(
            draw(st.sampled_from(["since", "until"])),
            ":",
            (Value(draw(st.sampled_from(["1d", "12h", "90m", "1800000000"]))),),
        )
    name = draw(st.sampled_from(sorted(POOL)))
    values = draw(st.lists(st.sampled_from(POOL[name]), min_size=1, max_size=2))
    return Term(name, draw(st.sampled_from([":", "!="])), tuple(map(Value, values)))


TREES = st.recursive(
    terms(),
    lambda trees: st.one_of(
        trees.map(Not), st.lists(trees, min_size=2, max_size=3).map(all_of), st.lists(trees, min_size=2, max_size=3).map(any_of)
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_a_random_filter_finds_what_a_naive_reading_finds(filled: tuple[Store, Rows], tree: Tree) -> None:
    store, rows = filled
    try:
        taken_apart(bind(tree, SPAN_FIELDS, "", now=NOW))
    except BadInput:  # attributes beside other fields in OR
        return
    agrees(store, rows, tree)
