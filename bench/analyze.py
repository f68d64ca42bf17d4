"""How long the analysis of one run of 50 events takes. The floor beside it: building the same 50 summaries.

    python -m bench.analyze [--rounds 7]

Bar: below 1 ms (DESIGN, proof).
"""

import argparse
import statistics
import time

from leyden.analysis.report import analyze
from leyden.analysis.run import Run
from leyden.types import SpanSummary


def spans() -> list[SpanSummary]:
    """An agent that thinks, asks a model and calls one of three tools, sixteen times; every other call fails."""

    def one(number: int, kind: str, parent: str | None, **facts: object) -> SpanSummary:
        begun = number * 1_000_000
        known = {"rollout_id": "ro-1", "attempt_id": "at-1", "sequence_id": number, "trace_id": "t", "span_id": f"s{number}",
                 "parent_id": parent, "name": kind, "kind": kind, "status": "ok", "start_ns": begun, "end_ns": begun + 500_000}  # fmt: skip
        return SpanSummary(**known | facts)  # pyright: ignore[reportArgumentType]

    made = [one(0, "agent", None, agent="boss")]
    for number in range(1, 49, 3):
        failed = {"status": "error", "error_message": "x", "fingerprint": "f"} if number % 2 else {}
        made.append(one(number, "chain", "s0"))
        made.append(one(number + 1, "llm", f"s{number}", model="m", input_tokens=10, output_tokens=3))
        made.append(one(number + 2, "tool", f"s{number}", tool=f"t{number % 3}", call_hash="a", **failed))
    return [*made, one(49, "agent", "s0", agent="helper")]


def measure(rounds: int, calls: int = 200) -> tuple[float, float]:
    """Milliseconds per analysis and per building of the spans: medians over rounds."""

    def per_call(act: object) -> float:
        begun = time.process_time()
        for _ in range(calls):
            act()  # pyright: ignore
        return (time.process_time() - begun) / calls * 1000

    run = Run("ro-1", "at-1", "failed", spans())
    ours = [per_call(lambda: analyze([run], now=0)) for _ in range(rounds)]
    floor = [per_call(spans) for _ in range(rounds)]
    return statistics.median(ours), statistics.median(floor)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    ours, floor = measure(parser.parse_args().rounds)
    print(
        f"analyze, one run of 50 events   {ours:.3f} ms CPU (bar 1 ms)   building its spans {floor:.3f} ms   ratio {ours / floor:.1f}"
    )


if __name__ == "__main__":
    main()
