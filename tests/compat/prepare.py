"""Makes `.venv-compat` at the repository's root: a Python with the published Agent Lightning client, for drive_client.py.

    python tests/compat/prepare.py [DIRECTORY]

It weighs about 800 MB and is never part of our own environment. Prints the path of its interpreter, which is what
LEYDEN_COMPAT_PYTHON and LEYDEN_PEER_PYTHON expect. Does nothing when it is already there with the pinned packages.
"""

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT = REQUIREMENTS.parents[2] / ".venv-compat"


def interpreter(directory: Path) -> Path:
    """Where the interpreter of a virtual environment lies."""
    return directory / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def prepare(directory: Path = DEFAULT) -> Path:
    """Make the environment unless it is up to date; its interpreter. Raises CalledProcessError when pip fails."""
    stamp = directory / "requirements.txt"
    if stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text():
        return interpreter(directory)
    venv.create(directory, with_pip=True)
    pip = [str(interpreter(directory)), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)]
    subprocess.run(pip, check=True)
    stamp.write_text(REQUIREMENTS.read_text())
    return interpreter(directory)


if __name__ == "__main__":
    print(prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
