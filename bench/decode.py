"""CPU time per span of decoding OTLP protobuf and of reading spans back as JSON: `python -m bench.decode`.

One column for the decoder in Python, one for the optional one in C where it is installed. The best of many rounds, in µs of process time. The last line is a loop that does the same on every machine; divide by it
to compare two machines, or a busy hour with a quiet one.
"""

import time
from collections.abc import Callable

from bench import spans
from leyden.ingest import native
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
    wanted = ((False, "python"), (True, "native"))
    decoders = [name for is_wanted, name in wanted if native.use(is_wanted) == is_wanted]
    print(" " * 34 + "".join(f"{name:>10}" for name in decoders))
    for size in (8, 64, 512):
        line(f"decode, requests of {size:3} spans", decoders, *decoding(size))
    records = decode_protobuf(requests(512)[0]).records
    rows = [(r.payload, r.encoding, r.rollout_id, r.attempt_id, n) for n, r in enumerate(records)]
    for size in (8, 512):
        line(f"as JSON, {size:3} spans a call", decoders, *reading(rows, size))
    print(f"calibration: sum(range(300000))  {best_us(lambda: sum(range(300_000)), 1) / 1000:6.2f} ms")


def decoding(size: int) -> tuple[Callable[[], object], int]:
    """Decoding requests of `size` spans, and how many spans that decodes."""
    bodies = requests(size)
    return lambda: [decode_protobuf(body) for body in bodies], size * len(bodies)


def reading(rows: list[tuple[bytes, str, str, str, int]], size: int) -> tuple[Callable[[], object], int]:
    """Reading pages of `size` spans as JSON, and how many spans that reads."""
    pages = [rows[n : n + size] for n in range(0, len(rows), size)]
    return lambda: [spans_json(page) for page in pages], len(rows)


def line(what: str, decoders: list[str], work: Callable[[], object], per: int) -> None:
    """One row of the table: a figure for each decoder, measured one after the other."""
    figures: list[str] = []
    for name in decoders:
        native.use(name == "native")
        figures.append(f"{best_us(work, per):10.1f}")
    print(f"{what:34}{''.join(figures)}   µs per span")


if __name__ == "__main__":
    main()
