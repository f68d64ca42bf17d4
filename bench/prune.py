"""How long ingest waits while rollouts are deleted: batches of 8 spans, alone and beside a prune of 100,000 spans.

The store in this process, without HTTP: what is measured is the writer. Once with all spans in one rollout, once in rollouts
of 8. `--db` names a PostgreSQL database that may be filled; default is a fresh SQLite file.
"""

import random
import statistics
import threading
import time
from pathlib import Path

from bench import spans
from bench.figures import Report, arguments
from bench.servers import scratch
from leyden.ingest.otlp import decode_protobuf
from leyden.settings import Settings
from leyden.store import deletion, retention, rollouts
from leyden.store import spans as stored
from leyden.store.opening import Store, open_store
from leyden.store.retention import Policy
from leyden.store.rollouts import NewRollout

SPANS, BATCH, BAR_MS = 100_000, 8, 50.0
ATTEMPT = b"at-00000001"


def begin(store: Store, rollout_id: str, *, mode: str) -> None:
    """A rollout that runs."""
    store.writer.run(
        lambda tx: rollouts.start(
            tx, NewRollout("null", mode=mode), project="default", rollout_id=rollout_id, attempt_id=ATTEMPT.decode(),
            worker_id=None, now=time.time(),
        )
    )  # fmt: skip


def end(store: Store, rollout_id: str) -> None:
    """It is over."""
    change = {"status": "succeeded"}
    store.writer.run(
        lambda tx: rollouts.update(
            tx, project="default", rollout_id=rollout_id, changes=change, now=time.time()
        )
    )


def send(store: Store, rollout_id: str, body: spans.Body) -> float:
    """Store one request of spans; seconds until it was committed."""
    records = decode_protobuf(body.fresh(rollout_id.encode(), ATTEMPT)).records
    size = sum(len(record.payload) for record in records)
    began = time.perf_counter()
    store.writer.run(
        lambda tx: stored.insert(tx, records, project="default", now=time.time(), quiet_s=900), size=size
    )
    return time.perf_counter() - began


def fill(store: Store, number: int, *, per_rollout: int) -> None:
    """`number` spans in rollouts that have ended."""
    prepared = spans.bodies(min(per_rollout, 500))
    for _ in range(0, number, per_rollout):
        rollout_id = f"ro-{random.getrandbits(48):012x}"
        begin(store, rollout_id, mode="train")
        for n in range(0, per_rollout, prepared[0].spans):
            send(store, rollout_id, prepared[n % len(prepared)])
        end(store, rollout_id)


def waits_ms(store: Store, live: str, until: threading.Event, *, at_least_s: float) -> list[float]:
    """Latency of small batches, one every few ms, for so long and until the event."""
    prepared, found = spans.bodies(BATCH), list[float]()
    end = time.perf_counter() + at_least_s
    while time.perf_counter() < end or not until.is_set():
        found.append(send(store, live, prepared[len(found) % len(prepared)]) * 1000)
        time.sleep(0.003)
    return found


def measure(store: Store, *, number: int, per_rollout: int) -> dict[str, float]:
    """Waits without and with a prune, how long the longest change of it took, and its pace."""
    fill(store, number, per_rollout=per_rollout)
    live, done = f"ro-{random.getrandbits(48):012x}", threading.Event()
    begin(store, live, mode="val")
    done.set()
    alone = waits_ms(store, live, done, at_least_s=2)
    done.clear()
    slices: list[float] = []
    whole = deletion._slice  # pyright: ignore[reportPrivateUsage]

    def timed(*args: object, **kwargs: object) -> deletion.Slice:
        cpu = time.thread_time()
        did = whole(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        slices.append((time.thread_time() - cpu) * 1000)
        return did

    deletion._slice = timed  # pyright: ignore[reportPrivateUsage]
    took = [0.0]

    def prune() -> None:
        began = time.perf_counter()
        try:
            retention.prune(store, Policy("default", "train", max_rollouts=0), now=time.time())
        finally:
            took[0] = time.perf_counter() - began
            done.set()

    thread = threading.Thread(target=prune)
    thread.start()
    beside = waits_ms(store, live, done, at_least_s=0)
    thread.join()
    deletion._slice = whole  # pyright: ignore[reportPrivateUsage]
    return {
        "alone p50": statistics.median(alone), "alone p99": _p99(alone), "alone max": max(alone),
        "pruning p50": statistics.median(beside), "pruning p99": _p99(beside), "pruning max": max(beside),
        "slice CPU p50": statistics.median(slices), "slice CPU max": max(slices), "deleted spans/s": number / took[0],
    }  # fmt: skip


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def main() -> None:
    args = arguments(__doc__, db={"default": "", "help": "PostgreSQL URL instead of a SQLite file"})
    number = SPANS // 10 if args.quick else SPANS
    report = Report("prune")
    with scratch() as folder:
        store = open_store(Settings(db=args.db or str(Path(folder) / "leyden.db")))
        for name, per_rollout in (("one rollout", number), (f"rollouts of {BATCH}", BATCH)):
            for key, value in measure(store, number=number, per_rollout=per_rollout).items():
                unit = "1/s" if key.endswith("/s") else "ms"
                bar = f"<= {BAR_MS:g}" if key == "pruning max" else ""
                report.one(f"{name}, {key}", unit, value, bar=bar)
        store.close()
    report.finish(args)


if __name__ == "__main__":
    main()
