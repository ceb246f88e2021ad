"""The decoders in C with sanitizers: under libFuzzer (clang), or to replay a corpus (any compiler)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "edgepack/codec/c"
# Name of the target → name of the corpus; the harness is c/fuzz_<what follows 'c-'>.c.
TARGETS = {"c-decode": "codec", "c-unpack": "wire"}
_SANITIZERS = "address,undefined"


def clang() -> str | None:
    """A clang with libFuzzer, or None."""
    names = ["clang", *(f"clang-{version}" for version in range(22, 12, -1))]
    return next((found for name in names if (found := shutil.which(name))), None)


def build(target: str, program: Path, *, fuzzer: bool) -> Path:
    """Compile a harness. Raises CalledProcessError where the compiler has no sanitizers."""
    compiler = clang() if fuzzer else os.environ.get("CC") or shutil.which("cc") or clang()
    assert compiler is not None
    harness = [HERE / "c" / f"fuzz_{target.removeprefix('c-')}.c", *([] if fuzzer else [HERE / "c/replay.c"])]
    decoder = [path for path in sorted(SOURCES.glob("*.c")) if "encode" not in path.name]
    flags = [
        f"-fsanitize={_SANITIZERS}{',fuzzer' if fuzzer else ''}",
        "-fno-sanitize-recover=undefined",
        "-g",
        "-O2" if fuzzer else "-O0",
    ]
    command = [compiler, *flags, f"-I{SOURCES}", *map(str, (*harness, *decoder)), "-o", str(program)]
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return program
