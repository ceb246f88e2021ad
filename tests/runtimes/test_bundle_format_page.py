"""The example in docs/bundle-format.md runs as it stands, on a real bundle, without edgepack."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgepack.bundle import read_bundle, write_bundle
from edgepack.bundle.golden import check_golden, from_npy, read_golden, to_npy
from edgepack.bundle.manifest import Manifest, Tensor, Variant
from edgepack.runtimes.litert import LiteRT, artifact_of

PAGE = Path(__file__).parents[2] / "docs" / "bundle-format.md"


def real_bundle(models, path: Path) -> Path:
    artifact = artifact_of(models.int8)
    session = LiteRT().open(models.int8)
    codes = np.arange(2 * 64, dtype=np.int8).reshape(2, 1, 8, 8)
    manifest = Manifest(
        name="small",
        version="1.0.0",
        variants=[
            {
                "target": "arm64",
                "model": {
                    "path": "model/model.tflite",
                    "format": artifact.format,
                    "sha256": artifact.sha256,
                    "size_bytes": artifact.size_bytes,
                    "precision": "int8",
                },
                "inputs": [Tensor.of(signature) for signature in artifact.inputs],
                "outputs": [Tensor.of(signature) for signature in artifact.outputs],
                "checks_passed": True,
                "golden": {
                    "inputs": ["golden/in.npy"],
                    "outputs": ["golden/out.npy"],
                    "samples": 2,
                    "tolerance_steps": 1.0,
                },
            }
        ],
    )
    outputs = session.run({"args_0": codes})["output_0"]
    files = {"model/model.tflite": models.int8, "golden/in.npy": to_npy(codes), "golden/out.npy": to_npy(outputs)}
    return write_bundle(path / manifest.file_name, manifest=manifest, files=files)


def test_the_example_prints_the_golden_output(models, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = real_bundle(models, tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", example, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=tmp_path,
    )

    expected = from_npy(read_bundle(path).read("golden/out.npy"))
    assert done.stdout.strip() == str([expected[:1]])
    assert "edgepack" not in example


def test_a_model_from_a_bundle_keeps_the_golden_samples(models, tmp_path: Path) -> None:
    bundle = read_bundle(real_bundle(models, tmp_path))
    bundle.verify()
    session = LiteRT().open(bundle.model_path(tmp_path / "cache"))

    results = check_golden(bundle, session.run(read_golden(bundle).inputs))

    assert [result.passed for result in results] == [True]


def test_the_page_names_every_key_of_the_manifest() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [key for key in (*Manifest.model_fields, *Variant.model_fields) if f"`{key}`" not in page] == []
