"""Which versions of Python and of the libraries edgepack was tested with, read from its own package data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*([<>=!~0-9.,\s]*)\Z")
_CLAUSE = re.compile(r"(>=|<=|==|<|>)\s*([0-9]+(?:\.[0-9]+)*)\Z")


@dataclass(frozen=True, slots=True)
class VersionRange:
    """'>=2.13,<2.14': every clause must hold. Release numbers only, which is all that pyproject.toml uses.

    >>> VersionRange(">=2.13,<2.14").allows("2.13.0+cpu"), VersionRange(">=2.13,<2.14").allows("2.14")
    (True, False)
    """

    text: str

    def __str__(self) -> str:
        return ",".join(sorted((clause.strip() for clause in self.text.split(",")), reverse=True))

    def allows(self, installed: str) -> bool:
        """Whether a version lies in the range."""
        return all(_holds(clause.strip(), _numbers(installed)) for clause in self.text.split(",") if clause.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A library: the range that was tested, and what is installed (None: nothing)."""

    name: str
    range: VersionRange
    installed: str | None


def supported_python() -> VersionRange:
    """The range of Python versions."""
    return VersionRange(metadata("edgepack")["Requires-Python"] or "")


def supported_tools() -> list[Tool]:
    """Every library that edgepack needs, without those of its extras."""
    found = []
    for requirement in requires("edgepack") or []:
        match = _REQUIREMENT.match(requirement)
        if match is None or ";" in requirement:
            continue
        found.append(Tool(name=match[1], range=VersionRange(match[2].strip()), installed=_installed(match[1])))
    return sorted(found, key=lambda tool: tool.name)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _holds(clause: str, have: tuple[int, ...]) -> bool:
    match = _CLAUSE.match(clause)
    if match is None:
        return True
    want = _numbers(match[2])
    length = max(len(have), len(want))
    left, right = _padded(have, length), _padded(want, length)
    return {">=": left >= right, "<=": left <= right, "==": left == right, "<": left < right, ">": left > right}[
        match[1]
    ]


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(map(int, release[0].split("."))) if release else (0,)
