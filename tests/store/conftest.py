"""A store on each database, driven by its own functions: what the server does, without the server."""

from collections.abc import Iterator
from datetime import date

import pytest
import sqlalchemy as sa

from leyden.ingest.record import SpanRecord
from leyden.settings import Settings
from leyden.store import deletion, pack, partitions, tables
from leyden.store.engine import Tx
from leyden.store.opening import Store, open_store

# Those that look at the tables themselves.
NOT_PARTITIONED = ("test_migrations", "test_partitions")
PARTITIONED = "postgres-partitioned"


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a store runs on SQLite, on PostgreSQL, and there again with spans in one table per day."""
    if "store" in metafunc.fixturenames and metafunc.module.__name__.split(".")[-1] not in NOT_PARTITIONED:
        databases = ["sqlite", "postgres", PARTITIONED]
        metafunc.definition.add_marker(pytest.mark.parametrize("database_url", databases, indirect=True))


@pytest.fixture
def store(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Store]:
    opened = open_store(settings)
    if PARTITIONED in request.node.name:
        opened.writer.run(lambda tx: partitions.partition(tx, today=date(1970, 1, 1)))
    yield opened
    opened.close()


def delete(tx: Tx, rollout_id: str, *, project: str = "default") -> None:
    """Delete a rollout within one change."""
    while not deletion.erase_some(tx, rollout_id, project=project):
        pass


def make_span(rollout_id: str, attempt_id: str, number: int = 1, **overrides: object) -> SpanRecord:
    """A model call as ingest hands it over; `number` is its span id."""
    given = {
        "rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": None, "trace_id": f"{7:032x}", "span_id": f"{number:016x}",
        "parent_id": f"{99:016x}", "name": "chat gpt-4o", "kind": "llm", "status": "ok", "start_ns": number * 1_000_000_000,
        "end_ns": number * 1_000_000_000 + 500_000_000, "agent": "desk", "tool": None, "provider": "openai", "model": "gpt-4o",
        "session": None, "error_type": None, "error_message": None, "fingerprint": None, "call_hash": None, "input_tokens": 10,
        "output_tokens": 5, "cache_read_tokens": None, "cache_write_tokens": None, "reasoning_tokens": None, "cost_usd": None,
        "ttft_ms": None, "input_preview": "hello", "output_preview": "hi", "dialect": "genai", "derived_by": 1, "encoding": "agl",
        "payload": b'{"sequence_id":0}', **overrides,
    }  # fmt: skip
    return SpanRecord(**given)  # pyright: ignore[reportArgumentType]


def pack_all(store: Store) -> None:
    """Pack every rollout, ended or not."""
    with store.database.read() as tx:
        ids = [row[0] for row in tx.all(sa.select(tables.rollout.c.rollout_id))]
    for rollout_id in ids:
        assert not pack.pack_rollout(store, rollout_id, now=0.0).failed
