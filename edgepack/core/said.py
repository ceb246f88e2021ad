"""What a library says when it fails, short enough to stand in a message of ours."""

from __future__ import annotations

_LINE_MAX, _LINES_MAX = 300, 1500


def first_line(exc: BaseException) -> str:
    """The first line that says anything, at most 300 characters; the exception's name where none does."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)[:_LINE_MAX]


def every_line(exc: BaseException) -> str:
    """All lines but blank ones, at most 1500 characters; the exception's name where there are none."""
    return "\n".join(line for line in str(exc).splitlines() if line.strip())[:_LINES_MAX] or type(exc).__name__
