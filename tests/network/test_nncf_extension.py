"""NNCF's compiled quantizers, really compiled: killed on the way, found locked, or without a compiler that works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.types import Silent
from edgepack.network import nncf_extension

_ENSURE = """
import sys, time
from edgepack.network.nncf_extension import ensure_extension
from edgepack.core.types import Silent
started = time.monotonic()
ensure_extension(Silent())
from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
print("ready", hasattr(QuantizedFunctionsCPU._loaded_namespace, "Quantize_forward"), flush=True)
"""
_LIMIT_S = 420  # a compilation takes 25 to 60 s on an idle machine


def start(cache: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _ENSURE],
        env={**os.environ, "EDGEPACK_CACHE_DIR": str(cache), "TORCH_EXTENSIONS_DIR": str(cache / "torch"), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_compiler(process: subprocess.Popen[str], cache: Path) -> None:
    """Until the compiler works on the sources."""
    deadline = time.monotonic() + 120
    while not any(cache.glob("nncf-extension/.part-*/build.ninja")):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(1.0)
    assert process.poll() is None


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, output
    return output


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def kill_parent_only(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(timeout=30)


@pytest.mark.parametrize(
    "kill",
    [pytest.param(kill, marks=pytest.mark.slow) for kill in (kill_group, kill_parent_only)],
    ids=["group", "parent only"],
)
def test_a_killed_compilation_does_not_hold_up_the_next_one(tmp_path: Path, kill: object) -> None:
    killed = start(tmp_path)
    wait_for_compiler(killed, tmp_path)
    kill(killed)  # type: ignore[operator]
    assert not list(tmp_path.glob("nncf-extension/*/*.so"))
    # What torch's own builder would wait for, for ever, in the place where it would look.
    stale = tmp_path / "torch" / nncf_extension.NAME
    stale.mkdir(parents=True)
    (stale / "lock").touch()

    output = finish(start(tmp_path))

    if kill is kill_parent_only:
        subprocess.run(["sleep", "1"], check=True)
    assert "ready True" in output
    assert len(list(tmp_path.glob("nncf-extension/*/*.so"))) == 1
    assert list(tmp_path.glob("nncf-extension/.part-*")) == []


@pytest.mark.slow
def test_two_processes_compile_once(tmp_path: Path) -> None:
    both = [start(tmp_path), start(tmp_path)]

    outputs = [finish(process) for process in both]

    assert all("ready True" in output for output in outputs)
    assert len(list(tmp_path.glob("nncf-extension/*/*.so"))) == 1


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    process = start(tmp_path, CXX="/bin/false")

    output, _ = process.communicate(timeout=_LIMIT_S)

    assert process.returncode != 0
    assert "EnvironmentProblem: compiling NNCF's quantizers failed; is the C++ compiler whole" in output
    assert list(tmp_path.glob("nncf-extension/.part-*")) == []


def test_a_library_that_is_damaged_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nncf.torch.quantization.extensions import QuantizedFunctionsCPU

    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(QuantizedFunctionsCPU, "_loaded_namespace", None)
    library = nncf_extension.extension_folder() / f"{nncf_extension.NAME}.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"half")

    with pytest.raises(EnvironmentProblem, match=r"can't be loaded .* delete it and build again"):
        nncf_extension.ensure_extension(Silent())


def test_no_compiler_is_needed_once_the_library_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EnvironmentProblem, match="'no-such-compiler' was not found"):
        nncf_extension.check_compiler()
    library = nncf_extension.extension_folder() / f"{nncf_extension.NAME}.so"
    library.parent.mkdir(parents=True)
    library.touch()

    nncf_extension.check_compiler()
