"""Options and paths of every provider, and where names are looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import DataError, RecipeError
from edgepack.data import PROVIDERS
from edgepack.data.protocol import Provider
from edgepack.data.sections import open_provider, resolve_section
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def test_every_provider_loads_and_describes_itself() -> None:
    for name in PROVIDERS:
        assert PROVIDERS.load(name).__doc__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "npzz"}, r"unknown provider 'npzz' \(did you mean 'npz'\?\)"),
        ({"provider": "npz", "fil": "a"}, r"provider 'npz': unknown option 'fil' \(did you mean 'file'\?\)"),
        ({"provider": "npz"}, "option 'file' is required and missing"),
        ({"provider": "npz", "file": "a", "recipe_folder": "b"}, "unknown option 'recipe_folder'"),
        ({"provider": "npz", "file": 3}, "option 'file': Input should be a valid string, got 3"),
        ({"provider": "npz", "file": "a", "start": True}, "option 'start': Input should be a valid integer"),
        ({"provider": "npz", "file": "a", "step": 0}, "'step' must be at least 1, got 0"),
        ({"provider": "npz", "file": "a", "x": {}}, "must not be an empty table"),
        ({"provider": "digits", "split": "tset"}, "Input should be 'train' or 'test', got 'tset'"),
        ({"provider": "python", "function": "data.py"}, "must look like 'module:function'"),
        (
            {"provider": "python", "function": "a:b", "args": {"x": float("nan")}},
            "'args' must hold text, finite numbers",
        ),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_provider(DataSection(**options), folder=tmp_path, role="train")


def test_an_error_names_the_role(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^data\.train: provider 'npz': option 'file'"):
        open_provider(DataSection(provider="npz"), folder=tmp_path, role="train")


def test_variables_and_home_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)))
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    for text in ("${SOME_DATA}/a.npz", "~/a.npz"):
        assert open_in(Path("/nowhere"), "npz", file=text).files() == (tmp_path / "a.npz",)
    assert open_in(tmp_path, "npz", file="a.npz").files() == (tmp_path / "a.npz",)


def test_an_unset_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_DATA", raising=False)

    with pytest.raises(DataError, match="environment variable 'SOME_DATA' is not set"):
        open_in(tmp_path, "npz", file="${SOME_DATA}/a.npz").files()


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.npz: no such file; check the path"):
        open_in(tmp_path, "npz", file="a.npz").files()
    with pytest.raises(DataError, match="is a folder, a file is needed"):
        open_in(tmp_path, "npz", file=".").files()
    with pytest.raises(DataError, match="images: no such folder"):
        open_in(tmp_path, "image_folder", folder="images").files()


def test_a_name_is_looked_up_in_the_project_first_and_then_among_the_shipped(tmp_path: Path) -> None:
    assert resolve_section("digits", folder=tmp_path).count == 200

    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "digits.toml").write_text('provider = "digits"\nsplit = "train"\ncount = 7\n')

    assert resolve_section("digits", folder=tmp_path).count == 7


def test_names_and_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown calibration file 'digit' \(did you mean 'digits'\?\)"):
        resolve_section("digit", folder=tmp_path)

    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "a.toml").write_text("provider =")
    with pytest.raises(RecipeError, match="not valid TOML"):
        resolve_section("a", folder=tmp_path)

    (tmp_path / "calibration" / "a.toml").write_text('provider = "npz"\ncount = 0')
    with pytest.raises(RecipeError, match=r"calibration/a\.toml: count"):
        resolve_section("a", folder=tmp_path)
