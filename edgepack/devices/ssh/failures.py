"""What ssh and the device's shell say when it doesn't work, as one clear error each."""

from __future__ import annotations

import errno
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.core.errors import EnvironmentProblem

_TAIL_LINES = 4
_CLOCK_JUMP_S = 2.0
NO_COMMAND_EXIT_CODE = 127
# The words are those of OpenSSH 8 to 10 (ssh.c, sshconnect.c, sshconnect2.c, mux.c); ssh doesn't translate them. The first match counts.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is another than the known one: the device was set up anew, or something else answers at its address; "
        "if you know that it was set up anew, remove the old key with 'ssh-keygen -R {host}' and connect once with '{command}'",
    ),
    (
        "Host key verification failed",
        "its host key is not known here; connect once with '{command}' and compare the fingerprint, then run this again",
    ),
    (
        "host key is known for",
        "its host key is not known here; connect once with '{command}' and compare the fingerprint",
    ),
    (
        "Permission denied",
        "it refused the login: none of your keys is accepted for this user; name the right user (ssh://USER@{host}), load the key "
        "(ssh-add), or put it on the device (ssh-copy-id)",
    ),
    (
        "Too many authentication failures",
        "it refused the login after too many keys; name one with IdentityFile and IdentitiesOnly in your ssh config",
    ),
    (
        "Could not resolve hostname",
        "its name leads to no address; check the spelling, or give it a HostName in your ssh config",
    ),
    (
        "Connection refused",
        "nothing listens on its SSH port; check the port, and that an SSH server runs on the device",
    ),
    ("Connection timed out", "it doesn't answer; check that it is switched on and that this machine can reach it"),
    ("Operation timed out", "it doesn't answer; check that it is switched on and that this machine can reach it"),
    (
        "No route to host",
        "it can't be reached from this network; check that it is switched on, its address and the network",
    ),
    ("Network is unreachable", "it can't be reached from this network; check its address and the network"),
    ("Connection closed by", "it closed the connection before the login; its SSH server's log says why"),
    ("Connection reset by", "it closed the connection before the login; its SSH server's log says why"),
    ("kex_exchange_identification", "what answers there is no SSH server, or it is overloaded; check the port"),
    ("banner exchange", "what answers there is no SSH server, or it is overloaded; check the port"),
)
_NO_SFTP = (
    "subsystem request failed",
    "sftp-server: not found",
    "sftp-server: No such file",
    "Received message too long",
)


def connection_failure(address: str, host: str, *, command: str, said: str) -> EnvironmentProblem:
    """Why there is no connection, by what ssh wrote."""
    for words, meaning in _CAUSES:
        if words in said:
            return EnvironmentProblem(
                f"{address}: {meaning.format(host=host, command=command)} (ssh: {last_line(said)})"
            )
    return EnvironmentProblem(f"{address}: no connection: {tail(said) or 'ssh said nothing'}; try '{command}'")


def python_failure(address: str, *, python: str, code: int, said: str) -> EnvironmentProblem:
    """Why the device's Python didn't start, although the login worked."""
    advice = "install Python 3.9 or newer there, or name it with 'python' in devices.toml"
    if code == NO_COMMAND_EXIT_CODE or "not found" in said or "No such file" in said:
        return EnvironmentProblem(f"{address}: no Python on the device: '{python}' is not there; {advice}")
    return EnvironmentProblem(
        f"{address}: '{python}' on the device does not work (exit code {code}): {tail(said)}; {advice}"
    )


def sftp_failure(address: str, *, doing: str, said: str) -> EnvironmentProblem:
    """Why a file wasn't copied, although the connection is alive."""
    # Over a shared connection sftp says no more than this when the server refuses it.
    if any(words in said for words in _NO_SFTP) or said.strip().rstrip(".") == "Connection closed":
        return EnvironmentProblem(
            f"{address}: {doing}: the device's SSH server has no SFTP; install openssh-sftp-server there, or add "
            "'Subsystem sftp internal-sftp' to its sshd_config"
        )
    if "Received message too long" in said:
        return EnvironmentProblem(
            f"{address}: {doing}: a login script on the device (such as .bashrc) writes text, which SFTP can't bear; let it "
            "be silent where no terminal is ('[ -t 1 ] || return')"
        )
    return EnvironmentProblem(f"{address}: {doing}: {tail(said) or 'sftp said nothing'}")


def tail(said: str) -> str:
    """The last lines of what was said, as one."""
    return " / ".join(line.strip() for line in said.strip().splitlines()[-_TAIL_LINES:])


def last_line(said: str) -> str:
    """The last line of what was said."""
    return said.strip().splitlines()[-1].strip().removeprefix("ssh: ") if said.strip() else ""


def not_started(address: str, command: str, answer: Mapping[str, Any], *, machine: str) -> EnvironmentProblem:
    """Why a command wasn't even started on the device."""
    if answer["errno"] == errno.ENOEXEC:
        return EnvironmentProblem(
            f"{address}: {command}: wrong architecture: this program is not for the device's processor ({machine}); use one that was built for it"
        )
    return EnvironmentProblem(f"{address}: {command}: can't be started on the device: {answer['error']}")


def notes_of(end: Mapping[str, Any]) -> Sequence[str]:
    """What the device's state says about how a command ended."""
    before, after = end["before"], end["after"]
    notes = []
    if end["exit"] == -signal.SIGKILL and (after["oom_kills"] or 0) > (before["oom_kills"] or 0):
        free_bytes = before["memory_free_bytes"]
        free = f"; {free_bytes / 1e6:.0f} MB were free when it began" if free_bytes else ""
        notes.append(f"the device ran out of memory and its kernel (OOM killer) ended the process{free}")
    if end["exit"] != 0 and end["is_full"]:
        notes.append("the device's disk is full; free some space there")
    jumped_s = after["wall_minus_monotonic_s"] - before["wall_minus_monotonic_s"]
    if abs(jumped_s) > _CLOCK_JUMP_S:
        notes.append(f"the device's wall clock jumped by {jumped_s:+.0f} s meanwhile; samples don't depend on it")
    return notes
