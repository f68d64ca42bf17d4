"""CPU time per span of decoding OTLP protobuf and of reading spans back as JSON: `python -m bench.decode`.

The best of many rounds, in µs of process time. The last line is a loop that does the same on every machine; divide by it
to compare two machines, or a busy hour with a quiet one.
"""

import time
from collections.abc import Callable

from bench import spans
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.payload import spans_json

ROUNDS = 60


def requests(spans_per_request: int) -> list[bytes]:
    """About 500 spans in requests of one size, each for a rollout of its own."""
    prepared = spans.bodies(spans_per_request)
    return [body.fresh(b"ro-%012d" % n, b"at-%08d" % n) for n, body in enumerate(prepared)]


def best_us(work: Callable[[], object], per: int) -> float:
    """CPU time of one of `per` units of the work, in µs, in the best of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / per * 1e6


def main() -> None:
    for size in (8, 64, 512):
        bodies = requests(size)
        us = best_us(lambda bodies=bodies: [decode_protobuf(body) for body in bodies], size * len(bodies))
        print(f"decode, requests of {size:3} spans  {us:6.1f} µs per span")
    records = decode_protobuf(requests(512)[0]).records
    rows = [(r.payload, r.encoding, r.rollout_id, r.attempt_id, n) for n, r in enumerate(records)]
    for size in (8, 512):
        pages = [rows[n : n + size] for n in range(0, len(rows), size)]
        us = best_us(lambda pages=pages: [spans_json(page) for page in pages], len(rows))
        print(f"as JSON, {size:3} spans a call       {us:6.1f} µs per span")
    print(f"calibration: sum(range(300000))  {best_us(lambda: sum(range(300_000)), 1) / 1000:6.2f} ms")


if __name__ == "__main__":
    main()
