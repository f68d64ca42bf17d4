"""`check` is silent about a sound store and names each kind of damage."""

import pytest
import sqlalchemy as sa

from leyden.store import check, findings
from leyden.store.opening import Store
from store.test_deletion import a_finding, add_rollout

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
