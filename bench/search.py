"""Full text: what indexing costs per span and on disk, and how long a search takes. Functions for a store that is filled already.

python -m bench.search --spans 200000      fills a store of its own and prints the figures
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import sqlalchemy as sa

from bench.spans import _WORDS as COMMON  # pyright: ignore[reportPrivateUsage]
from leyden.ingest.record import SpanRecord
from leyden.settings import Settings
from leyden.store import indexing, pack, rollouts, search, spans, tables
from leyden.store.opening import Store, open_store
from leyden.store.rollouts import NewRollout

PROJECT = "default"
ROLLOUT_SPANS = 20
_RARE = 200_000
QUERIES = {
    "a rare word": "rare{n}",
    "two words": "refund rare{n}",
    "a common word": "refund",
    "five common words": "refund order customer policy flight",
    "a common word of one agent, with errors": "refund",
    "a phrase of common words": '"order was approved"',
    "a phrase nobody says": '"approved was refund order policy"',
    "a beginning": "confirm*",
    "a word nobody says": "nosuchword",
}


def index_all(store: Store) -> float:
    """Index every packed rollout; seconds."""
    began = time.process_time()
    while True:
        with store.database.read() as tx:
            todo = indexing.pending(tx, limit=25)
        if not todo:
            return time.process_time() - began
        indexing.index_rollouts(store, todo)


def ask(store: Store, query: str, *, times: int, **narrow: Any) -> tuple[float, int]:
    """p50 of a page of 20 in milliseconds, and how many it holds. `{n}` in the query is another number each time."""
    took: list[float] = []
    found = 0
    rng = Random(7)
    where = search.Narrow(**narrow).conditions()
    for _ in range(times):
        asked = query.replace("{n}", str(rng.randrange(_RARE)))
        began = time.process_time()
        with store.database.read() as tx:
            found = len(search.find(tx, asked, project=PROJECT, where=where, limit=20).hits)
        took.append(time.process_time() - began)
    return statistics.median(took) * 1000, found


def ask_all(store: Store, *, times: int = 11) -> dict[str, tuple[float, int]]:
    """Every query of the list: (p50 in ms, items of the last page)."""
    return {
        name: ask(
            store, query, times=times, **({"agent": "agent-7", "status": "error"} if "agent" in name else {})
        )
        for name, query in QUERIES.items()
    }


def size(store: Store) -> dict[str, int]:
    """Rows, and on SQLite the bytes that each part of the index takes."""
    with store.database.read() as tx:
        found = {
            f"{t.name} rows": tx.first(sa.select(sa.func.count()).select_from(t))[0]
            for t in (tables.message, tables.message_hit)
        }
        if tx.is_sqlite:
            rows = tx.driver("SELECT name, sum(pgsize) FROM dbstat WHERE name LIKE '%message%' GROUP BY name")
            found |= {f"{name} bytes": number for name, number in rows}
    return found


def fill(store: Store, number: int) -> int:
    """Store `number` spans in ended rollouts; bytes of their payloads."""
    rng = Random(1)
    total = 0
    for first in range(0, number, ROLLOUT_SPANS * 25):
        records = list(_records(rng, first, min(ROLLOUT_SPANS * 25, number - first)))
        total += sum(len(record.payload) for record in records)
        store.writer.run(lambda tx, records=records: _insert(tx, records), size=1)
        for rollout_id in dict.fromkeys(record.rollout_id for record in records):
            pack.pack_rollout(store, rollout_id, now=1.8e9)
    return total


def _insert(tx: Any, records: list[SpanRecord]) -> None:
    now = 1.8e9
    for rollout_id in dict.fromkeys(record.rollout_id for record in records):
        rollouts.start(
            tx,
            NewRollout("null"),
            project=PROJECT,
            rollout_id=rollout_id,
            attempt_id="at-1",
            worker_id=None,
            now=now,
            seen=now,
        )
    spans.insert(tx, records, project=PROJECT, now=now, quiet_s=900)


def _records(rng: Random, first: int, number: int) -> Iterator[SpanRecord]:
    before = ""
    for n in range(first, first + number):
        failed = n % 50 == 7
        said = f"{' '.join(rng.choices(COMMON, k=24))} rare{rng.randrange(_RARE)}"
        system = f"You are support agent {n // 1000 % 50}. Be brief and exact, and look into the policy before any refund."
        messages = [system, before, said] if n % ROLLOUT_SPANS else [system, said]
        given = [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in messages]
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.input.messages": orjson.dumps(given).decode(),
            "gen_ai.tool.call.arguments": f'{{"order_id":"W{n}","reason":"{" ".join(rng.choices(COMMON, k=6))}"}}',
        }
        before = said
        rollout = f"ro-{n // ROLLOUT_SPANS:012d}"
        body = {"attributes": attributes, "events": [], "status": {"status_code": "OK", "description": None}}
        yield SpanRecord(
            rollout, "at-1", None, f"{n:032x}", f"{n:016x}", None, "chat", "llm", "error" if failed else "ok", n * 10**9, (n + 1) * 10**9,
            f"agent-{n // 1000 % 50}", None, "openai", "gpt-4o-mini", None, None, None, None, None, 1, 1, None, None, None, None, None,
            said[:200], None, "genai", 1, "agl",
            orjson.dumps({**body, "rollout_id": "", "attempt_id": "", "sequence_id": 0}),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--db", help="where; a new file in a temporary folder when not given")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        store = open_store(Settings(db=args.db or str(Path(folder) / "search.db")))
        total = fill(store, args.spans)
        took = index_all(store)
        print(
            f"{args.spans:,} spans, {total / args.spans:.0f} bytes each; indexed in {took / args.spans * 1e6:.0f} µs per span"
        )
        print(*(f"  {name}: {number:,}" for name, number in size(store).items()), sep="\n")
        for name, (ms, found) in ask_all(store).items():
            print(f"  {name}: {ms:.1f} ms, {found} found")
        store.close()


if __name__ == "__main__":
    main()
