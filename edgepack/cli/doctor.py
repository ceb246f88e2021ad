"""`edgepack doctor`: does this machine have what a build needs?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from edgepack.cli.options import json_option
from edgepack.core.errors import EnvironmentProblem

Verdict = Literal["ok", "note", "missing"]
TEST_DATA_VARIABLE = "EDGEPACK_TEST_DATA"
_SPACE_NEEDED_BYTES = 2_000_000_000  # a build's stages, and the compiled extension
_MEMORY_NEEDED_BYTES = 2_000_000_000  # torch, NNCF and the converter in one process
_MARKS: dict[Verdict, str] = {"ok": "[green]✓[/]", "note": "[yellow]![/]", "missing": "[bold red]✗[/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do unless the verdict is 'ok'."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check whether this machine has what a build needs.

    Exit code 9 when something that every build needs is missing.

    \b
    Examples:
      edgepack doctor
      edgepack doctor --json
    """
    from edgepack.cli.terminal import echo_json

    found = list(findings())
    if as_json:
        echo_json({"findings": [asdict(finding) for finding in found]})
    else:
        _show(found)
    if missing := [finding.name for finding in found if finding.verdict == "missing"]:
        raise EnvironmentProblem(f"this machine lacks: {', '.join(missing)}")


def findings() -> Iterator[Finding]:
    """Everything that is looked at, most basic first."""
    yield _system()
    yield from _packages()
    yield from _compiler()
    yield _codec()
    yield _cores()
    yield _memory()
    yield _disk()
    yield _test_data()


def _show(found: list[Finding]) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import plain_table
    from edgepack.cli.terminal import draw

    rows = [(_MARKS[one.verdict], escape(one.name), escape(one.found), escape(one.remedy)) for one in found]
    draw(plain_table("", {"": "left", "what": "left", "found": "left", "what to do": "left"}, rows))


def _system() -> Finding:
    name, machine = os.uname().sysname, os.uname().machine
    verdict: Verdict = "ok" if name == "Linux" else "missing"
    return Finding(
        name="system", verdict=verdict, found=f"{name} {machine}", remedy="" if verdict == "ok" else "use Linux"
    )


def _packages() -> Iterator[Finding]:
    from edgepack.cli.supported import supported_python, supported_tools

    wanted = supported_python()
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        name="Python",
        verdict="ok" if wanted.allows(python) else "missing",
        found=python,
        remedy="" if wanted.allows(python) else f"use Python {wanted}",
    )
    for tool in supported_tools():
        if tool.installed is None:
            yield Finding(
                name=tool.name,
                verdict="missing",
                found="not installed",
                remedy=f"pip install '{tool.name}{tool.range}'",
            )
        elif not tool.range.allows(tool.installed):
            yield Finding(name=tool.name, verdict="note", found=tool.installed, remedy=f"tested with {tool.range}")
        else:
            yield Finding(name=tool.name, verdict="ok", found=tool.installed)


def _compiler() -> Iterator[Finding]:
    from edgepack.network.nncf_extension import NAME, extension_folder

    try:
        built = (extension_folder() / f"{NAME}.so").is_file()
    except ImportError:  # torch or NNCF, named above
        built = False
    compiler = os.environ.get("CXX", "c++")
    path = shutil.which(compiler)
    verdict: Verdict = "ok" if path else "note" if built else "missing"
    yield Finding(
        name="C++ compiler",
        verdict=verdict,
        found=path or f"'{compiler}' not found",
        remedy="" if path else "install one (Debian: apt-get install g++), or point CXX at one",
    )
    yield Finding(
        name="NNCF's quantizers",
        verdict="ok" if built else "note",
        found="compiled" if built else "not compiled yet",
        remedy="" if built else "the first build with `quantize` does it, in about half a minute",
    )


def _codec() -> Finding:
    """`pack`, `unpack` and `delta` code weights with a compiled library; without one unpacking is slow and packing impossible."""
    import warnings

    from edgepack.codec.compiling import BUILT
    from edgepack.codec.library import library

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the finding says it
        compiled = library()
    if compiled is None:
        remedy = "install a C compiler (Debian: apt-get install gcc), or point CC at one; without it only unpacking works, slowly"
        return Finding(name="codec", verdict="note", found="not compiled", remedy=remedy)
    where = "built with the package" if compiled.path == BUILT else f"compiled into {compiled.path.parent}"
    return Finding(name="codec", verdict="ok", found=where)


def _cores() -> Finding:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    return Finding(name="CPU cores", verdict="ok", found=f"{usable} usable of {present}")


def _memory() -> Finding:
    from edgepack.cli.words import size

    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free_bytes = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    except (OSError, StopIteration, ValueError):
        return Finding(name="memory", verdict="note", found="unknown", remedy="a build needs about 2 GB")
    enough = free_bytes >= _MEMORY_NEEDED_BYTES
    return Finding(
        name="memory",
        verdict="ok" if enough else "note",
        found=f"{size(free_bytes)} available",
        remedy="" if enough else "a build needs about 2 GB: close other programs",
    )


def _disk() -> Finding:
    from edgepack.cli.words import size

    free_bytes = shutil.disk_usage(Path.cwd()).free
    enough = free_bytes >= _SPACE_NEEDED_BYTES
    return Finding(
        name="disk, this folder",
        verdict="ok" if enough else "note",
        found=f"{size(free_bytes)} free",
        remedy="" if enough else "free some, or build with --work-dir on another disk",
    )


def _test_data() -> Finding:
    value = os.environ.get(TEST_DATA_VARIABLE)
    if value is None:
        remedy = "only needed by tests and examples with real data"
        return Finding(name=TEST_DATA_VARIABLE, verdict="note", found="not set", remedy=remedy)
    if not Path(value).is_dir():
        return Finding(name=TEST_DATA_VARIABLE, verdict="note", found=f"{value}: no such folder", remedy="correct it")
    return Finding(name=TEST_DATA_VARIABLE, verdict="ok", found=value)
