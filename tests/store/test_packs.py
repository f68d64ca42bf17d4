"""Packing moves payloads, and nobody who reads them can tell."""

import random
import time
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.errors import StoreError
from leyden.ingest.payload import spans_json
from leyden.store import frames, pack, payloads, rollouts, span_lists, spans, tables
from leyden.store.filters import span_tests
from leyden.store.filters.spans import taken_apart
from leyden.store.frames import Entry
from leyden.store.opening import Store
from leyden.store.query import Paging
from leyden.store.rollouts import NewRollout
from leyden.store.spans import SpanFilter
from store.conftest import delete, make_span

NOW = 1_800_000_000.0
ENCODINGS = ("otlp", "otlp-json", "agl")


def begin(store: Store, rollout_id: str = "ro-1") -> None:
    store.writer.run(
        lambda tx: rollouts.start(
            tx, NewRollout("null"), project="default", rollout_id=rollout_id, attempt_id="at-1", worker_id=None, now=NOW
        )
    )  # fmt: skip


def end(store: Store, rollout_id: str = "ro-1") -> None:
    store.writer.run(
        lambda tx: tx.run(
            sa.update(tables.rollout)
            .where(tables.rollout.c.rollout_id == rollout_id)
            .values(status="succeeded", end_time=NOW)
        )
    )


def add(store: Store, numbers: Sequence[int], *, rollout_id: str = "ro-1", size: int = 40) -> None:
    records = [
        make_span(rollout_id, "at-1", n, payload=payload_of(rollout_id, n, size), encoding=ENCODINGS[n % 2])
        for n in numbers
    ]
    store.writer.run(lambda tx: spans.insert(tx, records, project="default", now=NOW, quiet_s=900))


def payload_of(rollout_id: str, number: int, size: int = 40) -> bytes:
    noise = random.Random(number).randbytes(size // 2)
    return f"{rollout_id} {number} ".encode() + noise + b"x" * (size - len(noise))


def read(store: Store, rollout_id: str = "ro-1") -> dict[int, bytes]:
    """The payload of every span by its number, as one page."""
    with store.database.read() as tx:
        rows, total = spans.query_payloads(tx, SpanFilter(rollout_id), Paging(), project="default")
        found, _ = spans.summaries(tx, SpanFilter(rollout_id), Paging(), project="default")
    assert total == len(rows) == len(found)
    return {int(one.span_id, 16): row.payload for one, row in zip(found, rows, strict=True)}


def count(store: Store, table: sa.Table) -> int:
    with store.database.read() as tx:
        return tx.first(sa.select(sa.func.count()).select_from(table))[0]


def is_due(store: Store) -> bool:
    with store.database.read() as tx:
        return tx.first(sa.select(tables.rollout.c.unpacked))[0] == 1


def ids_in_packs(store: Store, rollout_id: str = "ro-1") -> list[int]:
    with store.database.read() as tx:
        return [id_ for row in payloads.packs_of(tx, [rollout_id]) for id_ in row.holds().span_rows]


def expected(numbers: Sequence[int], rollout_id: str = "ro-1", size: int = 40) -> dict[int, bytes]:
    return {n: payload_of(rollout_id, n, size) for n in numbers}


ENTRIES = st.lists(
    st.tuples(st.integers(1, 2**62), st.sampled_from(["otlp", "agl", "ähnlich"]), st.binary(max_size=300)),
    max_size=40,
    unique_by=lambda entry: entry[0],
)


@given(ENTRIES)
def test_what_is_unpacked_is_what_was_packed(given: list[tuple[int, str, bytes]]) -> None:
    entries = [Entry(*one) for one in given]
    packed = frames.pack(entries)
    directory = frames.read_directory(
        packed.directory, spans=packed.spans, raw_bytes=packed.raw_bytes, label="Pack 1"
    )
    raw = frames.unpack(packed.frame, directory, label="Pack 1")
    frames.verify(raw, directory, label="Pack 1")
    assert payloads.Part(directory, raw).entries() == entries


@given(ENTRIES, st.data())
def test_damage_of_any_byte_is_one_clear_error(
    given: list[tuple[int, str, bytes]], data: st.DataObject
) -> None:
    packed = frames.pack([Entry(*one) for one in given])
    which = data.draw(st.sampled_from(["directory", "frame"]))
    blob = bytearray(getattr(packed, which))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] ^= data.draw(st.integers(1, 255))
    else:
        del blob[data.draw(st.integers(0, len(blob) - 1)) :]
    hurt, said = packed._replace(**{which: bytes(blob)}), None
    try:
        directory = frames.read_directory(
            hurt.directory, spans=packed.spans, raw_bytes=packed.raw_bytes, label="Pack 1"
        )
        raw = frames.unpack(hurt.frame, directory, label="Pack 1")
    except StoreError as error:
        said = error
    else:
        # zstd has header bits that mean nothing; the payloads are the same.
        assert payloads.Part(directory, raw).entries() == [Entry(*one) for one in given]
    if said is not None:
        assert said.message.startswith("Pack 1 is damaged: ")
        assert "leyden db check" in str(said.hint)


def test_a_frame_never_grows_past_what_its_directory_declares() -> None:
    honest, bomb = frames.pack([Entry(1, "otlp", b"x")]), frames.pack([Entry(1, "otlp", bytes(50 * 2**20))])
    directory = frames.read_directory(honest.directory, spans=1, raw_bytes=1, label="Pack 1")
    with pytest.raises(StoreError, match="declares 52428800 bytes where 1 were packed"):
        frames.unpack(bomb.frame, directory, label="Pack 1")
    with pytest.raises(StoreError, match="its row declares 1 spans of 1 bytes"):
        frames.read_directory(bomb.directory, spans=1, raw_bytes=1, label="Pack 1")


def test_packing_moves_every_payload_of_an_ended_rollout_and_reads_go_on_as_before(store: Store) -> None:
    begin(store)
    add(store, range(1, 300))
    assert pack.pack_all(store, now=NOW).rollouts == 0, "it has not ended"
    end(store)
    assert pack.pack_all(store, now=NOW, after_s=1).rollouts == 0, "it ended just now"
    done = pack.pack_all(store, now=NOW + 1, after_s=1)
    assert (done.rollouts, done.spans, done.failed) == (1, 299, 0)
    assert (count(store, tables.span_payload), count(store, tables.pack)) == (0, 1)
    assert not is_due(store)
    assert read(store) == expected(range(1, 300))
    with store.database.read() as tx:
        row = spans.payload(tx, "ro-1", "at-1", f"{7:016x}", project="default")
        assert row is not None
        assert (row.payload, row.encoding, row.sequence_id) == (payload_of("ro-1", 7), "otlp-json", 7)
        assert spans.payload(tx, "ro-1", "at-1", f"{7:016x}", project="other") is None
    assert pack.pack_all(store, now=NOW + 1) == pack.Progress()


def test_late_spans_join_the_pack(store: Store) -> None:
    begin(store)
    end(store)
    for numbers in (range(1, 5), range(10, 20), range(5, 10)):
        add(store, numbers)
        assert is_due(store)
        assert pack.pack_all(store, now=NOW).spans == len(numbers)
        assert not is_due(store)
    assert read(store) == expected(range(1, 20))
    assert count(store, tables.pack) == 1
    add(store, range(1, 20))  # sent again: nothing is new
    assert not is_due(store)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["add", "add large", "pack", "cut short", "read"]), max_size=12),
    st.integers(0, 2**32),
)
def test_whatever_comes_when_every_payload_is_in_one_pack_or_in_its_row(
    store: Store, acts: list[str], seed: int
) -> None:
    rollout_id = f"ro-{seed}-{time.perf_counter_ns()}"
    begin(store, rollout_id)
    end(store, rollout_id)
    chance = random.Random(seed)
    left = chance.sample(range(1, 200), 199)
    wanted: dict[int, bytes] = {}
    for act in [*acts, "pack", "read"]:
        if act.startswith("add"):
            numbers, left = left[:7], left[7:]
            size = 900_000 if act == "add large" else 40
            add(store, numbers, rollout_id=rollout_id, size=size)
            wanted |= expected(numbers, rollout_id, size)
        elif act == "pack":
            assert pack.pack_all(store, now=NOW).failed == 0
        elif act == "cut short":
            leave_in_both_places(store, rollout_id)
        else:
            assert read(store, rollout_id) == wanted
    packed = ids_in_packs(store, rollout_id)
    assert len(packed) == len(set(packed)) == len(wanted)
    assert count(store, tables.span_payload) == 0
    store.writer.run(lambda tx: delete(tx, rollout_id, project="default"))
    assert (count(store, tables.pack), count(store, tables.span)) == (0, 0)


def leave_in_both_places(store: Store, rollout_id: str) -> None:
    """What a kill between the writing of a pack and the deletion of the last rows leaves."""
    with store.database.read() as tx:
        rows = [
            (entry.span_row, entry.encoding, entry.payload)
            for row in payloads.packs_of(tx, [rollout_id])
            if (part := payloads.unpacked(tx, row))
            for entry in part.entries()
        ][:5]
    if rows:
        mark = sa.update(tables.rollout).where(tables.rollout.c.rollout_id == rollout_id).values(unpacked=1)
        store.writer.run(lambda tx: (tx.insert_new(tables.span_payload, rows), tx.run(mark)))


def test_a_large_rollout_is_packed_in_parts_and_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PART_BYTES", 4000)
    monkeypatch.setattr(pack, "SLICE_S", 0.0)
    begin(store)
    add(store, range(1, 500))
    end(store)
    done = pack.pack_all(store, now=NOW)
    assert (done.rollouts, done.spans) == (1, 499)
    assert count(store, tables.pack) >= 5
    assert count(store, tables.span_payload) == 0
    assert not is_due(store)
    assert read(store) == expected(range(1, 500))


def test_payloads_that_do_not_compress_are_packed_in_small_frames(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "FRAME_BYTES", 3000)
    begin(store)
    end(store)
    for numbers in (range(1, 40), range(40, 80)):
        add(store, numbers, size=500)
        pack.pack_all(store, now=NOW)
    with store.database.read() as tx:
        sizes = [row[0] for row in tx.all(sa.select(sa.func.length(tables.pack.c.frame)))]
    assert max(sizes) <= 3000
    assert len(sizes) > 8
    assert read(store) == expected(range(1, 80), size=500)


def test_a_packing_that_something_else_overtakes_gives_way(store: Store) -> None:
    begin(store)
    add(store, range(1, 10))
    end(store)
    works, _ = pack._plan(store, ["ro-1"])  # pyright: ignore[reportPrivateUsage]
    assert pack._compress(store, works[0], now=NOW)  # pyright: ignore[reportPrivateUsage]
    add(store, range(10, 12))
    pack.pack_all(store, now=NOW)
    assert pack._write(store, works, now=NOW) == []  # pyright: ignore[reportPrivateUsage]
    assert read(store) == expected(range(1, 12))
    assert len(ids_in_packs(store)) == 11


def test_a_span_that_comes_while_its_rollout_is_packed_keeps_it_due(store: Store) -> None:
    begin(store)
    add(store, range(1, 10))
    end(store)
    works, _ = pack._plan(store, ["ro-1"])  # pyright: ignore[reportPrivateUsage]
    assert pack._compress(store, works[0], now=NOW)  # pyright: ignore[reportPrivateUsage]
    add(store, [10])
    assert len(pack._write(store, works, now=NOW)) == 1  # pyright: ignore[reportPrivateUsage]
    assert is_due(store)
    assert read(store) == expected(range(1, 11))
    pack.pack_all(store, now=NOW)
    assert not is_due(store)
    assert read(store) == expected(range(1, 11))


def test_a_pack_never_takes_the_number_of_the_one_it_replaces(store: Store) -> None:
    begin(store)
    end(store)
    numbers: list[int] = []
    for n in range(1, 4):
        add(store, [n])
        pack.pack_all(store, now=NOW)
        with store.database.read() as tx:
            numbers += [row.id for row in payloads.packs_of(tx, ["ro-1"])]
    assert len(set(numbers)) == 3, "or an indexer would take the new one for done"


def test_a_rollout_deleted_while_it_is_packed_leaves_nothing(store: Store) -> None:
    begin(store)
    add(store, range(1, 10))
    end(store)
    works, _ = pack._plan(store, ["ro-1"])  # pyright: ignore[reportPrivateUsage]
    assert pack._compress(store, works[0], now=NOW)  # pyright: ignore[reportPrivateUsage]
    store.writer.run(lambda tx: delete(tx, "ro-1", project="default"))
    assert pack._write(store, works, now=NOW) == []  # pyright: ignore[reportPrivateUsage]
    assert count(store, tables.pack) == 0


def test_a_damaged_pack_says_so_and_hurts_no_other_rollout(store: Store) -> None:
    for rollout_id in ("ro-1", "ro-2"):
        begin(store, rollout_id)
        add(store, range(1, 10), rollout_id=rollout_id)
        end(store, rollout_id)
    pack.pack_all(store, now=NOW)
    hurt = sa.update(tables.pack).where(tables.pack.c.rollout_id == "ro-1")
    store.writer.run(lambda tx: tx.run(hurt.values(frame=b"nothing")))
    payloads.forget_lately()
    with pytest.raises(StoreError, match=r"Pack \d+ \(part 0 of rollout 'ro-1'\) is damaged") as caught:
        read(store)
    assert "leyden db check" in str(caught.value.hint)
    assert read(store, "ro-2") == expected(range(1, 10), "ro-2")
    add(store, [10], rollout_id="ro-1")
    assert pack.pack_all(store, now=NOW).failed == 0, "new spans are packed beside it"
    store.writer.run(lambda tx: tx.run(hurt.values(directory=b"nothing")))
    add(store, [11], rollout_id="ro-1")
    assert pack.pack_all(store, now=NOW).failed == 1
    with pytest.raises(StoreError, match="damaged"):
        read(store)


def test_attributes_are_found_in_packs_and_a_span_that_names_its_ids_is_handed_out_as_it_came(
    store: Store,
) -> None:
    begin(store)
    payload = b'{"rollout_id":"ro-1","attempt_id":"at-1","sequence_id":3,"attributes":{"tier":"gold"},"resource":{"attributes":{}}}'
    record = make_span("ro-1", "at-1", 3, sequence_id=3, payload=payload)
    store.writer.run(lambda tx: spans.insert(tx, [record], project="default", now=NOW, quiet_s=900))
    end(store)
    pack.pack_all(store, now=NOW)
    with store.database.read() as tx:
        for tier, matches in (("gold", 1), ("tin", 0)):
            wanted = taken_apart(span_tests(f"attr.tier:{tier}", now=NOW))
            assert span_lists.page(tx, wanted, project="default", limit=10).total == matches
        rows, _ = spans.query_payloads(tx, SpanFilter("ro-1"), Paging(), project="default")
    assert rows[0].encoding == "agl-filed", "its ids were compared when it was packed"
    assert spans_json(rows) == [payload]
