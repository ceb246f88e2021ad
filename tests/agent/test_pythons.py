"""The agent in other Pythons, where this machine has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgepack.agent.bench.errors import EXIT_CODES
from edgepack.devices.agent import agent_file

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def python(version: str) -> str:
    """An interpreter of that version: on the PATH, or one of pyenv's. Skips the test where there is none."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    pyenv = [file for root in roots for file in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    found = next(iter(pyenv), None) or shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"no Python {version} on the PATH and none of pyenv's")
    return str(found)


def run(interpreter: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [interpreter, "-I", "-W", "error", str(agent_file()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_is_understood_and_a_probe_answers(version: str, tmp_path: Path) -> None:
    interpreter = python(version)
    compiles = (
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); [compile(z.read(n), n, 'exec') for n in z.namelist()]"
    )

    subprocess.run([interpreter, "-I", "-W", "error", "-c", compiles, str(agent_file())], check=True, timeout=60)
    answer = json.loads(run(interpreter, "--probe", folder=tmp_path).stdout)

    assert answer["environment"]["python"].startswith(version + ".")
    assert all("version" in told or "install" in told["missing"] for told in answer["runtimes"].values()), answer


@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_without_numpy_or_runtime_says_what_to_install(version: str, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"model": "m.onnx", "runtime": "onnxruntime"}))

    done = run(python(version), "spec.json", folder=tmp_path)

    event = json.loads(done.stdout)
    assert done.returncode == EXIT_CODES[event["kind"]]
    assert event["kind"] in ("python", "runtime", "model")
    assert event["kind"] == "model" or "install" in event["message"]


def test_a_python_that_is_too_old_says_so(tmp_path: Path) -> None:
    done = run(python("3.8"), "spec.json", folder=tmp_path)

    assert done.returncode == EXIT_CODES["python"]
    assert "needs Python 3.9 or newer, this is 3.8" in json.loads(done.stdout)["message"]
