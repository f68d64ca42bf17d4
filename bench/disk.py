"""Disk per span of recorded runs, before and after packing: `LEYDEN_DATA=… python -m bench.disk`.

Imports the runs into a fresh SQLite file as `leyden import` does, measures its tables and indexes (dbstat), packs, measures
again, and gives each as bytes per span and as share of the size of the same spans as OTLP/JSON.
"""

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from leyden.cli.import_runs import Outcome, load
from leyden.ingest.payload import spans_json
from leyden.ingest.readers import READERS
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings
from leyden.store import indexing, spans
from leyden.store.opening import Store
from leyden.store.query import Paging
from leyden.store.spans import SpanFilter

SETS = {
    "TRAIL": ("otel-json", ["trail/data"]),
    "tau-bench": ("tau-bench", ["tau-bench"]),
}
GROUPS = ("payloads", "packs", "columns", "full text", "other", "free")


class Sizes(NamedTuple):
    """Bytes of a database file: by group of tables with their indexes, of the whole file, and of what is in the packs."""

    groups: dict[str, int]
    file: int
    frames: int


def main() -> None:
    if not (data := os.environ.get("LEYDEN_DATA")):
        sys.exit("LEYDEN_DATA names no folder of recorded runs")
    for name, (reader, paths) in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            measure(name, reader, [Path(data) / path for path in paths], Path(folder) / "disk.db")


def measure(name: str, reader: str, paths: list[Path], database: Path) -> None:
    """Import, measure, pack, measure, and print."""
    app = create_app(Settings(db=str(database), pack=False))
    with Client(app=app) as client:
        for path in paths:
            load(client, READERS[reader].read(path), Outcome(), lambda _: None)
        count, raw, as_json = contents(app.context.store)
        before = sizes(database)
        start = time.perf_counter()
        client.pack()
        seconds = time.perf_counter() - start
        index(app.context.store)
        after = sizes(database)
        compact(database)
        whole = sizes(database)
    print(
        f"{name}: {count:,} spans, OTLP/JSON {as_json / count:,.0f} bytes per span, packed in {seconds:.1f} s"
    )
    print(f"  {'':24}{'before':>20}{'packed':>20}{'and vacuumed':>20}")
    for group in GROUPS:
        line(group, [each.groups.get(group, 0) for each in (before, after, whole)], count, as_json)
    line("payload bytes / frames", [raw, after.frames, whole.frames], count, as_json)
    line("file", [before.file, after.file, whole.file], count, as_json)
    if name != "TRAIL":
        return  # the bars are about agents that send their whole conversation with every call
    bars = {
        "packs": (after.groups["packs"], 0.04),
        "packs, columns, full text": (sum(after.groups.get(g, 0) for g in GROUPS[1:4]), 0.10),
    }
    for what, (size, bar) in bars.items():
        verdict = "met" if size <= bar * as_json else "MISSED"
        print(f"  {what}: {size / as_json:.1%} of OTLP/JSON, bar {bar:.0%}: {verdict}")
    print()


def index(store: Store) -> None:
    """What the search index's job does once a rollout is packed."""
    while True:
        with store.database.read() as tx:
            todos = indexing.pending(tx, limit=50)
        if not todos:
            return
        indexing.index_rollouts(store, todos)


def line(name: str, figures: list[int], count: int, as_json: int) -> None:
    print(f"  {name:24}" + "".join(f"{size / count:12,.0f} {size / as_json:7.1%}" for size in figures))


def contents(store: Store) -> tuple[int, int, int]:
    """Spans, their payload bytes, and their size as OTLP/JSON."""
    count = raw = as_json = 0
    with store.database.read() as tx:
        for (rollout_id,) in tx.driver("SELECT rollout_id FROM rollout"):
            rows, total = spans.query_payloads(tx, SpanFilter(rollout_id), Paging(), project="default")
            count, raw = count + total, raw + sum(len(row.payload) for row in rows)
            as_json += sum(len(orjson.dumps(one)) for one in otlp(map(orjson.loads, spans_json(rows))))
    return count, raw, as_json


def otlp(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Spans of the store protocol as OTLP/JSON bodies of one span each, without what a batch would share."""
    for span in found:
        yield {
            "traceId": span["trace_id"], "spanId": span["span_id"], "parentSpanId": span["parent_id"] or "",
            "name": span["name"], "kind": 1,
            "startTimeUnixNano": str(int((span["start_time"] or 0) * 1e9)),
            "endTimeUnixNano": str(int((span["end_time"] or 0) * 1e9)),
            "attributes": pairs(span["attributes"]),
            "events": [
                {
                    "name": event["name"], "timeUnixNano": str(int((event.get("timestamp") or 0) * 1e9)),
                    "attributes": pairs(event.get("attributes") or {}),
                }
                for event in span["events"]
            ],
            "status": {"code": 1, "message": span["status"].get("description") or ""},
        }  # fmt: skip


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": boxed(value)} for key, value in attributes.items()]


def boxed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [boxed(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    return {"stringValue": str(value)}


def sizes(database: Path) -> Sizes:
    """What each group of tables takes, once the log is copied into the file."""
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        owners = dict(db.execute("SELECT name, tbl_name FROM sqlite_master"))
        groups: dict[str, int] = {}
        for name, size in db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            group = group_of(owners.get(name, name))
            groups[group] = groups.get(group, 0) + size
        page = db.execute("PRAGMA page_size").fetchone()[0]
        groups["free"] = db.execute("PRAGMA freelist_count").fetchone()[0] * page
        frames = db.execute("SELECT coalesce(sum(packed_bytes), 0) FROM pack").fetchone()[0]
    db.close()
    return Sizes(groups, database.stat().st_size, frames)


def group_of(table: str) -> str:
    if table.startswith("message"):
        return "full text"
    return {"span_payload": "payloads", "pack": "packs", "span": "columns"}.get(table, "other")


def compact(database: Path) -> None:
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("VACUUM")
    db.close()


if __name__ == "__main__":
    main()
