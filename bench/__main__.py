"""Run every script in turn and write bench/results/<date>.json; one that fails is named and does not stop the rest."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPTS = ("startup", "sdk", "queries", "cycle", "ingest", "gateway", "durability", "prune")
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this machine.")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the load, one round; nothing is written"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, default=RESULTS / f"{time.strftime('%Y-%m-%d')}.json", metavar="FILE"
    )
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"only these: {', '.join(SCRIPTS)}")
    args = parser.parse_args()
    if unknown := set(args.scripts) - set(SCRIPTS):
        parser.error(f"no script {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    reports: list[dict[str, Any]] = []
    failed: list[str] = []
    for script in args.scripts or SCRIPTS:
        print(f"\n== {script}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "report.json"
            command = [
                sys.executable,
                "-m",
                f"bench.{script}",
                "--rounds",
                str(args.rounds),
                "--json",
                str(written),
            ]
            if subprocess.run(command + ["--quick"] * args.quick).returncode:
                failed.append(script)
            if written.exists():
                reports.append(json.loads(written.read_text()))
    if not args.quick:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(reports, indent=1) + "\n")
        print(f"\nwritten to {args.json}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
