"""A build in a child process ends when its user wants, whatever a library is doing."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepack.cli.invocation import Invocation
from edgepack.cli.supervise import supervise

SCRIPT = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as from a terminal, however this test was started
from edgepack.cli.failures import exit_code_of
from edgepack.cli.invocation import Invocation
from edgepack.cli.supervise import supervise
from edgepack.core.errors import CheckFailed

invocation = Invocation(supervised=True, debug=False, keeps_stages=True)

def command():
    supervise(invocation)
    {body}

sys.exit(exit_code_of(command, invocation))
"""
READY = "print('ready', os.getpid(), flush=True); "
# One call into C that looks at no signal for minutes.
IN_C = READY + "sum(range(10**12))"
IGNORES = "signal.signal(signal.SIGINT, signal.SIG_IGN); " + READY + "time.sleep(120)"
POLITE = READY + "time.sleep(120)"
GENEROUS_S = 20

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the script; whatever is left of it afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def child_of(process: subprocess.Popen[str]) -> int:
    """The child's process number, once it is at work."""
    assert process.stdout is not None
    word, number = process.stdout.readline().split()
    assert word == "ready"
    return int(number)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


@pytest.mark.parametrize("body", [IN_C, IGNORES, POLITE], ids=["in C", "ignores it", "polite"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_child_that_cannot_listen(start: Start, body: str, number: int, code: int) -> None:
    process = start(body)
    child = child_of(process)

    process.send_signal(number)
    _, told = process.communicate(timeout=GENEROUS_S)

    assert process.returncode == code
    assert told == "edgepack: interrupted; finished stages are kept: run the same command again to go on\n"
    assert not is_alive(child)


def test_what_the_child_started_ends_too(start: Start) -> None:
    process = start(
        "other = subprocess.Popen(['sleep', '120']); print('ready', other.pid, flush=True); time.sleep(120)"
    )
    grandchild = child_of(process)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=GENEROUS_S)

    wait_until_gone(grandchild)


def test_a_second_signal_does_not_wait(start: Start) -> None:
    process = start(IGNORES)
    child = child_of(process)

    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=GENEROUS_S)

    assert process.returncode == 130
    assert not is_alive(child)


def test_a_killed_parent_takes_its_child_along(start: Start) -> None:
    process = start(IN_C)
    child = child_of(process)
    assert is_alive(child)

    process.kill()

    wait_until_gone(child)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("pass", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("raise CheckFailed('too bad')", 8, "edgepack: error: too bad"),
        ("raise ZeroDivisionError", 1, "internal error: ZeroDivisionError"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 9, "memory ran out"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 7, "a library crashed the build (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", 130, "interrupted"),
    ],
)
def test_the_childs_end_is_the_commands_end(start: Start, body: str, code: int, words: str) -> None:
    process = start(body)
    _, told = process.communicate(timeout=GENEROUS_S)

    assert (process.returncode, told.count("edgepack: ")) == (code, 1 if words else 0)
    assert words in told


def test_ctrl_c_on_a_terminal_that_stops_background_writers(tmp_path: Path) -> None:
    """The child is in the background, so `stty tostop` would stop it at its first word, and reading would stop it for ever."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    script = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + SCRIPT
    body = "print('read', repr(sys.stdin.read()), flush=True); " + IGNORES
    with subprocess.Popen(
        [sys.executable, "-c", script.format(body=body)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the terminal's other end is closed
            while part := os.read(ours, 1000):
                if b"ready" in part:
                    os.write(ours, b"\x03")
                seen += part
        process.wait(timeout=GENEROUS_S)
    os.close(ours)

    assert process.returncode == 130
    assert b"read ''" in seen
    assert b"\x1b[?25h" in seen  # a cursor that a killed child had hidden
    assert b"interrupted; finished stages are kept" in seen


@pytest.mark.parametrize("invocation", [Invocation(supervised=False), Invocation(supervised=True, debug=True)])
def test_without_the_console_script_or_with_debug_there_is_no_child(invocation: Invocation) -> None:
    before = os.getpid()

    supervise(invocation)

    assert os.getpid() == before
    assert not invocation.is_child
