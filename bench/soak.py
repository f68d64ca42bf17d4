"""Half of what the server can sustain, for half an hour, while it packs, indexes, prunes and answers questions: `make soak`.

Promised, and checked at the end (exit code 1 when one fails): every answer is a success; every rollout that was not let go by the policy has
exactly the spans that were acknowledged; memory and the write-ahead log do not grow; the log of the server is silent; `leyden db check
--deep` finds nothing. `tests/faults/test_soak.py` runs the same for seconds.
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import quote

import uvloop

from bench import spans
from bench.load import API, Connection, Refused, ingest
from bench.servers import LOAD_CORE, ROOT, Server, pin, scratch, start_leyden

PER_REQUEST, REQUESTS = 100, 3  # of a rollout
PER_ROLLOUT = PER_REQUEST * REQUESTS
KEPT = 300  # ended rollouts that the policy keeps
WARM_UP = 0.25  # share of the time after which memory may no longer grow
GROWTH = 1.10
SETTLED = 120  # samples, one a second: in a shorter run caches and pools are still filling
SETTINGS = {"LEYDEN_PACK_AFTER_S": "1", "LEYDEN_RETENTION_S": "5"}

QUESTIONS = (
    f"{API}/rollouts?limit=20&sort_by=start_time&sort_order=desc",
    "/api/spans?limit=20&filter=" + quote("agent:support status:error"),
    "/api/search?q=refund",
    "/api/metrics/chart?by=model",
    "/api/rollouts?limit=20",
    f"{API}/statistics",
)


@dataclass
class Soak:
    """What happened so far."""

    server: Server
    until: float
    ended: deque[str] = field(default_factory=deque[str])
    rollouts: int = 0
    answers: int = 0
    problems: list[str] = field(default_factory=list[str])
    memory_mb: list[float] = field(default_factory=list[float])
    log_mb: list[float] = field(default_factory=list[float])
    latencies_s: list[float] = field(default_factory=list[float])

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.until and len(self.problems) < 20

    async def tried(self, act: Awaitable[object], what: str) -> object:
        """The answer, or None and one more problem."""
        try:
            answer = await act
        except (Refused, ConnectionError) as error:
            self.problems.append(f"{what}: {error}")
            return None
        self.answers += 1
        return answer


async def agent(soak: Soak, every_s: float) -> None:
    """One runner after another: a rollout is queued, claimed, its spans sent, and ended, at a fixed pace."""
    connection = await Connection.open(soak.server.port)
    prepared = spans.bodies(PER_REQUEST)
    due = time.monotonic() + random.random() * every_s
    while soak.goes_on:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += every_s
        body = {"rollouts": [{"input": {"task": soak.rollouts}}]}
        await soak.tried(connection.post(f"{API}/queues/rollouts/enqueue", body), "enqueue")
        claimed = await soak.tried(connection.post(f"{API}/queues/rollouts/dequeue", {"limit": 1}), "dequeue")
        for item in claimed if isinstance(claimed, list) else []:
            rollout_id, attempt_id = item["rollout_id"], item["attempt"]["attempt_id"]
            for _ in range(REQUESTS):
                before = time.monotonic()
                request = random.choice(prepared).fresh(rollout_id.encode(), attempt_id.encode())
                await soak.tried(connection.post_otlp(request), "spans")
                soak.latencies_s.append(time.monotonic() - before)
            path = f"{API}/rollouts/{rollout_id}/attempts/{attempt_id}"
            await soak.tried(connection.post(path, {"status": "succeeded"}), "end")
            soak.ended.append(rollout_id)
            soak.rollouts += 1
    connection.close()


async def reader(soak: Soak) -> None:
    """Somebody who looks at things all day; and checks a rollout that the policy has certainly not let go."""
    connection = await Connection.open(soak.server.port)
    while soak.goes_on:
        for question in QUESTIONS:
            await soak.tried(connection.get(question), question)
        if soak.ended:
            await check(soak, connection, random.choice(list(soak.ended)[-KEPT // 3 :]))
        await asyncio.sleep(0.5)
    connection.close()


async def check(soak: Soak, connection: Connection, rollout_id: str) -> None:
    """A rollout has each of its spans once."""
    answer = await soak.tried(connection.get(f"{API}/spans?rollout_id={rollout_id}"), "all spans")
    if isinstance(answer, dict):
        ids = {span["span_id"] for span in answer["items"]}
        if len(ids) != PER_ROLLOUT or answer["total"] != PER_ROLLOUT:
            soak.problems.append(
                f"{rollout_id} has {len(ids)} spans of {PER_ROLLOUT} ({answer['total']} counted)"
            )


async def watcher(soak: Soak) -> None:
    """Memory of the server and its log on disk, once a second."""
    log = soak.server.folder / "leyden.db-wal"
    while soak.goes_on:
        soak.memory_mb.append(soak.server.rss_mb())
        with contextlib.suppress(FileNotFoundError):
            soak.log_mb.append(log.stat().st_size / 1e6)
        await asyncio.sleep(1)


async def sustained(server: Server, spans_in_all: int) -> float:
    """Spans per second that the server takes at most."""
    timings = await ingest(server.port, spans=spans_in_all, prepared=spans.bodies(PER_REQUEST), connections=8)
    return timings.rate


async def soaked(soak: Soak, rate: float, agents: int = 4) -> None:
    """Everybody at once until the time is over; then all that must be there is looked at."""
    every_s = agents * PER_ROLLOUT / rate
    connection = await Connection.open(soak.server.port)
    status, _ = await connection.send(_put("/api/retention", b'{"max_rollouts":%d}' % KEPT))
    connection.close()
    if status != 200:
        soak.problems.append(f"retention answered {status}")
    await asyncio.gather(*[agent(soak, every_s) for _ in range(agents)], reader(soak), watcher(soak))
    connection = await Connection.open(soak.server.port)
    for rollout_id in list(soak.ended)[-KEPT // 2 :]:
        await check(soak, connection, rollout_id)
    connection.close()


def _put(path: str, body: bytes) -> bytes:
    head = f"PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def run(seconds: float, *, share: float = 0.5, warm: int = 60_000) -> Soak:
    """Soak a fresh server on SQLite. Nothing raises for what went wrong: see `problems`."""
    with scratch() as folder:
        server = start_leyden(folder, env=SETTINGS)
        try:
            pin(LOAD_CORE)
            rate = uvloop.run(sustained(server, warm))
            soak = Soak(server, time.monotonic() + seconds)
            uvloop.run(soaked(soak, rate * share))
        finally:
            server.stop()
        soak.problems += grown(soak) + [f"log: {line}" for line in complaints(server)]
        soak.problems += checked(folder / "leyden.db")
    return soak


def grown(soak: Soak) -> list[str]:
    """What grew after the warm-up: the median of the last quarter against that of the quarter after warming up."""
    found: list[str] = []
    for what, values, slack in (("memory", soak.memory_mb, 15.0), ("write-ahead log", soak.log_mb, 70.0)):
        after = values[int(len(values) * WARM_UP) :]
        if len(after) >= SETTLED:
            first, last = median(after[: len(after) // 4]), median(after[-len(after) // 4 :])
            if last > first * GROWTH + slack:
                found.append(f"{what} grew from {first:.0f} to {last:.0f} MB")
    return found


def complaints(server: Server) -> list[str]:
    """What the server logged beyond where it listens; the first lines of it."""
    odd = (" WARNING ", " ERROR ", " CRITICAL ", "Traceback")
    lines = (server.folder / "server.log").read_text(errors="replace").splitlines()
    # With the lines behind it: a traceback names its cause at its end.
    first = next((n for n, line in enumerate(lines) if any(word in line for word in odd)), None)
    return [] if first is None else lines[first : first + 90]


def checked(database: Path) -> list[str]:
    """What `leyden db check --deep` finds."""
    done = subprocess.run(
        [sys.executable, "-m", "leyden", "db", "check", "--deep", "--db", str(database)],
        capture_output=True, text=True, check=False, env={**_environment(), "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    return [] if done.returncode == 0 else [f"db check: {done.stdout[-800:]}{done.stderr[-400:]}"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LEYDEN_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the sustainable load (0.5)")
    args = parser.parse_args()
    soak = run(args.minutes * 60, share=args.share)
    ordered = sorted(soak.latencies_s)
    print(f"{soak.rollouts:,} rollouts, {soak.rollouts * PER_ROLLOUT:,} spans, {soak.answers:,} answers")
    if ordered:
        print(
            f"spans acknowledged: p50 {ordered[len(ordered) // 2] * 1e3:.1f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.1f} ms"
        )
    if soak.memory_mb:
        quarter = max(1, len(soak.memory_mb) // 4)
        print(
            "memory by quarter, MB:",
            *[
                f"{median(soak.memory_mb[i : i + quarter]):.0f}"
                for i in range(0, quarter * 4, quarter)
                if soak.memory_mb[i : i + quarter]
            ],
        )
        print(f"write-ahead log at most {max(soak.log_mb, default=0):.0f} MB")
    for problem in soak.problems:
        print(f"PROBLEM {problem}")
    sys.exit(bool(soak.problems))


if __name__ == "__main__":
    main()
