"""A store with a million spans over thirty days, made once and kept: what `bench.scale` asks its questions of.

Spans are those of `bench.spans` (17 attributes, 1.25 KB), 100 to a rollout, with eight agents, four models and texts in which one
word in sixty is drawn from 200,000, the frequent ones first, so that full text has rare words to find. Rollouts have ended, so they are packed and
indexed. One rollout has 1,500 spans and one has 10,000.
"""

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench import spans
from bench.search import index_all
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.record import SpanRecord
from leyden.settings import Settings
from leyden.store import migrations, pack, runs
from leyden.store.opening import Store, open_store
from leyden.store.runs import Finished

DAYS = 30
PER_ROLLOUT = 100
AGENTS = ("router", "support", "billing", "refunds", "search", "writer", "critic", "rare")
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet", "qwen3-32b")
LARGE = {"ro-large001500": 1_500, "ro-large010000": 10_000}
RARE_WORDS = 200_000
_PLACE = re.compile(rb"baggage")


@dataclass(frozen=True)
class Filled:
    """Where the store is, and how long each step of making it took, wall seconds (0 when it was there)."""

    database: str
    spans: int
    fill_s: float
    pack_s: float
    index_s: float


def word(rng: random.Random) -> bytes:
    """A word of seven letters; the n-th frequent one comes about 1/n as often as the first."""
    return b"w%06x" % int(RARE_WORDS ** rng.random())


def rollouts(number: int, *, now: float) -> Iterator[tuple[str, int, float]]:
    """(id, spans, end) of each rollout, the oldest first."""
    first = now - DAYS * 86_400
    for index in range(number):
        yield f"ro-{index:012x}", PER_ROLLOUT, first + (index + 1) * DAYS * 86_400 / number
    yield from ((rollout_id, size, now - 3_600) for rollout_id, size in LARGE.items())


def run(rollout_id: str, size: int, end: float, prepared: list[spans.Body], rng: random.Random) -> Finished:
    """One ended rollout with its spans."""
    records: list[SpanRecord] = []
    agent = "rare" if rng.random() < 0.001 else AGENTS[min(6, int(rng.expovariate(0.7)))]
    while len(records) < size:
        body = rng.choice(prepared).fresh(
            rollout_id.encode().ljust(15)[:15], b"at-00000001", now_ns=int(end * 1e9), entropy=rng.randbytes
        )
        records += decode_protobuf(_PLACE.sub(lambda _: word(rng), body)).records
    model = rng.choice(MODELS)
    cost = rng.random() * 0.02
    return Finished(
        rollout_id, "at-00000001", '{"task":"refund"}', "succeeded", end - 1, end, "{}", "bench", None, rng.random(), None,
        [
            r._replace(agent=agent, model=r.model and model, cost_usd=cost if r.model else None, rollout_id=rollout_id)
            for r in records[:size]
        ],
    )  # fmt: skip


def fill(store: Store, number: int, *, now: float) -> None:
    """Store `number` spans and the two large rollouts; two producers, so that decoding and writing overlap."""
    prepared = spans.bodies(PER_ROLLOUT)

    def put(item: tuple[int, tuple[str, int, float]]) -> None:
        index, (rollout_id, size, end) = item
        finished = run(rollout_id, size, end, prepared, random.Random(index))
        store.writer.run(
            partial(runs.add_finished, run=finished, project="default", now=end), size=size * 1_300
        )

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(put, enumerate(rollouts(number // PER_ROLLOUT, now=now)), chunksize=1):
            pass


def made(database: str, number: int) -> Filled:
    """Fill, pack and index a fresh database."""
    store = open_store(Settings(db=database))
    try:
        times = [time.perf_counter()]
        for step in (
            partial(fill, store, number, now=time.time()),
            partial(pack.pack_all, store, now=time.time()),
            partial(index_all, store),
        ):
            step()
            store.writer.checkpoint()
            times.append(time.perf_counter())
    finally:
        store.close()
    return Filled(database, number, *(b - a for a, b in pairwise(times)))


def sqlite(number: int, folder: Path) -> Filled:
    """The filled SQLite file of this schema in `folder`; made when it is not there."""
    path = folder / f"filled-{migrations.HEAD}-{number}.db"
    if path.exists():
        return Filled(str(path), number, 0.0, 0.0, 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".making")
    for old in (unfinished, *folder.glob(f"{unfinished.name}-*")):
        old.unlink(missing_ok=True)
    filled = made(str(unfinished), number)
    unfinished.rename(path)
    return Filled(str(path), number, filled.fill_s, filled.pack_s, filled.index_s)
