"""On a terminal of 80 columns: colour, and no line that is wider."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from cli.program import LEYDEN, environment
from cli.runs import failed_tool, run, span

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_terminal(*words: str, answer: bytes = b"") -> tuple[int, str]:
    """Run `leyden WORDS…` with a terminal of 80 columns for input and both outputs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = environment(TERM="xterm-256color")
    env.pop("COLUMNS", None)
    env.pop("NO_COLOR", None)
    process = subprocess.Popen([*LEYDEN, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env)  # fmt: skip
    os.close(theirs)
    if answer:
        os.write(ours, answer)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return process.wait(60), seen.decode()


def widest(text: str) -> int:
    """The widest line as it stands when all is printed: what was drawn over and cleared does not count."""
    return max(cell_len(line.rstrip("\r")) for line in ESCAPE.sub("", text).split("\n"))


IDS = [f"ro-{i:032x}" for i in range(3)]


@pytest.fixture
def long_names(stored: Callable[..., None]) -> None:
    wrong = {"status_code": "ERROR", "description": "長い" * 200}
    for name in IDS:
        chain = [
            span(name, f"d{i}", f"d{i - 1}" if i else "s1", name="deep" * 20, status=wrong) for i in range(40)
        ]
        first = span(name, "s1", name="名前" * 60)
        stored(
            run(
                name,
                first,
                failed_tool(name, "s2", "s1", status=wrong),
                *chain,
                status="failed",
                failure_reason="the reason is " + "long " * 50,
                input="word " * 500,
            )
        )


@pytest.mark.usefixtures("long_names")
def test_nothing_is_wider_than_the_terminal() -> None:
    for words in (
        ["rollouts"],
        ["show", IDS[1]],
        ["analyze"],
        ["findings"],
        ["info"],
        ["keys", "list"],
    ):
        code, text = on_terminal(*words)
        assert code == 0, text
        assert widest(text) <= 80, words


@pytest.mark.usefixtures("long_names")
def test_a_terminal_gets_colour_and_a_pipe_the_whole_text() -> None:
    _, text = on_terminal("rollouts")
    assert "\x1b[31mfailed" in text
    plain = subprocess.run(
        [*LEYDEN, "show", IDS[1]], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "名前" * 60 in plain
    assert "長い" * 30 in plain
    assert "\x1b" not in plain


@pytest.mark.usefixtures("long_names")
def test_ids_are_cut_only_as_far_as_they_still_differ() -> None:
    _, text = on_terminal("rollouts")
    ids = [line.split()[0] for line in ESCAPE.sub("", text).splitlines() if line.startswith("ro-")]
    assert len(set(ids)) == 3


@pytest.mark.usefixtures("long_names")
def test_a_person_is_asked_before_anything_is_deleted() -> None:
    code, text = on_terminal("delete", IDS[1], answer=b"n\n")
    assert code == 130
    assert "[y/N]" in text
    code, text = on_terminal("delete", IDS[1], answer=b"y\n")
    assert code == 0
    assert "Deleted 1 rollout." in text
