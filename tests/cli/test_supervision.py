"""A supervised command that hears an interrupt, and a real build that is interrupted. (Deaf ones: test_supervise.py.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_project import Project

from edgepack.cli.supervise import GRACE_S
from edgepack.core.errors import INTERRUPTED_EXIT_CODE, CheckFailed

KEPT = "edgepack: interrupted; finished stages are kept: run the same command again to go on\n"
# What `edgepack build` does with its command, with another command in its place.
CALL = """
import os, signal, subprocess, sys, time
from edgepack.cli.failures import exit_code_of
from edgepack.cli.invocation import Invocation
from edgepack.cli.supervise import supervise
from edgepack.core.errors import CheckFailed

invocation = Invocation(supervised=True, keeps_stages=True, debug={debug})


def command():
    supervise(invocation)
    {before}
    print("child", os.getpid(), flush=True)
    {then}


sys.exit(exit_code_of(command, invocation))
"""
SLEEP = "time.sleep(60)"

Start = Callable[..., "Supervised"]


class Supervised:
    """A supervised command that has begun its work."""

    def __init__(self, then: str = SLEEP, before: str = "pass", *, debug: bool = False) -> None:
        code = CALL.format(before=before, then=then, debug=debug)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_COLOR": "1", "EDGEPACK_DEBUG": ""},
        )
        self.pids: dict[str, int] = {}
        assert self.process.stdout is not None
        while "child" not in self.pids:
            name, pid = self.process.stdout.readline().split()
            self.pids[name] = int(pid)

    def ended(self) -> tuple[int, str]:
        """The exit code and what was said."""
        _, error = self.process.communicate(timeout=20)
        return self.process.returncode, error

    def interrupted(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts supervised commands, and leaves none of their processes behind."""
    made: list[Supervised] = []

    def begin(*given: str, debug: bool = False) -> Supervised:
        made.append(Supervised(*given, debug=debug))
        return made[-1]

    yield begin
    for one in made:
        for pid in (one.process.pid, *one.pids.values()):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        one.process.communicate()


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int, *, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


def test_a_command_runs_in_a_child_and_its_success_is_passed_on(start: Start) -> None:
    command = start("pass")

    assert command.pids["child"] != command.process.pid
    assert command.ended() == (0, "")


def test_a_failures_exit_code_is_passed_on_and_its_message_comes_once(start: Start) -> None:
    command = start("raise CheckFailed('too large')")

    assert command.ended() == (CheckFailed.exit_code, "edgepack: error: too large\n")


def test_any_exit_code_is_passed_on(start: Start) -> None:
    assert start("sys.exit(77)").ended() == (77, "")


def test_an_interrupt_ends_a_command_at_once(start: Start) -> None:
    command = start()
    began = time.monotonic()

    assert command.interrupted() == (INTERRUPTED_EXIT_CODE, KEPT)
    assert time.monotonic() - began < GRACE_S + 10
    assert ends(command.pids["child"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_end_a_command_give_their_own_exit_code(start: Start, number: signal.Signals) -> None:
    command = start()

    assert command.interrupted(number) == (128 + number, KEPT)
    assert ends(command.pids["child"])


def test_an_interrupted_build_keeps_its_stages_and_says_so(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    build = subprocess.Popen(
        [sys.executable, "-m", "edgepack", "build", "--recipe", project.folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "EDGEPACK_DEBUG": ""},
    )
    assert build.stderr is not None
    for line in build.stderr:
        if line.startswith("Checking that the target"):
            break
    began = time.monotonic()

    build.send_signal(signal.SIGINT)
    output, error = build.communicate(timeout=20)

    assert time.monotonic() - began < GRACE_S + 15
    assert build.returncode == INTERRUPTED_EXIT_CODE
    assert output == ""
    assert error.endswith(KEPT)
    assert "Traceback" not in error
    assert [name.rpartition("-")[0] for name in project.stages()] == ["load"]
    assert not (project.folder / "dist").exists()
