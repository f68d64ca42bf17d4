"""What no crash takes away while payloads move into packs, and what a bucket that is away cannot."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from faults.load import Load, Sender
from faults.processes import Server, running, until
from leyden.store import payloads, tables
from leyden.store.engine import Database, open_database

ROLLOUTS, SPANS = 60, 25
AT_ONCE = {"LEYDEN_PACK_AFTER_S": "0"}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same database, looked at from beside the server."""
    opened = open_database(database_url)
    yield opened
    opened.close()


def filled(server: Server) -> Load:
    """Rollouts with spans, all of them stored, none ended."""
    load = Load(server.url, requests=ROLLOUTS, spans=SPANS, rollouts=ROLLOUTS)
    sender = Sender(load, server.url)
    sender.join()
    assert len(sender.acknowledged) == ROLLOUTS
    return load


def end_all(server: Server, load: Load) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for rollout_id, attempt_id in load.attempts:
            path = f"/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}"
            assert http.post(path, json={"status": "succeeded"}).status_code == 200


def contents(database: Database) -> dict[int, str]:
    """A digest of every payload by its span, wherever it lies; fails when one is nowhere or twice in packs."""
    with database.read() as tx:
        rows = tx.driver("SELECT id, rollout_id FROM span")
        packed = [
            id_
            for row in payloads.packs_of(tx, sorted({row[1] for row in rows}))
            for id_ in row.holds().span_rows
        ]
        assert len(packed) == len(set(packed))
        return {
            id_: hashlib.sha256(payload).hexdigest() for id_, (payload, _) in payloads.by_id(tx, rows).items()
        }


def how_many(database: Database, what: sa.Table) -> int:
    with database.read() as tx:
        return tx.first(sa.select(sa.func.count()).select_from(what))[0]


def is_packed(database: Database) -> bool:
    """Whether every payload is in a pack."""
    return how_many(database, tables.pack) > 0 and how_many(database, tables.span_payload) == 0


def test_a_kill_while_rollouts_are_packed_loses_no_payload_and_doubles_none(
    database_url: str, database: Database
) -> None:
    with running(database_url, LEYDEN_PACK="false") as server:
        load = filled(server)
        end_all(server, load)
        server.stop()
    whole = contents(database)
    assert len(whole) == ROLLOUTS * SPANS
    for moment in (1, 30):
        with running(database_url, **AT_ONCE) as server:
            until(lambda moment=moment: how_many(database, tables.pack) >= moment)
            server.kill()
        assert contents(database) == whole
    with running(database_url, **AT_ONCE) as server:
        until(lambda: is_packed(database))
        found, _ = load.stored(server.url)
        assert set(found) == load.all_span_ids()
        assert server.stop() == 0
    assert contents(database) == whole
    assert how_many(database, tables.pack) == ROLLOUTS
    assert not [line for line in server.log if "Traceback" in line]


def test_two_servers_that_pack_the_same_rollouts_pack_each_span_once(
    postgres_database: str,
) -> None:
    database = open_database(postgres_database)
    with running(postgres_database, LEYDEN_PACK="false") as server:
        load = filled(server)
        end_all(server, load)
        whole = contents(database)
    with running(postgres_database, **AT_ONCE) as first, running(postgres_database, **AT_ONCE) as second:
        with httpx.Client(base_url=first.url, timeout=60) as http:
            assert http.post("/api/db/pack").json()["failed"] == 0
        until(lambda: is_packed(database))
        assert contents(database) == whole
        for one in (first, second):
            assert one.stop() == 0
            assert not [line for line in one.log if "Traceback" in line]
    database.close()


def test_a_bucket_that_is_away_delays_packing_and_reads_of_packs_and_nothing_else(tmp_path: Path) -> None:
    place, hidden, path = tmp_path / "packs", tmp_path / "hidden", str(tmp_path / "leyden.db")
    database = open_database(path)
    with running(path, LEYDEN_PACK_URL=str(place), **AT_ONCE) as server:
        load = filled(server)
        place.write_text("in the way")
        end_all(server, load)
        until(lambda: any("cannot be reached" in line for line in server.log))
        found, _ = load.stored(server.url)
        assert set(found) == load.all_span_ids()
        place.unlink()
        until(lambda: is_packed(database))
        server.stop()
    with running(path, LEYDEN_PACK_URL=str(place)) as server, httpx.Client(base_url=server.url) as http:
        place.rename(hidden)
        place.write_text("in the way")
        asked = {"rollout_id": load.attempts[0][0]}
        answer = http.get("/v1/agl/spans", params=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_busy")
        assert "LEYDEN_PACK_URL" in answer.json()["error"]["hint"]
        assert http.get(f"/api/rollouts/{asked['rollout_id']}/spans").status_code == 200
        place.unlink()
        hidden.rename(place)
        assert http.get("/v1/agl/spans", params=asked).json()["total"] == SPANS
        assert server.stop() == 0
    database.close()
    assert not [line for line in server.log if "Traceback" in line]
