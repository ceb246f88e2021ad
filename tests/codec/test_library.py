"""The compiled codec is found, compiled when it isn't there, and done without when it can't be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.codec.compiling import CompilerMissing, compile_library, compiler, sources_digest
from edgepack.codec.library import Library

REPOSITORY = Path(__file__).resolve().parents[2]
ROUND_TRIP = """
from edgepack.codec import Segment
from edgepack.codec.coders import decode, encode
from edgepack.codec.types import Coded
data = bytes(range(64))
coded = encode(data, Segment(size_bytes=64, kind="i8", shape=(8, 8), channel_axis=0), profile="small")
assert decode(coded, Segment(size_bytes=64, kind="i8")) == data
print("ok")
"""
DECODE = """
from edgepack.codec import Coded, Segment
from edgepack.codec.coders import decode, encode
print(decode(Coded(coder=0, params=b"", payload=b"abc"), Segment(size_bytes=3)))
encode(b"abc", Segment(size_bytes=3), profile="small")
"""


def python(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, without the library that the package may have been built with."""
    without = "import edgepack.codec.compiling as c, pathlib; c.BUILT = pathlib.Path('nowhere.so')\n"
    own = {**os.environ, "PYTHONPATH": str(REPOSITORY), "EDGEPACK_CACHE_DIR": str(cache), **environment}
    return subprocess.run(
        [sys.executable, "-c", without + code], capture_output=True, text=True, env=own, timeout=300, check=False
    )


def test_the_first_use_compiles_into_the_cache_and_the_second_finds_it(tmp_path: Path) -> None:
    first = python(ROUND_TRIP, tmp_path)
    (made,) = (tmp_path / "codec").glob("*.so")
    stamp = made.stat().st_mtime_ns
    second = python(ROUND_TRIP, tmp_path)

    assert (first.stdout, second.stdout) == ("ok\n", "ok\n"), first.stderr + second.stderr
    assert made.stat().st_mtime_ns == stamp
    assert made.name.startswith(sources_digest())
    assert Library(made).sources == sources_digest()


def test_without_a_compiler_the_reference_decodes_with_a_warning_and_packing_says_what_is_missing(
    tmp_path: Path,
) -> None:
    done = python(DECODE, tmp_path, CC="no-such-compiler")

    assert done.stdout == "b'abc'\n"
    assert "edgepack's codec is not compiled (CC is 'no-such-compiler', which is not there)" in done.stderr
    assert "EnvironmentProblem: packing needs the compiled codec: install a C compiler" in done.stderr


def test_a_killed_compilation_leaves_no_lock_and_no_half_library(tmp_path: Path) -> None:
    slow = tmp_path / "slow-cc"
    slow.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
    slow.chmod(0o755)
    own = {**os.environ, "PYTHONPATH": str(REPOSITORY), "EDGEPACK_CACHE_DIR": str(tmp_path), "CC": str(slow)}
    code = "import edgepack.codec.compiling as c, pathlib; c.BUILT = pathlib.Path('nowhere.so')\n" + ROUND_TRIP
    victim = subprocess.Popen([sys.executable, "-c", code], env=own, start_new_session=True)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "codec").glob("*.lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait(timeout=10)

    assert not list((tmp_path / "codec").glob("*.so"))
    assert python(ROUND_TRIP, tmp_path).stdout == "ok\n"


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CompilerMissing, match="none of cc, gcc and clang is on the PATH"):
        compiler()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_library_tells_the_sources_that_it_was_compiled_from(tmp_path: Path) -> None:
    compile_library(tmp_path / "codec.so")

    assert Library(tmp_path / "codec.so").sources == sources_digest()
    assert [file.name for file in tmp_path.iterdir()] == ["codec.so"]
