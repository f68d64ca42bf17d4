"""What the scripts report: rounds over servers in turn, medians of ratios, a table for people and JSON for the rest."""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.servers import Server, standing_still


@dataclass
class Figure:
    """One published number. `ratio` is ours over the peer's so that above 1 is better for us; None without a peer."""

    name: str
    unit: str
    leyden: float | None
    peer: float | None = None
    ratio: float | None = None
    bar: str = ""


@dataclass
class Report:
    """The figures of one script, and what they were measured on."""

    script: str
    peer: str = "agl store"
    figures: list[Figure] = field(default_factory=list[Figure])
    notes: list[str] = field(default_factory=list[str])

    def add(
        self,
        name: str,
        unit: str,
        rounds: "Rounds",
        key: str,
        *,
        lower_is_better: bool = False,
        bar: str = "",
    ) -> None:
        """A figure from rounds: medians per server, and the median of the ratios of each round."""
        ours, peer = rounds.values("leyden", key), rounds.values(self.peer, key)
        ratios = [(p / o if lower_is_better else o / p) for o, p in zip(ours, peer, strict=False) if o and p]
        self.figures.append(
            Figure(
                name, unit, _median(ours), _median(peer), statistics.median(ratios) if ratios else None, bar
            )
        )

    def one(self, name: str, unit: str, value: float, *, bar: str = "") -> None:
        """A figure that has no counterpart at the peer."""
        self.figures.append(Figure(name, unit, value, bar=bar))

    def show(self) -> None:
        width = max([len(f.name) for f in self.figures], default=10)
        print(f"\n{'':{width}}  {'unit':>10}  {'leyden':>10}  {self.peer:>10}  {'ratio':>7}  bar")
        for f in self.figures:
            ratio = "-" if f.ratio is None else f"{f.ratio:.1f}x"
            print(
                f"{f.name:{width}}  {f.unit:>10}  {_text(f.leyden):>10}  {_text(f.peer):>10}  {ratio:>7}  {f.bar}"
            )
        for note in self.notes:
            print(f"note: {note}")

    def write(self, path: Path) -> None:
        machine = {"cpus": psutil_cpus(), "python": platform.python_version(), "system": platform.platform()}
        report = {"date": time.strftime("%Y-%m-%d"), "machine": machine} | asdict(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")

    def finish(self, args: argparse.Namespace) -> None:
        self.show()
        if args.json:
            self.write(args.json)


def psutil_cpus() -> str:
    """Number and model of the machine's cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or "unknown"
    import psutil

    return f"{psutil.cpu_count()} x {model}"


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass
class Rounds:
    """Measurements by server, one dict per round."""

    measured: dict[str, list[dict[str, float]]] = field(default_factory=dict[str, list[dict[str, float]]])

    def values(self, server: str, key: str) -> list[float]:
        return [values[key] for values in self.measured.get(server, []) if key in values]


def in_turn(
    servers: list[Server],
    rounds: int,
    measure: Callable[[Server], dict[str, float]],
    *,
    needed: Collection[str] = (),
) -> Rounds:
    """Measure every server once per round, in alternating order, all of them being up the whole time.

    Those that are not measured stand still meanwhile, so that their housekeeping is in nobody's figures; but for the `needed` ones.

    Adds `cpu_s`, the CPU-seconds the server's process tree spent meanwhile, and `rss_mb` afterwards.
    """
    result = Rounds()
    for number in range(rounds):
        for server in servers if number % 2 == 0 else servers[::-1]:
            others = [other for other in servers if other is not server and other.name not in needed]
            before = server.cpu_s()
            with standing_still(others):
                values = measure(server)
            values |= {"cpu_s": server.cpu_s() - before, "rss_mb": server.rss_mb()}
            result.measured.setdefault(server.name, []).append(values)
            print(f"  round {number + 1} {server.name}: {_line(values)}", file=sys.stderr, flush=True)
    return result


def _line(values: dict[str, float]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items())


def arguments(doc: str | None, **extra: dict[str, Any]) -> argparse.Namespace:
    """The options every script has, plus `extra` ones by name."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds over the servers (3)")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the load, one round: does it run at all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--only", choices=("leyden", "peer"), help="start only one of the two servers")
    for name, options in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    return args
