"""What the SDK costs inside an agent: microseconds per decorated call, import time, packages installed.

A call takes two short strings and returns a small dict, so nearly all of its time is the SDK's. The recorded calls are
sent to a running `leyden up` on the other core; the share of a step counts the CPU of the whole process, export included.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import leyden
from bench.figures import Report, Rounds, arguments
from bench.servers import LOAD_CORE, ROOT, peer_python, pin, scratch, start_leyden

CALLS, BATCHES, STEP_S = 2000, 5, 0.050

OURS = "import leyden; leyden.init, leyden.trace, leyden.rollout, leyden.reward, leyden.flush"
CLIENT = "from leyden import Client"
PEER = "import agentlightning"


def main() -> None:
    args = arguments(
        __doc__,
        install={"action": "store_true", "help": "count packages in fresh virtual environments (slow)"},
    )
    batches = BATCHES if not args.quick else 1
    report = Report("sdk")
    calls = Rounds()
    with scratch() as folder:
        server = start_leyden(folder)
        pin(LOAD_CORE)
        try:
            for _ in range(args.rounds):
                note(calls, "leyden", call_costs(f"http://127.0.0.1:{server.port}", folder, batches))
        finally:
            server.stop()
    report.add("undecorated call", "us", calls, "plain")
    report.add("decorated, before init", "us", calls, "off")
    report.add("decorated, sampled out", "us", calls, "sampled_out", bar="20 us")
    report.add("decorated, sampled out, root of a trace", "us", calls, "sampled_out_root", bar="20 us")
    report.add("decorated, recorded, a call every 2 ms", "us", calls, "paced", bar="100 us")
    report.add("decorated, recorded, back to back", "us", calls, "recorded")
    report.add("decorated, recorded, CPU of the caller", "us", calls, "recorded_caller", bar="100 us")
    report.add("CPU per recorded call, export included", "us", calls, "recorded_cpu")
    report.add("model call with four messages, recorded, every 2 ms", "us", calls, "model_paced")
    report.add("the same, CPU of the caller", "us", calls, "model_caller", bar="100 us")
    report.add("the same, CPU with export", "us", calls, "model_cpu")
    report.add("share of a 50 ms step, recorded", "%", calls, "step_share", bar="1 %")
    report.add("spans lost", "spans", calls, "lost", bar="0")
    imports(report, args.rounds)
    if args.install:
        install(report)
    report.finish(args)


def note(rounds: Rounds, name: str, values: dict[str, float]) -> None:
    rounds.measured.setdefault(name, []).append(values)


def call_costs(url: str, folder: Path, batches: int) -> dict[str, float]:
    """Microseconds per call by case; medians over batches."""

    def look_up(order: str, reason: str) -> dict[str, Any]:
        return {"order": order, "status": "shipped", "reason": reason}

    traced = leyden.trace.tool(look_up)
    costs = {"plain": per_call(look_up, batches).wall_us, "off": per_call(traced, batches).wall_us}
    common = {"service_name": "bench", "spool_dir": str(folder / "spool")}
    leyden.init(url, sample=0.0, **common)
    with leyden.rollout("sampled out"):
        costs["sampled_out"] = per_call(traced, batches).wall_us
    costs["sampled_out_root"] = per_call(traced, batches).wall_us
    leyden.shutdown()
    leyden.init(url, sample=1.0, **common)
    with leyden.rollout("recorded"):
        traced("warm", "up")
        leyden.flush(30)
        costs["paced"] = paced(traced, 100 * batches)
        leyden.flush(30)
        cost = per_call(traced, batches, after=lambda: leyden.flush(30))
        costs["model_paced"] = paced(call_model, 100 * batches)
        leyden.flush(30)
        model = per_call(call_model, batches, after=lambda: leyden.flush(30))
    costs |= {"model_caller": model.caller_us, "model_cpu": model.process_us}
    costs |= {"recorded": cost.wall_us, "recorded_caller": cost.caller_us, "recorded_cpu": cost.process_us}
    leyden.flush(30)
    costs["step_share"] = 100 * costs["recorded_cpu"] * 1e-6 / STEP_S
    from leyden.sdk.config import stats

    costs["lost"] = float(stats().lost)
    leyden.shutdown()
    return costs


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are a helpful support agent. " * 10},
    {"role": "user", "content": "Where is my parcel W1234567? " * 5},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "function": {"name": "look_up", "arguments": '{"order": "W1234567"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": '{"status": "shipped"}'},
]
ANSWER = {"role": "assistant", "content": "Your parcel is on its way. " * 8}
RESPONSE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "model-2026",
    "choices": [{"finish_reason": "stop", "message": ANSWER}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}},
}


@leyden.trace.llm("model", provider="openai")
def ask(*, model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return RESPONSE


def call_model(order: str, reason: str) -> dict[str, Any]:
    """A model call of an agent: a short history in, a text with its usage out."""
    return ask(model="model", messages=MESSAGES)


class Cost(NamedTuple):
    """Microseconds per call: on the clock, CPU of the calling thread, and CPU of the whole process, export included."""

    wall_us: float
    caller_us: float
    process_us: float


def per_call(
    function: Callable[[str, str], Any], batches: int, *, after: Callable[[], object] = lambda: None
) -> Cost:
    """Medians over batches of calls; `after` runs after each batch and counts for the process alone."""
    measured: list[Cost] = []
    for _ in range(batches):
        wall, caller, process = time.perf_counter(), time.thread_time(), time.process_time()
        for _ in range(CALLS):
            function("W1234567", "where is my parcel")
        wall, caller = time.perf_counter() - wall, time.thread_time() - caller
        after()
        process = time.process_time() - process
        measured.append(Cost(*(1e6 * seconds / CALLS for seconds in (wall, caller, process))))
    return Cost(*(statistics.median(values) for values in zip(*measured, strict=True)))


def paced(function: Callable[[str, str], Any], calls: int) -> float:
    """Median wall time of calls that leave the exporter time to breathe, as an agent's do, in us."""
    walls: list[float] = []
    for _ in range(calls):
        time.sleep(0.002)
        before = time.perf_counter()
        function("W1234567", "where is my parcel")
        walls.append(time.perf_counter() - before)
    return statistics.median(walls) * 1e6


def imports(report: Report, rounds: int) -> None:
    sdk, client, peer = Rounds(), Rounds(), peer_python()
    seconds_to_run(sys.executable, OURS)  # the first import writes byte code
    for _ in range(rounds):
        note(sdk, "leyden", {"s": seconds_to_run(sys.executable, OURS)})
        note(client, "leyden", {"s": seconds_to_run(sys.executable, CLIENT)})
        if peer:
            note(sdk, "agl store", {"s": seconds_to_run(str(peer), PEER)})
    report.add("import of the SDK", "s", sdk, "s", lower_is_better=True, bar="0.3 s")
    report.add("import of the client", "s", client, "s", lower_is_better=True, bar="0.3 s")


def seconds_to_run(python: str, statement: str) -> float:
    """How long the statement takes in a fresh interpreter, its start not counted."""
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([python, "-c", program], env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def install(report: Report) -> None:
    """Install the base and the server extra into fresh environments; count packages and megabytes, pip left out."""
    for extra, bars in (("", ("16", "")), ("[server]", ("45", "100 MB"))):
        with scratch() as folder:
            python = folder / "venv" / "bin" / "python"
            subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", f"{ROOT}{extra}"], check=True)
            packages, size_mb = weigh(python)
        report.one(f"packages of leyden{extra}", "packages", packages, bar=bars[0])
        report.one(f"size of leyden{extra}", "MB", size_mb, bar=bars[1])
    if peer := peer_python():
        packages, size_mb = weigh(peer)
        report.notes.append(f"the peer's environment: {packages} packages, {size_mb:.0f} MB")


def weigh(python: Path) -> tuple[int, float]:
    """Packages in an environment without pip and setuptools, and the size of their files in MB."""
    program = (
        "import importlib.metadata as m; ds = [d for d in m.distributions() if d.name not in ('pip', 'setuptools')]; "
        "print(len(ds), sum(f.locate().stat().st_size for d in ds for f in d.files or () if f.locate().exists()))"
    )
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    packages, size = done.stdout.split()
    return int(packages), int(size) / 1e6


if __name__ == "__main__":
    main()
