"""The whole demo, as a person starts it: a real server, the real SDK, the real command line."""

import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import leyden
from leyden.demo import scripted_model
from leyden.demo.run import real_model
from leyden.errors import BadInput

SRC = Path(leyden.__file__).parents[1]


def environment(tmp_path, **changes):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LEYDEN_", "OPENAI_"))}
    return {
        **env,
        "PYTHONPATH": str(SRC),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "COLUMNS": "80",
        **changes,
    }


def demo(tmp_path, *arguments, **env):
    """The finished demo process, its temporary files under tmp_path."""
    return subprocess.run(
        [sys.executable, "-m", "leyden.demo", *arguments],
        env=environment(tmp_path, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def finished(folder):
    """A finished demo, and the processor seconds that it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = demo(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def servers_of(folder):
    """Processes that serve a database in this folder."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in p.info["cmdline"] or ())
    ]


def test_the_demo_ends_well_and_takes_less_than_fifteen_seconds_of_one_processor(finished):
    done, processor_s = finished
    assert (done.returncode, done.stderr) == (0, "")
    assert processor_s < 15


def test_the_demo_says_that_its_model_is_scripted_and_how_to_use_a_real_one(finished):
    assert "The model is scripted" in finished[0].stdout
    assert "OPENAI_BASE_URL and OPENAI_API_KEY" in finished[0].stdout


def test_the_first_finding_is_the_calendar_whose_date_is_described_wrongly(finished):
    findings = finished[0].stdout.split("$ leyden analyze")[1]
    first = re.search(r"^ *1\. (.*?)^ *2\. ", findings, re.MULTILINE | re.DOTALL)[1]
    assert "check_calendar fails" in first
    assert "date must be YYYY-MM-DD" in first
    assert "leyden show ro-" in first


def test_a_run_behind_the_first_finding_is_shown_step_by_step_and_kept_short(finished):
    shown = finished[0].stdout.split("One of the runs behind the first finding:")[1]
    run, rest = shown.split("The server is stopped")
    assert re.search(r"^rollout +ro-", run, re.MULTILINE)
    assert "├─ tool check_calendar" in run
    assert "ToolError: date must be YYYY-MM-DD" in run
    assert len(run.strip().splitlines()) <= 2 + 25 + 1
    assert "--keep" in rest


def test_on_a_pipe_nothing_of_ours_is_wider_than_eighty_columns_and_nothing_steers_a_terminal(finished):
    before, after = finished[0].stdout.split("$ leyden analyze")
    ours = [*before.splitlines(), *after[after.index("The server is stopped") :].splitlines()]
    assert max(map(len, ours)) <= 80
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", finished[0].stdout)


def test_on_a_terminal_of_eighty_columns_progress_is_one_line_and_nothing_is_wider(tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "leyden.demo", "--tasks", "12"],
        env=environment(tmp_path, TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = _read_all(ours)
    assert process.returncode == 0, shown
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in shown.split("\r\n")]
    progress = [line for line in lines if "12 of 12 served" in line]
    assert len(progress) == 1
    assert progress[0].count("\r") == 12
    assert max(len(line.split("\r")[-1]) for line in lines) <= 80


def _read_all(terminal):
    """Everything written to a terminal until its last writer is gone (which Linux reports as an I/O error)."""
    parts = []
    with suppress(OSError):
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_nothing_is_left_behind(finished, folder):
    assert list(folder.iterdir()) == []
    assert servers_of(folder) == []


def test_with_the_description_mended_the_calendar_is_no_finding_and_rewards_are_higher(finished, tmp_path):
    mended = demo(tmp_path, "--mended")
    assert "check_calendar fails" in finished[0].stdout
    assert "check_calendar fails" not in mended.stdout
    reward, better = (float(re.search(r"Reward +(\d\.\d+)", d.stdout)[1]) for d in (finished[0], mended))
    assert better > reward


def test_a_kept_server_answers_until_it_is_stopped_as_printed(tmp_path):
    kept = demo(tmp_path, "--tasks", "4", "--keep", "--stream")
    assert kept.returncode == 0, kept.stderr
    url = re.search(r"rollouts --store (\S+)", kept.stdout)[1]
    pid = int(re.search(r"kill (\d+)", kept.stdout)[1])
    try:
        with leyden.Client(url) as client:
            page = client.list_rollouts()
            assert page.total == 4
            assert {item.status for item in page.items} <= {"succeeded", "failed"}
            assert all(item.reward is not None and item.resources_id == "front-desk" for item in page.items)
            again = demo(tmp_path, "--tasks", "2", "--store", url)
            assert again.returncode == 0, again.stderr
            assert client.list_rollouts().total == 6
    finally:
        server = psutil.Process(pid)
        subprocess.run(["kill", str(pid)], check=True)
        server.wait(10)
    subprocess.run(re.search(r"^ +(rm -r .*)$", kept.stdout, re.MULTILINE)[1], shell=True, check=True)
    assert list(tmp_path.iterdir()) == []


def installed(tmp_path):
    """A folder that looks like an installation: bin/python, and bin/leyden as pip writes it."""
    programs = tmp_path / "my env" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    script = programs / "leyden"
    # A path with a blank cannot stand in a shebang.
    script.write_text(
        f'#!/bin/sh\nexec "{programs}/python" -c "import sys; sys.argv[0] = \'$0\'; '
        'from leyden.cli.main import main; main()" "$@"\n'
    )
    script.chmod(0o755)
    return programs


@pytest.mark.parametrize("as_installed", [False, True])
def test_every_command_printed_by_a_kept_demo_works_as_typed(tmp_path, as_installed):
    python = str(installed(tmp_path) / "python") if as_installed else sys.executable
    env = environment(tmp_path, PYTHONPATH=os.pathsep.join([str(SRC), *filter(None, sys.path)]))
    done = subprocess.run(
        [python, "-m", "leyden.demo", "--tasks", "8", "--keep"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    closing = done.stdout[done.stdout.index("Look around:") :]
    commands = re.findall(r"^  (\S.*)$", closing, re.MULTILINE)
    *look, kill, remove = commands
    if as_installed:
        assert all(command.startswith("'my env/bin/leyden' ") for command in look)
        look += re.findall(r"^    ('my env/bin/leyden' show \S+ --store \S+)$", done.stdout, re.MULTILINE)
        assert len(look) > 4
    for command in (*look, kill, remove):
        typed = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert typed.returncode == 0, (command, typed.stderr)
        if command == kill:
            psutil.wait_procs(servers_of(tmp_path), 10)
    assert servers_of(tmp_path / "leyden-demo-") == []


def test_ended_by_a_signal_the_demo_takes_its_server_with_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "leyden.demo", "--tasks", "5000"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The address is printed once the server is up.
        assert any(line.startswith("Server") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    finally:
        process.kill()
        process.communicate()
    assert servers_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_is_one_clear_error_and_leaves_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = demo(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the demo's server did not start")
    assert "already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "nonsense"])
def test_a_model_that_is_not_there_is_one_clear_error(tmp_path, url):
    done = demo(tmp_path, "--tasks", "3", OPENAI_BASE_URL=url, OPENAI_API_KEY="x")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert url in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_with_a_base_url_in_the_environment_that_model_is_asked_and_named(tmp_path):
    with scripted_model.serve() as url:
        done = demo(
            tmp_path,
            "--tasks",
            "4",
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="secret-key",
            OPENAI_MODEL="my-model",
        )
    assert done.returncode == 0, done.stderr
    assert f"The model is my-model at {url}." in done.stdout
    assert "scripted:" not in done.stdout
    assert "secret-key" not in done.stdout


def test_a_store_that_is_not_there_is_one_clear_error(tmp_path):
    done = demo(tmp_path, "--tasks", "3", "--store", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_real_model_is_named_by_the_environment():
    assert real_model({}) is None
    assert real_model({"OPENAI_API_KEY": "k"}) is None
    assert real_model(
        {"OPENAI_BASE_URL": "https://m.example/v1", "OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}
    ) == (
        "https://m.example/v1",
        "k",
        "m",
    )
    with pytest.raises(BadInput, match="OPENAI_BASE_URL"):
        real_model({"OPENAI_BASE_URL": "api.example"})
