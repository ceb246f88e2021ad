"""What can go wrong, by kind, and the exit code of each kind. Whoever asked is told in one event: {"event": "error", "kind", "message"}."""

from __future__ import annotations

import errno
import re

# 1 is Python's own for an exception that nobody caught, 2 a shell's for wrong usage.
EXIT_CODES = {
    "spec": 2,  # the question itself
    "python": 3,  # this Python is too old or has no NumPy
    "runtime": 4,  # the runtime is not installed or can't be imported
    "model": 5,  # the file can't be read, or is none that the runtime opens
    "operator": 6,  # the runtime is too old for an operator or for the file's format
    "inputs": 7,
    "inference": 8,
    "memory": 9,
    "unsupported": 10,  # the runtime here can't do what was asked, such as a profile
    "output": 11,  # nobody reads any more, or the disk is full
}
# What runtimes say when memory runs out, where Python gets no MemoryError of it.
_MEMORY = re.compile(r"bad_alloc|[Cc]annot allocate memory|[Ff]ailed to allocate memory|out of memory", re.IGNORECASE)
# Each runtime's words for an operator or a format that it doesn't know; the groups say which.
_LACKS = (
    re.compile(r"Didn't find op for builtin opcode '(?P<name>\w+)' version '(?P<version>\d+)'"),
    re.compile(r"Encountered unresolved custom op: (?P<name>[\w.:]*\w)"),
    re.compile(r"Op builtin_code out of range: (?P<name>\d+)"),
    re.compile(r"Could not find an implementation for (?P<name>[\w.:]+)\((?P<version>\d+)\)"),
    re.compile(r"No [Oo]p registered for (?P<name>[\w.:]+) with domain_version of (?P<version>\d+)"),
    re.compile(r"(?P<name>[\w.:]+)\((-1|(?P<version>\d+))\) is not a registered function/op"),
    re.compile(r"Cannot create (?P<name>\w+) layer .*? from unsupported opset: ?(?P<version>\w+)", re.DOTALL),
    re.compile(r"doesn't contain the operation with type: (?P<name>\w+)"),
    re.compile(r"Unsupported model IR version: (?P<ir>\d+)"),
    re.compile(r"Opset (?P<opset>\d+) is under development"),
)


class AgentError(Exception):
    """A failure that the caller is told: AgentError(kind, message)."""

    @property
    def kind(self) -> str:
        return str(self.args[0])

    @property
    def message(self) -> str:
        return str(self.args[1])


def described(exc: BaseException, *, doing: str) -> AgentError:
    """Any failure as one with a kind. `doing` is what was done meanwhile, as a kind: 'model' or 'inference'."""
    if isinstance(exc, AgentError):
        return exc
    if isinstance(exc, MemoryError) or _MEMORY.search(str(exc)):
        words = f"the device has too little memory for this model ({type(exc).__name__}: {_short(exc)}); "
        return AgentError("memory", words + "stop other programs there, or build a smaller model")
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return AgentError("output", f"the device's disk is full ({_short(exc)}); free some space there")
    return AgentError(doing, f"{type(exc).__name__}: {_short(exc)}")


def not_opened(path: str, exc: Exception, *, runtime: str) -> AgentError:
    """Why a runtime did not open a model: too little memory, an operator that it doesn't know, or a file that is none."""
    failure = described(exc, doing="model")
    if failure is exc or failure.kind == "memory":
        return failure
    found = next(filter(None, (pattern.search(str(exc)) for pattern in _LACKS)), None)
    if found is None:
        return AgentError("model", f"{path}: {runtime} can't open it: {_short(exc)}")
    advice = "install a newer runtime, or build for a target with this one"
    return AgentError(
        "operator", f"{path}: {runtime} is too old for it, it has no {_needed(found.groupdict())}; {advice}"
    )


def _needed(found: dict[str, str | None]) -> str:
    if "name" not in found:
        return f"ONNX IR version {found['ir']}" if "ir" in found else f"ONNX operator set {found['opset']}"
    return f"operator {found['name']}" + (f" version {found['version']}" if found.get("version") else "")


def _short(exc: BaseException) -> str:
    """The message without the lines that only its developers read."""
    return " ".join(str(exc).split())[:600]
