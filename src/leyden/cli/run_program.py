"""A program as a child process: found, started with our own stdin, stdout and stderr, told every signal we get, and waited for.

Refuses to know: rollouts, servers.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

_PASSED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
# What a terminal sends to every process in its foreground, so also to the program.
_TYPED = ("SIGINT", "SIGQUIT")


class NoProgram(click.ClickException):
    """There is nothing to start. The exit code is that of every shell."""

    exit_code = 127


class NotStarted(NoProgram):
    """It is there, and the system does not execute it."""

    exit_code = 126


class Ended(NamedTuple):
    """How a program ended. returncode: its exit status, or minus the number of the signal that killed it."""

    returncode: int

    @property
    def is_success(self) -> bool:
        """Whether its exit status was 0."""
        return self.returncode == 0

    @property
    def exit_code(self) -> int:
        """What we exit with ourselves: its status, or 128 and the signal's number, as shells have it."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def reason(self) -> str:
        """The end in words: `exit status 3`, `killed by SIGTERM`."""
        if self.returncode >= 0:
            return f"exit status {self.returncode}"
        try:
            return f"killed by {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"killed by signal {-self.returncode}"


def find_program(word: str) -> str:
    """The path of the program that a shell would start. Raises NoProgram."""
    path = shutil.which(word)
    if path is not None:
        return path
    if os.path.dirname(word) and Path(word).exists():
        raise NotStarted(f"{word} cannot be executed: it is a folder, or not marked as executable")
    raise NoProgram(f"There is no program {word!r} here or on the PATH")


def run_program(words: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run a program to its end. Raises NoProgram when the system refuses to start it."""
    with _signals() as signals:
        try:
            process = subprocess.Popen(words, executable=find_program(words[0]), env=environment)
        except OSError as error:
            raise NotStarted(f"{words[0]} cannot be started: {error.strerror}") from error
        signals.pass_on_to(process)
        return Ended(process.wait())


class _Signals:
    """Signals that came before there was a program wait for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def pass_on_to(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        while self._early:
            process.send_signal(self._early.pop(0))

    def __call__(self, number: int, frame: Any) -> None:
        if signal.Signals(number).name in _TYPED and _is_in_foreground():
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


@contextmanager
def _signals() -> "Generator[_Signals]":
    """Catches what would end us, for as long as the block runs."""
    caught = _Signals()
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread catch any
        yield caught
        return
    numbers = [getattr(signal, name) for name in _PASSED if hasattr(signal, name)]
    before = [(number, signal.signal(number, caught)) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in before:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_in_foreground() -> bool:
    """Whether a terminal's keys reach this process group."""
    if sys.platform == "win32":
        return True
    for stream in range(3):
        try:
            if os.isatty(stream) and os.tcgetpgrp(stream) == os.getpgrp():
                return True
        except OSError:
            continue
    return False
