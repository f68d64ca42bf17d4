"""Spans per second over OTLP/HTTP: 512, 100 and 8 spans per request, as durable as each server makes them.

Leyden answers after the commit to its SQLite file; the peer holds everything in memory.
"""

import uvloop

from bench import spans
from bench.figures import Report, arguments, in_turn
from bench.load import ingest
from bench.servers import Server, running

# (spans per request, connections, spans per round, bar)
SHAPES = ((512, 4, 60_000, "25,000 and 3x"), (100, 8, 40_000, "25,000 and 3x"), (8, 8, 12_000, ""))


def main() -> None:
    args = arguments(
        __doc__,
        fill={"type": int, "default": 0, "metavar": "N", "help": "store N spans in our server first"},
        synchronous={
            "choices": ("NORMAL", "FULL"),
            "default": None,
            "help": "SQLite durability of our server",
        },
        shape={"type": int, "choices": [s[0] for s in SHAPES], "help": "only this many spans per request"},
        scale={"type": float, "default": 1.0, "help": "multiply the spans per round"},
    )
    report = Report("ingest")
    with running(only=args.only, synchronous=args.synchronous) as servers:
        if args.fill:
            fill(servers, args.fill, report)
        for size, connections, number, bar in SHAPES:
            if args.shape not in (None, size):
                continue
            number = int(number * args.scale) // (10 if args.quick else 1)
            rounds = in_turn(servers, args.rounds, lambda server: measure(server, size, connections, number))  # noqa: B023
            name = f"{size} per request, {connections} clients"
            report.add(name, "spans/s", rounds, "rate", bar=bar)
            report.add(f"{name}, per CPU-second", "spans", rounds, "per_cpu_s")
            report.add(f"{name}, p50", "ms", rounds, "p50_ms", lower_is_better=True)
            report.add(
                f"{name}, p99", "ms", rounds, "p99_ms", lower_is_better=True, bar="100 ms at 1 M spans"
            )
        report.add(
            "resident memory at the end",
            "MB",
            rounds,
            "rss_mb",
            lower_is_better=True,
            bar="200 MB at 1 M spans",
        )
    report.finish(args)


def measure(server: Server, size: int, connections: int, number: int) -> dict[str, float]:
    before = server.cpu_s()
    timings = uvloop.run(
        ingest(server.port, spans=number, prepared=spans.bodies(size), connections=connections)
    )
    return {
        "rate": timings.rate,
        "per_cpu_s": timings.done / max(server.cpu_s() - before, 1e-9),
        "p50_ms": timings.percentile_ms(0.5),
        "p99_ms": timings.percentile_ms(0.99),
    }


def fill(servers: list[Server], number: int, report: Report) -> None:
    """Put `number` spans into our server before anything is measured; the peer stays empty."""
    for server in servers:
        if server.name != "leyden":
            continue
        timings = uvloop.run(ingest(server.port, spans=number, prepared=spans.bodies(512), connections=4))
        report.one(f"filling with {timings.done:,} spans", "spans/s", timings.rate)
        for what, name in (("database", "leyden.db"), ("write-ahead log", "leyden.db-wal")):
            report.one(f"{what} after filling", "MB", (server.folder / name).stat().st_size / 1e6)
        report.one("resident memory after filling", "MB", server.rss_mb(), bar="200 MB at 1 M spans")
        report.notes.append(
            f"our server held {timings.done:,} spans before the first round; the peer held none"
        )


if __name__ == "__main__":
    main()
