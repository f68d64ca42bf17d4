"""`check` is silent about a sound store and names each kind of damage."""

import pytest
import sqlalchemy as sa

from leyden.store import check, deletion, findings, indexing, model_calls, orphans, pack, spend, tables
from leyden.store.engine import Tx
from leyden.store.model_calls import Seen
from leyden.store.opening import Store
from store.test_deletion import NOW, a_finding, add_rollout
from store.test_spend import make_call

DAMAGE = {
    "a payload is lost": ("DELETE FROM span_payload WHERE id = 1", "spans have a payload, once: span 1 of ro-1 has no payload"),
    "a span is lost": ("DELETE FROM span WHERE id = 1", "payloads belong to a span: payload 1 belongs to no span"),
    "a rollout is lost": ("DELETE FROM rollout", "scores belong to a rollout: score of ro-1, which is not there"),
    "an attempt is lost": ("DELETE FROM attempt", "rollouts count their attempts: ro-1 counts 1 attempts and has 0"),
    "the latest attempt is another": (
        "UPDATE rollout SET attempt_id = 'at-9'",
        "rollouts know their latest attempt: the latest attempt of ro-1 is at-9, which is not there",
    ),
    "a score is nobody's": (
        "UPDATE score SET rollout_id = 'ro-x' WHERE id = 1",
        "scores belong to a rollout: score of ro-x, which is not there",
    ),
    "a finding is lost": (
        "DELETE FROM finding",
        "evidence belongs to a finding: evidence ro-1 of finding f-1, which is not there",
    ),
    "evidence is nobody's": (
        "UPDATE finding_evidence SET rollout_id = 'ro-x'",
        "evidence belongs to a rollout: evidence of ro-x, which is not there",
    ),
    "a span moved to another project": (
        "UPDATE span SET project = 'other' WHERE id = 2",
        "spans are in the project of their rollout: span 2 is in project 'other', its rollout in 'default'",
    ),
    "a counter went back": (
        "UPDATE rollout SET span_seq = 1",
        "rollouts count their spans: ro-1 counts spans up to 1 and has number 3",
    ),
    "a worker lost its work": (
        "UPDATE worker SET current_rollout_id = 'ro-x', current_attempt_id = 'at-1'",
        "workers work on what is there: worker w-ro-1 works on ro-x, which is not there",
    ),
    "a hit points nowhere": (
        "INSERT INTO message_hit (message_id, span_row) VALUES (7, 1)",
        "search hits point at texts: span 1 says text 7, which is not there",
    ),
    "a span of a hit is lost": (
        "INSERT INTO message_hit (message_id, span_row) VALUES (7, 99)",
        "search hits point at spans: text 7 is found in span 99, which is not there",
    ),
    "a sum is wrong": (
        "UPDATE rollup SET spans = spans + 1 WHERE grain = 3600",
        "sums per hour and day equal a recount: rollup ",
    ),
    "spend is nobody's": (
        "INSERT INTO spend_rollout (rollout_id, calls, cost_nano) VALUES ('ro-x', 1, 1)",
        "spend belongs to a rollout: spend of ro-x, which is not there",
    ),
    "a model call is nobody's": (
        "INSERT INTO model_call (rollout_id, response_id, end_ns) VALUES ('ro-x', 'chatcmpl-1', 1)",
        "model calls belong to a rollout: model call of ro-x, which is not there",
    ),
    "a pack is nobody's": (
        "INSERT INTO pack (project, rollout_id, part, spans, raw_bytes, packed_bytes, create_time, directory) "
        "VALUES ('default', 'ro-x', 0, 0, 0, 0, 1.0, '')",
        "packs belong to a rollout: pack of ro-x, which is not there",
    ),
}  # fmt: skip


@pytest.fixture
def filled(store: Store) -> Store:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1"))
    store.writer.run(lambda tx: findings.save(tx, [a_finding("ro-1")], project="default"))
    return store


def test_a_sound_store_has_no_problems(filled: Store) -> None:
    assert check.problems(filled.database, deep=True) == []


def test_an_empty_store_has_no_problems(store: Store) -> None:
    assert check.problems(store.database) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(filled: Store, damage: str) -> None:
    statement, expected = DAMAGE[damage]
    filled.writer.run(lambda tx: tx.run(sa.text(statement)))
    found = check.problems(filled.database)
    assert any(line.startswith(expected) for line in found), found
    assert all(line.endswith(")") for line in found), "each says what to do"


def test_what_is_left_of_rollouts_that_are_gone_is_dropped_and_nothing_else(filled: Store) -> None:
    lost = [make_call(rollout_id="ro-1")]
    seen = [Seen(rollout_id, (f"chatcmpl-{n}",), n, n) for rollout_id in ("ro-1", "ro-x") for n in range(3)]

    def leave(tx: Tx) -> None:
        spend.add(tx, lost)
        model_calls.remember(tx, seen)
        tx.run(sa.insert(tables.spend_rollout), {"rollout_id": "ro-y", "calls": 1, "cost_nano": 1})

    filled.writer.run(leave)
    with filled.database.read() as tx:
        assert orphans.count(tx) == 4
    assert orphans.drop(filled.database, filled.writer) == 4
    assert orphans.drop(filled.database, filled.writer) == 0
    assert check.problems(filled.database) == []
    with filled.database.read() as tx:
        assert tx.first(sa.select(sa.func.count()).select_from(tables.model_call))[0] == 3
        assert spend.of_rollout(tx, "ro-1", project="default") == 0.25


def test_of_much_damage_the_first_is_told_and_the_rest_counted(store: Store) -> None:
    store.writer.run(lambda tx: add_rollout(tx, "ro-1", spans_of_it=30))
    store.writer.run(lambda tx: tx.run(sa.text("DELETE FROM span_payload")))
    found = check.problems(store.database)
    assert len(found) == check.TOLD + 1
    assert found[-1] == "spans have a payload, once: and 20 more"


def test_a_sequence_that_would_repeat_a_number_is_found(filled: Store) -> None:
    if filled.database.is_sqlite:
        return  # makes the next number from the largest
    filled.writer.run(lambda tx: tx.run(sa.text("SELECT setval('span_id_seq', 1)")))
    assert [
        line
        for line in check.problems(filled.database)
        if line.startswith("numbers are not given out twice: span")
    ]


# ── Packs and full text ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def packed(filled: Store) -> Store:
    pack.pack_all(filled, now=NOW + 100)
    with filled.database.read() as tx:
        todos = indexing.pending(tx, limit=10)
    indexing.index_rollouts(filled, todos)
    return filled


def test_a_packed_and_indexed_store_has_no_problems(packed: Store) -> None:
    assert check.problems(packed.database) == []


def test_a_flipped_byte_in_a_pack_is_found(packed: Store) -> None:
    def flip(tx: Tx) -> None:
        frame = bytearray(tx.first(sa.select(tables.pack.c.frame))[0])
        frame[len(frame) // 2] ^= 0x01
        tx.run(sa.update(tables.pack).values(frame=bytes(frame)))

    packed.writer.run(flip)
    assert [line.partition(":")[0] for line in check.problems(packed.database)] == [
        "packs hold what they say"
    ]
    assert check.problems(packed.database, deep=False) == []


def test_a_lost_pack_is_found(packed: Store) -> None:
    packed.writer.run(lambda tx: tx.run(sa.delete(tables.pack)))
    assert check.problems(packed.database)[0].startswith(
        "spans have a payload, once: span 1 of ro-1 has no payload"
    )


def test_a_span_that_only_its_pack_knows_is_found(packed: Store) -> None:
    packed.writer.run(lambda tx: tx.run(sa.text("DELETE FROM span WHERE id = 2")))
    assert any("holds span 2 of ro-1, which is not there" in line for line in check.problems(packed.database))


def test_payloads_that_no_job_would_ever_pack_are_found(packed: Store) -> None:
    row = "INSERT INTO span_payload (id, encoding, payload) VALUES (1, 'agl', '')"
    packed.writer.run(lambda tx: tx.run(sa.text(row)))
    assert any(
        "ro-1 counts as packed, and 1 payloads of it are not" in line
        for line in check.problems(packed.database)
    )


def test_deleting_a_packed_and_indexed_rollout_leaves_nothing(packed: Store) -> None:
    deletion.delete(packed.writer, "ro-1", project="default")
    assert check.problems(packed.database) == []
    with packed.database.read() as tx:
        for table in (tables.pack, tables.span, tables.span_payload, tables.message_hit, tables.score):
            assert tx.first(sa.select(sa.func.count()).select_from(table))[0] == 0
