"""Model calls through the gateway, beside calls straight to the same model server and through LiteLLM's proxy.

Leyden records every call in SQLite meanwhile, and none may be missing at the end. LiteLLM records nothing.
"""

import asyncio
import contextlib
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial

import uvloop

from bench import calls, servers, upstream
from bench.figures import Figure, Report, Rounds, arguments, in_turn
from bench.load import Connection
from bench.servers import Server

CLIENTS = 32
ROUND_S = 6.0  # one measurement takes no longer
ALONE, TOGETHER = 4_000, 30_000  # calls of one measurement: by one client, by all of them
DRAIN_S = 60.0


def main() -> None:
    args = arguments(__doc__, calls={"type": int, "default": 200_000, "help": "calls for the memory figure"})
    report = Report("gateway", peer="litellm")
    share = 10 if args.quick else 1
    with running(only=args.only) as (direct, gateways):
        made = 0
        for server in gateways:
            check(server)
        for stream in (False, True):
            kind = "streamed" if stream else "plain"
            alone = partial(measure, stream=stream, clients=1, number=ALONE // share)
            together = partial(measure, stream=stream, clients=CLIENTS, number=TOGETHER // share)
            rounds = in_turn([direct, *gateways], args.rounds, alone, needed=[direct.name])
            latency(report, kind, rounds)
            if stream:
                first_byte(report, rounds)
            made += total(rounds)
            rounds = in_turn([direct, *gateways], args.rounds, together, needed=[direct.name])
            throughput(report, kind, rounds, bar="1,500" if stream else "2,000")
            made += total(rounds)
        report.add("resident memory after that", "MB", rounds, "rss_mb", lower_is_better=True)
        if ours := next((s for s in gateways if s.name == "leyden"), None):
            made += 2 + memory(report, ours, args.calls // (share * share))
            lost_nothing(report, ours, made)
    report.finish(args)


# ── Servers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def running(*, only: str | None) -> Iterator[tuple[Server, list[Server]]]:
    """The model server, and the gateways before it, ours first; LiteLLM is left out with a note when it cannot be started."""
    with contextlib.ExitStack() as stack:
        servers.pin(servers.LOAD_CORE)
        direct = servers.start_upstream(stack.enter_context(servers.scratch()))
        stack.callback(direct.stop)
        gateways: list[Server] = []
        if only != "peer":
            folder = stack.enter_context(servers.scratch())
            (folder / "leyden.yaml").write_text(config(direct))
            ours = servers.start_leyden(folder, env={"LEYDEN_CONFIG": str(folder / "leyden.yaml")})
            stack.callback(ours.stop)
            gateways.append(ours)
        if only != "leyden":
            try:
                folder = stack.enter_context(servers.scratch())
                peer = servers.start_litellm(folder, upstream=direct, model=upstream.MODEL, key=calls.KEY)
                stack.callback(peer.stop)
                gateways.append(peer)
            except RuntimeError as error:
                if only:
                    raise
                print(f"note: measured without LiteLLM: {error}", file=sys.stderr)
        yield direct, gateways


def config(direct: Server) -> str:
    """Our gateway's configuration: all defaults."""
    mock = {"kind": "compatible", "base_url": f"http://127.0.0.1:{direct.port}/v1"}
    return json.dumps({"upstreams": {"mock": mock}, "models": {upstream.MODEL: "mock"}})


def check(server: Server) -> None:
    """Through our gateway a client sees the model server's bytes; through another at least its text."""
    plain = uvloop.run(calls.body(server.port, stream=False))
    streamed = uvloop.run(calls.body(server.port, stream=True))
    if server.name == "leyden":
        assert plain == upstream.PLAIN, plain
        assert streamed == b"".join(upstream.events(with_usage=False)), streamed
    assert b"The order 13 was sent" in plain
    assert b"word17" in streamed
    assert streamed.rstrip().endswith(b"[DONE]")


# ── Measurements ─────────────────────────────────────────────────────────────────────────────────────────────────


def measure(
    server: Server, *, stream: bool, clients: int, number: int, seconds: float = ROUND_S
) -> dict[str, float]:
    """One load on one server. Ours is charged until the last call is stored, by the clock and in CPU time."""
    before, began = server.cpu_s(), time.perf_counter()
    first, whole = uvloop.run(
        calls.load(server.port, stream=stream, clients=clients, calls=number, seconds=seconds)
    )
    if server.name == "leyden":
        uvloop.run(drain(server))
    return {
        "calls": whole.done,
        "rate": whole.done / (time.perf_counter() - began),
        "answered": whole.rate,
        "per_cpu_s": whole.done / max(server.cpu_s() - before, 1e-9),
        "p50_ms": whole.percentile_ms(0.5),
        "p99_ms": whole.percentile_ms(0.99),
        "first_ms": first.percentile_ms(0.5),
    }


async def drain(server: Server) -> None:
    """Wait until all calls are stored."""
    connection = await Connection.open(server.port)
    try:
        deadline = time.perf_counter() + DRAIN_S
        while (await connection.get("/api/gateway"))["pending"]:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"calls wait for the store for more than {DRAIN_S:g} s: {server.log()}")
            await asyncio.sleep(0.05)
    finally:
        connection.close()


def memory(report: Report, server: Server, number: int) -> int:
    """Calls in eight parts, alternately plain and streamed: resident memory after the second part and after the last."""
    made, sizes = 0, list[float]()
    for part in range(8):
        values = measure(server, stream=bool(part % 2), clients=CLIENTS, number=number // 8, seconds=DRAIN_S)
        made += int(values["calls"])
        sizes.append(server.rss_mb())
    report.one("resident memory after more calls", "MB", sizes[-1])
    report.one("growth over the last three quarters of them", "MB", sizes[-1] - sizes[1], bar="flat")
    report.notes.append(f"more calls: {made:,}; resident memory by eighth: {[round(s) for s in sizes]}")
    return made


def lost_nothing(report: Report, server: Server, made: int) -> None:
    """Every call that was made is a span in the database. Raises AssertionError when one is not."""
    uvloop.run(drain(server))
    with contextlib.closing(sqlite3.connect(f"file:{server.folder}/leyden.db?mode=ro", uri=True)) as db:
        stored = db.execute("SELECT count(*) FROM span").fetchone()[0]
    report.one("calls made", "", made)
    report.one("calls stored", "", stored, bar="all")
    assert stored == made, f"{made} calls were made and {stored} are stored: {server.log()}"


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def latency(report: Report, kind: str, rounds: Rounds) -> None:
    name = f"{kind}, 1 client"
    report.one(f"{name}, direct, p50", "ms", statistics.median(rounds.values("direct", "p50_ms")))
    report.add(f"{name}, p50", "ms", rounds, "p50_ms", lower_is_better=True)
    added(report, f"{name}, added p50", rounds, "p50_ms", bar="0.7")
    added(report, f"{name}, added p99", rounds, "p99_ms", bar="3")


def first_byte(report: Report, rounds: Rounds) -> None:
    added(report, "streamed, 1 client, first byte later by", rounds, "first_ms", bar="0.7")


def throughput(report: Report, kind: str, rounds: Rounds, *, bar: str) -> None:
    name = f"{kind}, {CLIENTS} clients"
    report.add(name, "calls/s", rounds, "rate", bar=bar)
    report.add(f"{name}, per CPU-second", "calls", rounds, "per_cpu_s", bar=bar)
    report.add(f"{name}, p99", "ms", rounds, "p99_ms", lower_is_better=True)


def added(report: Report, name: str, rounds: Rounds, key: str, *, bar: str) -> None:
    """What a gateway adds to a direct call: the median over rounds of the differences in each."""
    ours, peer = (_added(rounds, server, key) for server in ("leyden", "litellm"))
    ratio = peer / ours if peer and ours and ours > 0 else None
    report.figures.append(Figure(name, "ms", ours, peer, ratio, bar))


def _added(rounds: Rounds, server: str, key: str) -> float | None:
    pairs = zip(rounds.values(server, key), rounds.values("direct", key), strict=False)
    differences = [through - direct for through, direct in pairs]
    return statistics.median(differences) if differences else None


def total(rounds: Rounds) -> int:
    """How many calls went through our gateway."""
    return int(sum(rounds.values("leyden", "calls")))


if __name__ == "__main__":
    main()
