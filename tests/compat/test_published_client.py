"""The published Agent Lightning 0.3 client, unchanged, against a running `leyden up`.

The client lives in an environment of its own (`python tests/compat/prepare.py`, or LEYDEN_COMPAT_PYTHON); it is far
too heavy for ours, so these tests skip without it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PEER = Path(os.environ.get("LEYDEN_COMPAT_PYTHON") or HERE.parents[1] / ".venv-compat/bin/python")

pytestmark = pytest.mark.skipif(
    not PEER.exists(), reason="no environment with the published client; see prepare.py"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `leyden up` on a fresh database, stopped afterwards."""
    folder, port = tmp_path_factory.mktemp("compat"), free_port()
    command = [sys.executable, "-m", "leyden", "up", "--port", str(port), "--db", str(folder / "leyden.db")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not answers(f"http://127.0.0.1:{port}/v1/agl/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"leyden up did not start: {(folder / 'server.log').read_text()}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)


def test_the_published_client_gets_what_the_protocol_promises(url: str) -> None:
    drive = [str(PEER), str(HERE / "drive_client.py"), url]
    done = subprocess.run(drive, capture_output=True, text=True, timeout=300)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 0, "\n".join(failed) or done.stdout + done.stderr
    assert "0 failed, 0 known" in done.stdout
