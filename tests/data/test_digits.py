"""The digits inside scikit-learn as samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import EnvironmentProblem
from edgepack.data.protocol import Provider, RawSamples
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def load_in(folder: Path, provider: str, /, **options: Any) -> RawSamples:
    return open_in(folder, provider, **options).load()


def test_digits_have_a_fixed_split(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    train, test = (load_in(tmp_path, "digits", split=split) for split in ("train", "test"))

    assert isinstance(train.samples, np.ndarray) and isinstance(test.samples, np.ndarray)
    assert (train.samples.shape, test.samples.shape) == ((1198, 8, 8), (599, 8, 8))
    assert train.samples.dtype == np.uint8 and train.samples.max() == 255
    assert test.labels is not None and test.labels[:3].tolist() == [2, 5, 8]


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    raw = load_in(tmp_path, "digits", split="test")
    expected = datasets.load_digits()

    np.testing.assert_array_equal(raw.samples, np.round(expected.images[2::3] * 255 / 16))
    np.testing.assert_array_equal(raw.labels, expected.target[2::3])


def test_digits_are_read_without_importing_scikit_learn_or_torch() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    code = (
        "import sys; from pathlib import Path\n"
        "from edgepack.data.fingerprint import fingerprint\n"
        "from edgepack.data.samples import load_samples\n"
        "from edgepack.recipe import InputSection\n"
        "fingerprint('digits', folder=Path())\n"
        "steps = [{'op': 'to_float'}, {'op': 'layout', 'to': 'CHW'}]\n"
        "load_samples('digits', steps, folder=Path(), inputs=(InputSection(shape=(1, 8, 8)),), role='train')\n"
        "assert not {'sklearn', 'torch', 'PIL'} & set(sys.modules), sorted(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_scikit_learn_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(EnvironmentProblem, match="pip install scikit-learn"):
        open_in(tmp_path, "digits", split="train").files()
