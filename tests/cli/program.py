"""The command as a program of its own: this source tree's, whether it is installed or not."""

import os
import sys
from pathlib import Path

import leyden

LEYDEN = [sys.executable, "-c", "from leyden.cli.main import main; main()"]
AGL = [sys.executable, "-c", "from leyden.cli.agl import main; main()"]


def environment(**more: str) -> dict[str, str]:
    """The environment of the test, finding the same `leyden` as the test does."""
    return {**os.environ, "PYTHONPATH": str(Path(leyden.__file__).parent.parent), **more}
