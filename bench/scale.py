"""How a store with a million spans behaves: ingest, pages, filters, full text, charts, memory, disk; SQLite and PostgreSQL.

The store is made once and kept (`--keep`, default under the user's cache), see `bench/filled.py`; each run works on a copy. Answers are timed
over HTTP by one client; "in the server" is that less the answer of /healthz over the same connection, measured in the same minute.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import uvloop

from bench import filled, spans
from bench.figures import Report, arguments
from bench.load import API, Connection, Timings, each, ingest, open_attempts
from bench.queries import timed
from bench.servers import LOAD_CORE, Server, pin, scratch, start_leyden

REQUESTS = 100
SEARCHES = {
    "a rare word": "w000400",
    "a common word": "refund",
    "two common words": "refund approved",
    "a phrase": '"payment failed retry"',
    "a word and a filter": "invoices&agent=rare",
    "a beginning": "w0004*",
    "nothing": "xyzzy",
}
FILTERS = {
    "agent and status": "agent:router status:error",
    "a rare agent": "agent:rare",
    "cost": "cost>0.0199",
    "tool, duration, two days": "tool:refund_payment duration>2s since:2d",
    "nothing": "agent:router model:none",
}


def main() -> None:
    args = arguments(
        __doc__,
        spans={
            "type": int,
            "default": 1_000_000,
            "metavar": "N",
            "help": "spans in the large store (1,000,000)",
        },
        keep={"type": Path, "default": cache(), "metavar": "DIR", "help": "where filled stores are kept"},
        postgres={
            "metavar": "URL",
            "help": "measure this empty PostgreSQL instead of SQLite (one is started for 'own')",
        },
    )
    number = args.spans // (100 if args.quick else 1)
    report = Report("scale-postgres" if args.postgres else "scale")
    report.one("calibration: sum(range(300000))", "ms", calibration())
    if args.postgres:
        with postgres(args.postgres) as url:
            on_postgres(report, url, number, quick=args.quick)
    else:
        for size in (number // 10, number):
            on_sqlite(report, size, args.keep, quick=args.quick, is_last=size == number)
    report.finish(args)


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leyden-bench"


def calibration() -> float:
    """The best of many rounds of the same loop everywhere, ms: about 3 on the machine of reference, more on a slower one."""
    times: list[float] = []
    for _ in range(30):
        before = time.perf_counter()
        sum(range(300_000))
        times.append(time.perf_counter() - before)
    return min(times) * 1000


@contextmanager
def postgres(given: str) -> Iterator[str]:
    """The URL that was given, or that of a PostgreSQL of our own."""
    if given != "own":
        yield given
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from postgres_cluster import cluster  # pyright: ignore[reportMissingImports]

    with cluster() as url:
        yield url


def on_sqlite(report: Report, number: int, keep: Path, *, quick: bool, is_last: bool) -> None:
    made = filled.sqlite(number, keep)
    making(report, made)
    with scratch() as folder:
        path = folder / "leyden.db"
        shutil.copy(made.database, path)
        if is_last:
            report.one(f"{number:,} spans: the file", "B/span", path.stat().st_size / number)
        server = start_leyden(folder)
        try:
            pin(LOAD_CORE)
            measure(report, server, number, quick=quick)
            if is_last:
                load(report, server, number, quick=quick)
        finally:
            server.stop()


def on_postgres(report: Report, url: str, number: int, *, quick: bool) -> None:
    making(report, filled.made(url, number))
    with scratch() as folder:
        server = start_leyden(folder, database=url)
        try:
            pin(LOAD_CORE)
            measure(report, server, number, quick=quick)
            load(report, server, number, quick=quick)
        finally:
            server.stop()


def making(report: Report, made: filled.Filled) -> None:
    """How long each step of making the store took, per span."""
    for what, seconds in (("stored", made.fill_s), ("packed", made.pack_s), ("indexed", made.index_s)):
        if seconds:
            report.one(f"{made.spans:,} spans: {what}", "µs/span", seconds / made.spans * 1e6)


def measure(report: Report, server: Server, number: int, *, quick: bool) -> None:
    """Every question, each its p50 in the server."""
    requests = REQUESTS // (10 if quick else 1)
    large, larger = filled.LARGE
    since = int(time.time()) - filled.DAYS * 86_400
    questions = {
        "20 spans of a rollout": (f"{API}/spans?rollout_id={large}&limit=20", "1 ms"),
        "all 1,500 spans of a rollout": (f"{API}/spans?rollout_id={large}", "10 ms"),
        "rows of a rollout of 10,000 spans, a page of 100": (
            f"/api/rollouts/{larger}/spans?limit=100",
            "10 ms",
        ),
        "20 rollouts": (f"{API}/rollouts?limit=20&sort_by=start_time&sort_order=desc", "10 ms"),
        "chart: cost by model, 30 days": (f"/api/metrics/chart?since={since}&by=model", "50 ms"),
        "chart: latency by agent, 30 days": (f"/api/metrics/chart?since={since}&by=agent", "50 ms"),
        **{
            f"filter: {name}": (f"/api/spans?limit=50&filter={quote(text)}", "50 ms")
            for name, text in FILTERS.items()
        },
        **{
            f"full text: {name}": (f"/api/search?q={quote(text, safe='&=')}", "200 ms")
            for name, text in SEARCHES.items()
        },
    }
    floor = uvloop.run(timed(server.port, "/healthz", requests, None)).percentile_ms(0.5)
    report.one(f"{number:,} spans: floor, /healthz", "ms", floor)
    for name, (path, bar) in questions.items():
        took = uvloop.run(timed(server.port, path, max(5, requests // 2), None))
        report.one(f"{number:,} spans: {name}", "ms", took.percentile_ms(0.5) - floor, bar=bar)


def load(report: Report, server: Server, number: int, *, quick: bool) -> None:
    """Ingest into the full store: as fast as it goes, then at half of that; memory at the end."""
    more = 60_000 // (10 if quick else 1)
    for size, connections in ((512, 4), (100, 8)):
        full = uvloop.run(
            ingest(server.port, spans=more, prepared=spans.bodies(size), connections=connections)
        )
        name = f"ingest on {number:,} spans, {size} per request"
        report.one(name, "spans/s", full.rate, bar="25,000")
        report.one(f"{name}, p99 at full load", "ms", full.percentile_ms(0.99))
        half = uvloop.run(paced(server.port, full.rate / 2, spans_in_all=more // 2, size=size))
        report.one(f"{name}, p99 at half of that", "ms", half.percentile_ms(0.99), bar="100 ms")
    report.one("resident memory at the end", "MB", server.rss_mb(), bar="200 MB")


async def paced(
    port: int, spans_per_s: float, *, spans_in_all: int, size: int, connections: int = 8
) -> Timings:
    """Requests at fixed times, whatever the answers do; a latency counts from when its request was due."""
    requests = max(connections, spans_in_all // size)
    prepared, attempts = spans.bodies(size), await open_attempts(port, connections)
    begin = time.perf_counter() + 0.1
    due = [begin + n * size / spans_per_s for n in range(requests)]

    async def act(connection: Connection, number: int) -> int:
        await asyncio.sleep(max(0.0, due[number] - time.perf_counter()))
        body = prepared[number % len(prepared)].fresh(*attempts[number % len(attempts)])
        await connection.post_otlp(body)
        late.append(time.perf_counter() - due[number])
        return size

    late: list[float] = []
    timings = await each(port, connections, range(requests), act)
    timings.latencies_s = late
    return timings


if __name__ == "__main__":
    main()
