"""What survives `kill -9`: every span that was acknowledged is there after a restart, and once after a full replay.

Loads spans from several connections, kills the server in the middle, starts it again on the same database, looks for
every acknowledged span, sends everything once more as a client would, and counts again. Exit code 1 when a span is
missing or there twice. `survives_kill` is the same for tests.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench import spans
from bench.figures import Report, arguments
from bench.load import API, Attempt, Connection, Refused, open_attempts, workers
from bench.servers import LOAD_CORE, Server, pin, scratch, start_leyden

_NOW_NS = 1_790_000_000_000_000_000
SPANS_PER_REQUEST, CONNECTIONS, SPANS_PER_ROLLOUT = 100, 8, 1000


@dataclass
class Outcome:
    """What was sent, what was acknowledged before the kill, and what the restarted server holds.

    `lost` counts acknowledged spans that were missing after the restart, before anything was sent again. `missing` and
    `doubled` count spans absent or stored more than once after the replay; `clashes` counts spans of one rollout that
    share a sequence id.
    """

    sent: int
    acknowledged: int
    kept: int
    lost: int
    missing: int
    doubled: int
    clashes: int
    restart_s: float
    wall_s: float

    @property
    def exact(self) -> bool:
        return self.lost == self.missing == self.doubled == self.clashes == 0


class Load:
    """The requests of one run, the same bytes every time they are asked for."""

    def __init__(self, attempts: list[Attempt], number: int) -> None:
        self._attempts = attempts
        self._prepared = spans.bodies(SPANS_PER_REQUEST)
        self.number = number

    def body(self, index: int) -> bytes:
        attempt = self._attempts[index % len(self._attempts)]
        return self._prepared[index % len(self._prepared)].fresh(
            *attempt, now_ns=_NOW_NS + index * 100_000_000, entropy=random.Random(index).randbytes
        )

    def span_ids(self, index: int) -> list[str]:
        """The ids `body(index)` carries: its first draw of random bytes."""
        drawn = random.Random(index).randbytes(8 * SPANS_PER_REQUEST)
        return [drawn[i : i + 8].hex() for i in range(0, len(drawn), 8)]

    def rollouts(self) -> list[str]:
        return [rollout_id.decode() for rollout_id, _ in self._attempts]


def survives_kill(folder: Path, *, spans_to_send: int = 100_000, synchronous: str | None = None) -> Outcome:
    """Run the whole story on a database in `folder`; see Outcome. Raises RuntimeError when a server does not start."""
    before = time.perf_counter()
    number = max(CONNECTIONS * 4, spans_to_send // SPANS_PER_REQUEST)
    server = start_leyden(folder, synchronous=synchronous)
    try:
        rollouts = max(1, number * SPANS_PER_REQUEST // SPANS_PER_ROLLOUT)
        load = Load(uvloop.run(open_attempts(server.port, rollouts)), number)
        acknowledged = uvloop.run(send_until_killed(server, load, kill_after=number // 2))
    finally:
        server.stop()
    server = start_leyden(folder, synchronous=synchronous)
    try:
        kept = uvloop.run(stored(server.port, load.rollouts()))
        expected = {span_id for index in acknowledged for span_id in load.span_ids(index)}
        found = {span_id for span_id, _ in kept}
        uvloop.run(send_all(server.port, load))
        final = uvloop.run(stored(server.port, load.rollouts()))
    finally:
        server.stop()
    times = Counter(span_id for span_id, _ in final)
    everything = {span_id for index in range(number) for span_id in load.span_ids(index)}
    return Outcome(
        sent=number * SPANS_PER_REQUEST,
        acknowledged=len(expected),
        kept=len(kept),
        lost=len(expected - found),
        missing=len(everything - set(times)),
        doubled=sum(n - 1 for n in times.values()),
        clashes=len(final) - len({place for _, place in final}),
        restart_s=server.started_s,
        wall_s=time.perf_counter() - before,
    )


async def send_until_killed(server: Server, load: Load, *, kill_after: int) -> set[int]:
    """Send until `kill_after` requests were acknowledged, then SIGKILL with others in flight; the acknowledged ones."""
    acknowledged: set[int] = set()
    indices = iter(range(load.number))

    async def work(connection: Connection, _: int) -> None:
        for index in indices:
            try:
                await post(connection, load.body(index))
            except ConnectionError:
                return
            acknowledged.add(index)
            if len(acknowledged) == kill_after:
                server.process.kill()

    await workers(server.port, CONNECTIONS, work)
    server.process.wait()
    return acknowledged


async def send_all(port: int, load: Load) -> None:
    indices = iter(range(load.number))

    async def work(connection: Connection, _: int) -> None:
        for index in indices:
            await post(connection, load.body(index))

    await workers(port, CONNECTIONS, work)


async def post(connection: Connection, body: bytes) -> None:
    """Post, and again after a second while the server says it is busy."""
    while True:
        try:
            return await connection.post_otlp(body)
        except Refused as refusal:
            if refusal.status not in (429, 503):
                raise
            await asyncio.sleep(1)


async def stored(port: int, rollouts: list[str]) -> list[tuple[str, tuple[str, int]]]:
    """Every span the server has of these rollouts, read through the store protocol: its id, and its place."""
    connection = await Connection.open(port)
    found: list[tuple[str, tuple[str, int]]] = []
    for rollout_id in rollouts:
        page: dict[str, Any] = await connection.get(f"{API}/spans?rollout_id={rollout_id}")
        found += [(span["span_id"], (rollout_id, span["sequence_id"])) for span in page["items"]]
    connection.close()
    return found


def main() -> None:
    args = arguments(
        __doc__,
        spans={"type": int, "default": 100_000, "metavar": "N", "help": "spans to send (100000)"},
        synchronous={"choices": ("NORMAL", "FULL"), "default": None, "help": "SQLite durability"},
    )
    pin(LOAD_CORE)
    with scratch() as folder:
        number = args.spans // (10 if args.quick else 1)
        outcome = survives_kill(folder, spans_to_send=number, synchronous=args.synchronous)
    report = Report("durability")
    report.one("spans sent", "spans", outcome.sent)
    report.one("acknowledged before kill -9", "spans", outcome.acknowledged)
    report.one("found after the restart", "spans", outcome.kept)
    report.one("acknowledged and lost", "spans", outcome.lost, bar="0")
    report.one("missing after the replay", "spans", outcome.missing, bar="0")
    report.one("stored twice after the replay", "spans", outcome.doubled, bar="0")
    report.one("sharing a sequence id", "spans", outcome.clashes, bar="0")
    report.one("restart to first answer", "s", outcome.restart_s, bar="1.5 s")
    report.finish(args)
    sys.exit(0 if outcome.exact else 1)


if __name__ == "__main__":
    main()
