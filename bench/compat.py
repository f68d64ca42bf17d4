"""Agent Lightning's own published client against a Leyden server, check by check; exit code = checks that failed.

Makes the client's environment (about 800 MB) in `.venv-compat` when LEYDEN_COMPAT_PYTHON names none.
`--oracle` drives Agent Lightning's own store instead, which shows that the expectations are right.
"""

import argparse
import importlib.util
import os
import subprocess
import sys

from bench.servers import ROOT, scratch, start_leyden, start_peer

COMPAT = ROOT / "tests" / "compat"


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive the published client against a Leyden server.")
    parser.add_argument(
        "--oracle", action="store_true", help="drive `agl store` instead; flaws we mend may show"
    )
    args = parser.parse_args()
    python = os.environ.get("LEYDEN_COMPAT_PYTHON") or str(prepared())
    os.environ["LEYDEN_PEER_PYTHON"] = python
    with scratch() as folder:
        server = (start_peer if args.oracle else start_leyden)(folder)
        try:
            command = [python, str(COMPAT / "drive_client.py"), f"http://127.0.0.1:{server.port}"]
            command += ["--allow-known", "all"] if args.oracle else []
            code = subprocess.run(command).returncode
        finally:
            server.stop()
    sys.exit(code)


def prepared() -> object:
    """The interpreter that tests/compat/prepare.py makes; that folder is no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("prepare", COMPAT / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare()


if __name__ == "__main__":
    main()
