"""A long command in a child process that a small parent watches, so that Ctrl-C ends it at once.

Python runs a signal's handler only between two of its own instructions; a call into C++ (a conversion, a training step) can hold it
for half a minute. The parent does nothing but wait, so it can end the child at any time. The fork happens before NumPy or torch are
imported: there are no threads yet, and it costs a millisecond.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from edgepack.cli.failures import tell, tell_interrupted
from edgepack.cli.invocation import Invocation
from edgepack.core.errors import INTERRUPTED_EXIT_CODE, EnvironmentProblem, StageError

GRACE_S = 1.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"


def supervise(invocation: Invocation) -> None:
    """From here on the command runs in a child; the parent never returns but exits with the child's exit code.

    SIGINT, SIGTERM and SIGHUP to the parent interrupt the child and all that it started; what has not ended after 1.5 s, or at a
    second signal, is killed. The child dies with the parent, also when that is killed. Does nothing unless the console script
    called, and with --debug, so that a debugger can read the terminal.
    """
    if not invocation.supervised or invocation.debug:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # Signals are taken from a queue instead of by handlers, so none can come between two steps. What was ignored when
    # we started (nohup, a script's background job) stays ignored.
    ending = {number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending | {signal.SIGCHLD})
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become_child(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        invocation.is_child = True
        return
    with contextlib.suppress(OSError):  # the child does it, too: whoever is first
        os.setpgid(child, child)
    os._exit(_watch(child, ending, invocation))


def _become_child(parent: int) -> None:
    import ctypes

    os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which then decides
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before prctl
        os._exit(INTERRUPTED_EXIT_CODE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # `stty tostop` would stop a background group that writes
    if os.isatty(0):  # and reading from the terminal would stop it for ever
        with open(os.devnull) as nothing:  # noqa: PTH123  # a descriptor is needed
            os.dup2(nothing.fileno(), 0)


def _watch(child: int, ending: set[signal.Signals], invocation: Invocation) -> int:
    """Wait for the child, pass interrupts on; the exit code for the shell."""
    received: int | None = None
    killed, deadline = False, 0.0
    while not _has_ended(child):
        number = _next_signal(ending, until=None if received is None else deadline)
        if number == signal.SIGCHLD:
            continue
        if received is None and number is not None:
            received, deadline = number, time.monotonic() + GRACE_S
            _signal_group(child, signal.SIGINT)
        else:
            _signal_group(child, signal.SIGKILL)
            killed, deadline = True, time.monotonic() + GRACE_S
    if received is not None:
        _signal_group(child, signal.SIGKILL)  # what the child had started and left behind
    _, status = os.waitpid(child, 0)
    return _told(os.waitstatus_to_exitcode(status), received, invocation, killed=killed)


def _next_signal(ending: set[signal.Signals], *, until: float | None) -> int | None:
    """The next signal that matters; None at the time `until`."""
    if until is None:
        return signal.sigwaitinfo(ending | {signal.SIGCHLD}).si_signo
    information = signal.sigtimedwait(ending | {signal.SIGCHLD}, max(0.0, until - time.monotonic()))
    return None if information is None else information.si_signo


def _has_ended(child: int) -> bool:
    # WNOWAIT leaves it unreaped, so that its number, and its group's, can't be another's while we may still signal it.
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(child: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number)


def _told(code: int, received: int | None, invocation: Invocation, *, killed: bool) -> int:
    """Say how the child ended, where it could not say so itself; the exit code."""
    if killed or code < 0:
        with contextlib.suppress(OSError):
            if os.isatty(2):
                os.write(2, f"{_SHOW_CURSOR}\n".encode())
    if received is not None and code != 0:
        tell_interrupted(keeps_stages=invocation.keeps_stages)
        return 128 + received
    if code == INTERRUPTED_EXIT_CODE:
        tell_interrupted(keeps_stages=invocation.keeps_stages)
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        tell(
            f"the build was killed ({name}); most likely memory ran out: close other programs, or build a smaller model"
        )
        return EnvironmentProblem.exit_code
    tell(f"a library crashed the build ({name}); run again with --debug and report it")
    return StageError.exit_code
