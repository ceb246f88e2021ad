"""What holds for every runtime. (How exactly a session computes is tested in tests/runtimes/.)"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_project import Project

from edgepack.core.errors import RecipeError, StageError
from edgepack.runtimes import RUNTIMES
from edgepack.targets import target_names

each_runtime = pytest.mark.parametrize("name", RUNTIMES.names())


@each_runtime
def test_a_runtime_serves_a_target(name: str) -> None:
    assert any(f'runtime = "{name}"' in file.read_text() for file in target_names().values())


@each_runtime
def test_a_runtime_tells_its_version(name: str, needs_runtime: Callable[[str], None]) -> None:
    needs_runtime(name)

    assert RUNTIMES.load(name)().version().count(".") >= 1


def test_an_unknown_runtime_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"unknown runtime 'litret' \(did you mean 'litert'\?\)"):
        RUNTIMES.load("litret")


@each_runtime
def test_a_runtime_refuses_a_file_that_is_no_model(
    name: str, needs_runtime: Callable[[str], None], tmp_path: Path
) -> None:
    needs_runtime(name)
    (tmp_path / "model").write_bytes(b"no model")

    with pytest.raises(StageError):
        RUNTIMES.load(name)().open(tmp_path / "model")


@each_runtime
def test_a_runtime_gives_the_same_outputs_with_and_without_its_tensors_kept(
    name: str, model_for: Callable[[str], Path], project_files: Project, needs_runtime: Callable[[str], None]
) -> None:
    needs_runtime(name)
    model = model_for(name)
    x = {"image": project_files.data()["x"]}

    plain = RUNTIMES.load(name)().open(model).run_float(x)["output"]
    kept = RUNTIMES.load(name)().open(model, keep_tensors=True).run_float(x)["output"]

    assert plain.shape == kept.shape == (32, 4)
    assert (np.argmax(plain, 1) == np.argmax(kept, 1)).mean() > 0.9
