"""What one call of the command line knows about itself, from the entry point to the command."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

DEBUG_VARIABLE = "EDGEPACK_DEBUG"


def _debug_is_set() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


@dataclass(slots=True, kw_only=True)
class Invocation:
    """Set by the entry point and by options, and read when a command fails.

    `supervised`: a long command may run in a child process that a parent watches; only the console script says so.
    `is_child`: this is that child, and the parent tells about an interrupt. `keeps_stages`: an interrupted command goes on
    where it was when run again.
    """

    debug: bool = field(default_factory=_debug_is_set)
    supervised: bool = False
    is_child: bool = False
    keeps_stages: bool = False
