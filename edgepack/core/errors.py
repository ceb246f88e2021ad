"""Every way edgepack can fail, each with its exit code.

::

    EdgepackError             1   something went wrong that has no better name here
    ├── UsageError            2   a flag or an argument is wrong (click's own code, too)
    ├── RecipeError           3   edgepack.toml or a target or calibration file is invalid
    ├── SourceError           4   the model can't be loaded: factory, weights, shapes, NaN
    ├── DataError             5   samples are missing, empty, malformed or mislabelled
    ├── UnsupportedError      6   an operator or option that a library or target can't take
    ├── StageError            7   a stage failed inside a library
    ├── CheckFailed           8   the model was built, but a check (fidelity, accuracy, budget) failed
    ├── EnvironmentProblem    9   this machine or a device lacks something: compiler, disk space, a package
    │   └── DeviceLost       11   a device went away while it was used
    ├── BundleError          10   a bundle is damaged or not a bundle
    │   └── SignatureError   13   a bundle's signature is wrong, or nobody who is trusted here signed it
    ├── Inconclusive         12   a gate could not decide: more runs are needed
    └── BudgetNotMet         14   a search ended, and no combination of methods keeps the budget

Interrupted by Ctrl-C: 130, as every shell expects.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

INTERRUPTED_EXIT_CODE = 130


class EdgepackError(Exception):
    """A failure with one clear message: where, what, and what to do."""

    exit_code = 1


class UsageError(EdgepackError):
    exit_code = 2


class RecipeError(EdgepackError):
    exit_code = 3


class SourceError(EdgepackError):
    exit_code = 4


class DataError(EdgepackError):
    exit_code = 5


class UnsupportedError(EdgepackError):
    exit_code = 6


class StageError(EdgepackError):
    exit_code = 7


class CheckFailed(EdgepackError):
    """`parity` is the parity table of the build (JSON) where there is one."""

    exit_code = 8

    def __init__(self, message: str, *, parity: Path | None = None) -> None:
        super().__init__(message)
        self.parity = parity


class EnvironmentProblem(EdgepackError):
    exit_code = 9


class DeviceLost(EnvironmentProblem):
    """The device went away while a command ran: the link broke, it froze, or it rebooted. `stdout` is what had come home."""

    exit_code = 11

    def __init__(self, message: str, *, stdout: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout


class BundleError(EdgepackError):
    exit_code = 10


class SignatureError(BundleError):
    exit_code = 13


class Inconclusive(EdgepackError):
    exit_code = 12


class BudgetNotMet(EdgepackError):
    """The message has the nearest miss."""

    exit_code = 14


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, else the list of all; '' when nothing is known.

    >>> did_you_mean("arm46", ["arm64", "intel"])
    " (did you mean 'arm64'?)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f" (did you mean '{near[0]}'?)"
    return f" (known: {', '.join(names)})" if names else ""
