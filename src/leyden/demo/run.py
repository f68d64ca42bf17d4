"""One run of the demo: start a server, let the agent work, analyse what it did, show a run that proves it.

Owns: the order of things and what is printed. The server is a real `leyden up` in a process of its own on a temporary
SQLite file; what is recorded goes through the SDK, what is read through `leyden.Client` and the `leyden` command.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import httpx

import leyden
from leyden.demo import scripted_model
from leyden.demo.agent import (
    AGENT,
    PROMPT_RESOURCE,
    SEED_PROMPT,
    Agent,
    Handled,
    Json,
    ModelError,
    chat_over_http,
)
from leyden.demo.tools import TOOLS, with_calendar_date
from leyden.demo.world import Task, tasks
from leyden.errors import BadInput, LeydenError, ServerUnreachable
from leyden.types import PromptTemplate

AT_ONCE = 8
_STARTS_WITHIN_S, _STOPS_WITHIN_S, _ROLLOUTS_END_WITHIN_S = 30.0, 10.0, 30.0
_DEFAULT_MODEL = "gpt-4.1-mini"
_LINES_OF_A_RUN = 25


class Model(NamedTuple):
    """A model endpoint: base URL ending in /v1, key, and the model's name."""

    base_url: str
    api_key: str
    name: str


class Server(NamedTuple):
    """A server the demo started: its address, its process, and the folder that holds its database and log."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path


def run(*, count: int, keep: bool, port: int, store: str | None, stream: bool, mended: bool) -> None:
    """Serve `count` requests, analyse them and print what was found, all on stdout.

    store: address of a server to record to; None starts one, which is stopped and its database deleted unless `keep`.
    stream: ask the model for streamed answers. mended: describe the tools rightly, so the demo's fault is gone.
    Raises LeydenError when the server does not start, the model answers no request, or rollouts do not arrive.
    """
    _say("Leyden demo: a front desk books meeting rooms under a dozen house rules.")
    with ExitStack() as stack:
        model = real_model(os.environ)
        _say(_which_model(model))
        model = model or Model(stack.enter_context(scripted_model.serve()), "", scripted_model.MODEL)
        server = None if store else stack.enter_context(_server(port=port, keep=keep))
        url = store or (server.url if server else "")
        _say(f"\nServer   {url}" + ("" if store else "  (a database of its own)"))
        tools = with_calendar_date("YYYY-MM-DD") if mended else TOOLS
        handled = _record(url, model, tasks(count), tools=tools, stream=stream)
        _say(_summary(handled))
        # Commands in the report name a server that stays, and need not name one that is about to go.
        stays = keep or store is not None
        _say("\n$ leyden analyze\n")
        _leyden("analyze", *(["--store", url] if stays else []), url=url)
        if shown := _evidence(url):
            _say(f"\nOne of the runs behind the first finding:\n\n$ leyden show {shown}\n")
            _show(shown, url=url)
    _say("\n" + _next_steps(url, server, kept=keep, show=_worst(handled).rollout_id))


def real_model(env: Mapping[str, str]) -> Model | None:
    """The model that OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name, or None without the first."""
    base_url = env.get("OPENAI_BASE_URL", "").strip()
    if not base_url:
        return None
    if not re.match(r"https?://[^/]", base_url):
        raise BadInput(
            f"OPENAI_BASE_URL={base_url!r} is not an address", hint="for example https://api.openai.com/v1"
        )
    return Model(base_url, env.get("OPENAI_API_KEY", ""), env.get("OPENAI_MODEL") or _DEFAULT_MODEL)


def _which_model(model: Model | None) -> str:
    if model:
        return f"The model is {model.name} at {model.base_url}."
    return (
        "The model is scripted: it does what its prompt says, mostly, and nothing leaves\n"
        "this machine. Set OPENAI_BASE_URL and OPENAI_API_KEY to use a real one."
    )


# ── The server ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _server(*, port: int, keep: bool) -> Generator[Server, None, None]:
    """A server for the length of the block; one that is kept outlives it, unless the block fails."""
    folder = Path(tempfile.mkdtemp(prefix="leyden-demo-"))
    kept = False
    process = _start(folder, port)
    try:
        yield Server(_address(process, folder / "server.log"), process, folder)
        kept = keep
    finally:
        if not kept:
            _stop(process)
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    # The demo's server is nobody else's: what the environment says about stores and keys is not meant for it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("LEYDEN_")}
    command = [sys.executable, "-m", "leyden", "up", "--db", str(folder / "leyden.db"), "--port", str(port)]
    # A file takes its output, not a pipe: a kept server outlives the reader. Its own session keeps Ctrl-C away from it,
    # so that it is stopped once, by us.
    with open(folder / "server.log", "wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**env, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address the server printed, once it answers there."""
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        printed = re.search(r"http://[\w.\[\]:-]+:\d+", log.read_text(errors="replace"))
        if printed and _is_ready(printed[0]):
            return printed[0]
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise ServerUnreachable("the demo's server did not start: " + (" · ".join(last) or "it printed nothing"))


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ── The work ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _record(url: str, model: Model, todo: list[Task], *, tools: list[Json], stream: bool) -> list[Handled]:
    """Let the agent serve every task, recorded at `url`; returns once the server knows how each ended."""
    # A proxy of the environment has no business on loopback.
    http = httpx.Client(timeout=120.0, trust_env=not model.base_url.startswith("http://127.0.0.1:"))
    folder = tempfile.TemporaryDirectory(prefix="leyden-demo-spool-")
    with leyden.Client(url) as client, http, folder as spool:
        prompt = PromptTemplate(template=SEED_PROMPT, engine="f-string")
        resources_id = client.update_resources(AGENT, {PROMPT_RESOURCE: prompt}).resources_id
        chat = chat_over_http(http, base_url=model.base_url, api_key=model.api_key, stream=stream)
        leyden.init(url, service_name="leyden-demo", enabled=True, sample=1.0, spool_dir=spool)
        try:
            handled = _serve_all(Agent(chat, model=model.name, tools=tools, resources_id=resources_id), todo)
            leyden.flush(_ROLLOUTS_END_WITHIN_S)
        finally:
            leyden.shutdown()
        ended = client.wait([one.rollout_id for one in handled], timeout_s=_ROLLOUTS_END_WITHIN_S)
    if len(ended) < len(handled):
        raise ServerUnreachable(f"only {len(ended)} of {len(handled)} rollouts arrived at {url}")
    return handled


def _serve_all(agent: Agent, todo: list[Task]) -> list[Handled]:
    handled: list[Handled] = []
    pool, began = ThreadPoolExecutor(AT_ONCE), time.monotonic()
    try:
        for done in as_completed([pool.submit(agent.handle, task) for task in todo]):
            handled.append(done.result())
            _progress(len(handled), len(todo), seconds=time.monotonic() - began)
    finally:
        pool.shutdown(cancel_futures=True)
    failures = [one.failure for one in handled if isinstance(one.failure, ModelError)]
    if len(failures) == len(todo):
        raise failures[0]
    return handled


def _progress(done: int, total: int, *, seconds: float) -> None:
    """One line that counts up on a terminal; elsewhere only its last state."""
    if done < total and not sys.stdout.isatty():
        return
    start, end = ("\r", "" if done < total else "\n") if sys.stdout.isatty() else ("", "\n")
    sys.stdout.write(f"{start}Requests {done} of {total} served, {AT_ONCE} at once, in {seconds:.1f} s{end}")
    sys.stdout.flush()


# ── The words ────────────────────────────────────────────────────────────────────────────────────────────────────


def _summary(handled: list[Handled]) -> str:
    rewards = [one.reward for one in handled]
    perfect, worthless = rewards.count(1.0), rewards.count(0.0)
    return f"Reward   {fmean(rewards):.2f} on average; {perfect} perfect, {worthless} worth nothing"


def _worst(handled: list[Handled]) -> Handled:
    """The request worth looking at first: one that failed, else the one with the lowest reward."""
    return min(handled, key=lambda one: (one.failure is None, one.reward))


def _evidence(url: str) -> str | None:
    """A run that shows the weightiest finding; None when nothing was found."""
    with leyden.Client(url) as client:
        found = client.findings(limit=1).items
    return found[0].evidence[0].rollout_id if found and found[0].evidence else None


def _leyden(*arguments: str, url: str) -> None:
    """Run a `leyden` command on the server at `url`; it prints where we print, in colour if we could."""
    sys.stdout.flush()
    _check(
        subprocess.run([*_program(), *arguments], env={**os.environ, "LEYDEN_URL": url}, check=False),
        arguments,
    )


def _show(rollout_id: str, *, url: str) -> None:
    """Print the beginning of what `leyden show` prints, as wide and as coloured as our screen."""
    arguments = ("show", rollout_id)
    env = {**os.environ, "LEYDEN_URL": url}
    if sys.stdout.isatty():
        env |= {"FORCE_COLOR": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    done = subprocess.run([*_program(), *arguments], env=env, check=False, capture_output=True, text=True)
    _check(done, arguments)
    lines = done.stdout.splitlines()
    _say("\n".join(lines[:_LINES_OF_A_RUN]))
    if more := len(lines[_LINES_OF_A_RUN:]):
        _say(f"… and {more} more line{'s' if more > 1 else ''}")


def _check(done: subprocess.CompletedProcess[Any], arguments: tuple[str, ...]) -> None:
    if done.returncode:
        said = f": {done.stderr.strip()}" if done.stderr else ""
        raise LeydenError(f"`leyden {' '.join(arguments)}` ended with exit code {done.returncode}{said}")


def _typed(program: str) -> str | None:
    """What to type in this folder to run a program that lies beside the interpreter; None when none does.

    Its bare name when the PATH leads there, else its path, from here when that is shorter.
    """
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        return None
    if shutil.which(program) == str(path):
        return program
    here = os.path.relpath(path)
    return shlex.quote(min((here if os.sep in here else f"./{here}", str(path)), key=len))


def _program() -> list[str]:
    """What runs the command line: the script when it is installed, so that the commands it prints begin like ours."""
    return shlex.split(_typed("leyden") or "") or [sys.executable, "-m", "leyden"]


def _next_steps(url: str, server: Server | None, *, kept: bool, show: str) -> str:
    demo = f"{_typed(Path(sys.executable).name)} -m leyden.demo"
    if server and not kept:
        return (
            "The server is stopped and its database deleted. To look around in the runs, or\nto see the fault gone:\n"
            f"  {demo} --keep     leaves the server up\n"
            f"  {demo} --mended   describes check_calendar rightly"
        )
    cli = _typed("leyden") or f"{_typed(Path(sys.executable).name)} -m leyden"
    look = (
        "Look around: every request, the one that went worst, what is worth fixing.\n"
        f"  {cli} rollouts --store {url}\n"
        f"  {cli} show {show} --store {url}\n"
        f"  {cli} findings --store {url}"
    )
    if not server:
        return look
    folder = shlex.quote(str(server.folder))
    return f"{look}\n\nStop the server, then delete what it holds:\n  kill {server.process.pid}\n  rm -r {folder}"


def _say(text: str) -> None:
    print(text, flush=True)
