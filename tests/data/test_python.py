"""The user's own function as samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import DataError
from edgepack.data.protocol import Provider, RawSamples
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def load_in(folder: Path, provider: str, /, **options: Any) -> RawSamples:
    return open_in(folder, provider, **options).load()


def _write_module(folder: Path, body: str, name: str = "data.py") -> None:
    (folder / name).write_text(f"import numpy as np\n{body}\n")


def test_python_calls_the_function_beside_the_recipe(tmp_path: Path) -> None:
    _write_module(tmp_path, "WIDTH = 3", name="neighbour_of_data.py")
    _write_module(
        tmp_path,
        "from neighbour_of_data import WIDTH\ndef samples(rows):\n    return np.zeros((rows, WIDTH)), list(range(rows))",
    )
    (tmp_path / "table.csv").write_text("1,2")
    provider = open_in(tmp_path, "python", function="data:samples", args={"rows": 4}, depends=["table.csv"])

    raw = provider.load()

    assert isinstance(raw.samples, np.ndarray) and raw.samples.shape == (4, 3)
    assert raw.labels is not None and raw.labels.tolist() == [0, 1, 2, 3]
    assert provider.files() == (tmp_path / "data.py", tmp_path / "table.csv")
    assert str(tmp_path) not in sys.path


def test_python_keeps_two_projects_modules_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _write_module(tmp_path / name, f"def samples():\n    return ['{name}'.encode()], None")

    assert [load_in(tmp_path / name, "python", function="data:samples").samples for name in ("one", "two")] == [
        [b"one"],
        [b"two"],
    ]


def test_python_finds_an_importable_module(tmp_path: Path) -> None:
    files = open_in(tmp_path, "python", function="json.decoder:JSONDecoder").files()

    assert files[0].name == "decoder.py"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def sample(): pass", r"no function 'samples' in it \(did you mean 'sample'\?\)"),
        ("def samples(): return 3", r"must return \(samples, labels\), got int"),
        ("def samples(): return 'abc', None", "must return the samples as an array, a list or a dict, got str"),
        ("def samples(): raise KeyError('k')", "data:samples raised KeyError: 'k'"),
        ("def samples(rows): pass", "data:samples raised TypeError"),
        ("def samples(:", "data:samples raised SyntaxError"),
    ],
)
def test_python_functions_that_are_wrong_are_refused(tmp_path: Path, body: str, message: str) -> None:
    _write_module(tmp_path, body)

    with pytest.raises(DataError, match=message):
        load_in(tmp_path, "python", function="data:samples")


def test_python_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no nowhere\.py here and no importable module 'nowhere'"):
        open_in(tmp_path, "python", function="nowhere:samples").files()

    _write_module(tmp_path, "def samples(): pass")
    with pytest.raises(DataError, match=r"table\.csv: no such file"):
        open_in(tmp_path, "python", function="data:samples", depends=["table.csv"]).files()
