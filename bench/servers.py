"""Servers under test: started on a free port, pinned to one core, watched through /proc, stopped by their own id.

Ours is `leyden up` on a fresh SQLite file; the peer is `agl store` (in memory) from the Python named by
LEYDEN_PEER_PYTHON or made by `tests/compat/prepare.py` in `.venv-compat`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SERVER_CORE, LOAD_CORE = 0, 1
START_LIMIT_S = 90.0


@dataclass
class Server:
    """A running server. `folder` is its scratch directory, gone after it stops."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    folder: Path
    started_s: float

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU-seconds spent so far by the server's process tree."""
        return sum(sum(p.cpu_times()[:2]) for p in self.tree())

    def rss_mb(self) -> float:
        return sum(p.memory_info().rss for p in self.tree()) / 1e6

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL: no shutdown code runs."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def standing_still(servers: Iterable[Server]) -> Iterator[None]:
    """Take all CPU time from these servers for a while."""
    processes = [process for server in servers for process in server.tree()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def pin(core: int) -> None:
    """Keep this process on one core, where the system can and there is more than one."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int, path: str = "/v1/agl/health") -> bool:
    """Whether a health route, by default the store protocol's, answers 200."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
        probe.sendall(b"GET %s HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n" % path.encode())
        return probe.recv(12).endswith(b"200")
    return False


def start(
    name: str,
    command: list[str],
    *,
    port: int,
    folder: Path,
    env: dict[str, str] | None = None,
    core: int = SERVER_CORE,
    health: str = "/v1/agl/health",
) -> Server:
    """Start a server and wait for its first answer. Raises RuntimeError with its log when there is none."""
    before = time.perf_counter()
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=os.environ | (env or {}),
            preexec_fn=lambda: pin(core),
        )
    server = Server(name, port, process, folder, 0.0)
    while not answers(port, health):
        if process.poll() is not None or time.perf_counter() - before > START_LIMIT_S:
            server.stop()
            raise RuntimeError(f"{name} did not start: {server.log()}")
        time.sleep(0.005)
    server.started_s = time.perf_counter() - before
    return server


def start_leyden(
    folder: Path,
    *,
    port: int | None = None,
    synchronous: str | None = None,
    database: str | None = None,
    env: dict[str, str] | None = None,
) -> Server:
    """`leyden up` on a database, by default `folder`/leyden.db, which is made when absent."""
    port = port or free_port()
    own = {"LEYDEN_LOG_LEVEL": "warning", "XDG_DATA_HOME": str(folder), "LEYDEN_URL": "", "LEYDEN_DB": ""}
    env = own | (env or {})
    # A checkout that is not installed runs too: PYTHONPATH is made absolute, as the server's directory is another.
    paths = [str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env["PYTHONPATH"] = os.pathsep.join(str(Path(p).resolve()) for p in paths)
    if synchronous:
        env["LEYDEN_SQLITE_SYNCHRONOUS"] = synchronous
    command = [sys.executable, "-m", "leyden", "up", "--port", str(port), "--db"]
    command.append(database or str(folder / "leyden.db"))
    return start("leyden", command, port=port, folder=folder, env=env)


def peer_python() -> Path | None:
    """The interpreter that has `agentlightning`, or None."""
    named = os.environ.get("LEYDEN_PEER_PYTHON")
    candidate = Path(named) if named else ROOT / ".venv-compat" / "bin" / "python"
    return candidate if candidate.exists() else None


def start_peer(folder: Path) -> Server:
    """`agl store` with its memory backend. Raises RuntimeError when it is not installed or does not start."""
    python = peer_python()
    if python is None:
        raise RuntimeError("no Agent Lightning here; set LEYDEN_PEER_PYTHON or run tests/compat/prepare.py")
    port = free_port()
    command = [
        str(python.parent / "agl"),
        "store",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "ERROR",
    ]
    return start("agl store", command, port=port, folder=folder, env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def start_upstream(folder: Path) -> Server:
    """The model server behind the gateways, on the generator's core: what it spends is not theirs."""
    port = free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
    env = {"PYTHONPATH": str(ROOT)}
    return start("direct", command, port=port, folder=folder, env=env, core=LOAD_CORE, health="/")


def start_litellm(folder: Path, *, upstream: Server, model: str, key: str) -> Server:
    """LiteLLM's proxy before an upstream. Raises RuntimeError when it is not installed or does not start."""
    named = os.environ.get("LEYDEN_LITELLM")
    program = Path(named) if named else ROOT / ".venv-litellm" / "bin" / "litellm"
    if not program.exists():
        raise RuntimeError("no LiteLLM here; set LEYDEN_LITELLM, or see bench/README.md")
    address = f"http://127.0.0.1:{upstream.port}/v1"
    config = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": f"openai/{model}", "api_base": address, "api_key": "sk-mock"},
            }
        ],
        "general_settings": {"master_key": key},  # it does not start without one
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))
    port = free_port()
    command = [str(program), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}
    return start("litellm", command, port=port, folder=folder, env=env, health="/health/liveliness")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leyden-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(*, only: str | None = None, synchronous: str | None = None) -> Iterator[list[Server]]:
    """Both servers up at once, ours first; the peer is left out with a note when it cannot be started.

    only: "leyden" or "peer" starts that one alone.
    """
    servers: list[Server] = []
    with contextlib.ExitStack() as stack:
        if only != "peer":
            ours = start_leyden(stack.enter_context(scratch()), synchronous=synchronous)
            stack.callback(ours.stop)
            servers.append(ours)
        if only != "leyden":
            try:
                peer = start_peer(stack.enter_context(scratch()))
                stack.callback(peer.stop)
                servers.append(peer)
            except RuntimeError as error:
                if only:
                    raise
                print(f"note: measured without the peer: {error}", file=sys.stderr)
        pin(LOAD_CORE)
        yield servers
