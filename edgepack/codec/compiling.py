"""The C sources of the codec and how they become a shared library. Standard library only: the build hook (hatch_build.py) reads this file, too."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "c"
# Beside the package's Python files when a wheel or an editable install was built with a compiler at hand.
BUILT = Path(__file__).resolve().parent / "_native.so"
FLAGS = ("-std=c99", "-O3", "-fPIC", "-shared", "-fvisibility=default", "-DEPK_ENCODER")
_TIMEOUT_S = 300


class CompilerMissing(Exception):
    """No C compiler on this machine; the message names what was looked for."""


class CompilationFailed(Exception):
    """The compiler ran and failed; the message ends with what it said."""


def sources_digest() -> str:
    """SHA-256 (16 hex digits) of every C file and the flags: a library built from other sources is another library."""
    digest = hashlib.sha256("\0".join(FLAGS).encode())
    for file in sorted(SOURCES.glob("*.[ch]")):
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def platform_name() -> str:
    """The operating system and processor that a library compiled here runs on."""
    return sysconfig.get_platform()


def compiler() -> list[str]:
    """The words of the C compiler's command: $CC, else `cc`, `gcc` or `clang`. Raises CompilerMissing."""
    if own := os.environ.get("CC"):
        words = shlex.split(own)
        if words and shutil.which(words[0]):
            return words
        raise CompilerMissing(f"CC is '{own}', which is not there")
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise CompilerMissing("none of cc, gcc and clang is on the PATH, and CC is not set")


def compile_library(target: Path) -> None:
    """Compile the sources to `target`, atomically. Raises CompilerMissing or CompilationFailed."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    stamp = f'-DEPK_SOURCES="{sources_digest()}"'
    command = [*compiler(), *FLAGS, stamp, "-o", str(part), *map(str, sorted(SOURCES.glob("*.c")))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise CompilationFailed(f"{' '.join(command[:1])} failed: {done.stderr.strip()[-800:]}")
        os.replace(part, target)
    except subprocess.TimeoutExpired as exc:
        raise CompilationFailed(f"{command[0]} did not end within {_TIMEOUT_S} s") from exc
    except OSError as exc:
        raise CompilationFailed(f"{command[0]}: {exc}") from exc
    finally:
        part.unlink(missing_ok=True)
