"""The Python kit: a package that is built, installed and asked like any other."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from app_bundles import app_bundle, raw_images
from kit_answers import edgepacks_own_answer
from PIL import Image

from edgepack.appkit.make import make_appkit
from edgepack.bundle import read_bundle
from edgepack.signing.bundles import sign_bundle
from edgepack.signing.keys import PrivateKey

FORMATS = ("tflite", "onnx", "openvino")


def run(*command: object, cwd: Path, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        [str(one) for one in command], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def kit_of(folder: Path, format_name: str, **options: Any) -> Path:
    """The Python package of a small bundle, written out."""
    bundle = read_bundle(app_bundle(folder / "bundle", format_name))
    make_appkit(bundle, "python", folder / "kit", **options)
    return folder / "kit"


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_package_passes_its_own_golden_test(format_name: str, tmp_path: Path) -> None:
    kit = kit_of(tmp_path, format_name)

    told = run(sys.executable, "-W", "error", "-m", "unittest", "discover", "tests", cwd=kit, PYTHONPATH="src")

    assert "sample 2, output 0: at most 0 steps of 1" in told
    assert "Ran 3 tests" in told


def test_a_wheel_is_installed_and_sees_what_edgepack_sees(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "onnx")
    image = tmp_path / "bird.png"
    Image.fromarray(raw_images()[1]).save(image)

    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path / "dist", kit]
    run(sys.executable, "-m", "pip", *build, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh", cwd=tmp_path)
    python = tmp_path / "fresh" / "bin" / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path
    )
    (purelib / "of-the-tests.pth").write_text(
        "\n".join(site.getsitepackages())
    )  # NumPy, Pillow and the runtime, not downloaded
    told = run(python, "-m", "wading_birds", "-k", "3", "--json", image, cwd=tmp_path, PYTHONPATH="")

    assert wheel.name == "wading_birds-1.2.0-py3-none-any.whl"
    expected = edgepacks_own_answer(tmp_path / "bundle" / "birds.edgepack", image)
    assert [(one["label"], one["score"]) for one in json.loads(told)["answer"]] == [
        (label, score) for _, label, score in expected
    ]
    assert (
        run(
            python,
            "-c",
            f"import wading_birds; label, score = wading_birds.predict({str(image)!r}); print(label)",
            cwd=tmp_path,
            PYTHONPATH="",
        ).strip()
        == expected[0][1]
    )


def test_a_changed_model_is_not_loaded(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "onnx")
    model = kit / "src/wading_birds/data/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")

    told = run(sys.executable, "-m", "wading_birds", "x.png", cwd=kit, code=1, PYTHONPATH="src")

    assert told.startswith("model.onnx has SHA-256 ")


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256"])
def test_a_trusted_signature_is_demanded_at_load(algorithm: Any, tmp_path: Path) -> None:
    key, other = PrivateKey.generate(algorithm), PrivateKey.generate()
    path = app_bundle(tmp_path / "bundle", "onnx")
    signed = sign_bundle(path, [key, other], tmp_path / "signed.edgepack")
    kit = tmp_path / "kit"
    make_appkit(read_bundle(signed), "python", kit, trusted_keys=[key.public])
    load = [sys.executable, "-c", "import wading_birds; wading_birds.WadingBirds(); print('loaded')"]

    assert run(*load, cwd=kit, PYTHONPATH="src").strip() == "loaded"

    manifest = kit / "src/wading_birds/data/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"Apache-2.0", b"Apache-2.1"))
    assert f"not signed by {key.key_id}" in run(*load, cwd=kit, code=1, PYTHONPATH="src")


def test_the_package_is_typed_and_tidy(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, "tflite")
    path = app_bundle(tmp_path / "bundle", "onnx")
    signed = sign_bundle(path, [key := PrivateKey.generate()], tmp_path / "signed.edgepack")
    make_appkit(read_bundle(signed), "python", tmp_path / "signed", trusted_keys=[key.public])

    for folder in (kit, tmp_path / "signed"):
        run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "src", cwd=folder)
        rules = ["--isolated", "--select", "E,F,W,B,C4,UP,RET", "--line-length", "160", "--target-version", "py310"]
        run(sys.executable, "-m", "ruff", "check", *rules, "src", "tests", cwd=folder)
