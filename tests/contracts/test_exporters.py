"""What holds for every exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import PTQ, Project

from edgepack.core.errors import RecipeError
from edgepack.core.types import Array, Samples, Silent
from edgepack.exporters import EXPORTERS
from edgepack.exporters.protocol import ExportOptions
from edgepack.stages.precision import code_types
from edgepack.targets import target_names

each_exporter = pytest.mark.parametrize("name", EXPORTERS.names())


@pytest.fixture(scope="module")
def compressed(built_project: Callable[[str], Project]) -> Any:
    """A quantized model, and one sample."""
    from edgepack.plan import make_plan
    from edgepack.stages.load import Stored
    from edgepack.stages.samples import samples_of

    project = built_project(PTQ)
    plan = make_plan(project.folder)
    folder = next((project.work / "stages").glob("quantize-*"))
    return Stored(key="", folder=folder).open(plan), samples_of(plan, plan.calibration, first=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an exporter made, and the outputs of the model before and after it did."""

    made: Any
    before: Mapping[str, Array]
    after: Mapping[str, Array]


@pytest.fixture(scope="module")
def exported(compressed: tuple[Any, Samples], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The model exported by an exporter with its default options: once, to read only."""
    from edgepack.network.model import predict

    model, probe = compressed

    @cache
    def export(name: str) -> Exported:
        before = predict(model, probe)
        folder = tmp_path_factory.mktemp(name)
        made = EXPORTERS.load(name)(options=ExportOptions()).export(model, probe, folder, progress=Silent())
        return Exported(made=made, before=before, after=predict(model, probe))

    return export


@each_exporter
def test_an_exporter_serves_a_target(name: str) -> None:
    assert any(f'exporter = "{name}"' in file.read_text() for file in target_names().values())


@each_exporter
def test_an_exporter_is_documented(name: str, documented: Callable[..., bool]) -> None:
    assert documented(name, as_word=True)


def test_an_unknown_exporter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"unknown exporter 'litret' \(did you mean 'litert'\?\)"):
        EXPORTERS.load("litret")


@each_exporter
@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(io_dtype="float32", nhwc_inputs=True)])
def test_an_exporter_writes_the_same_bytes_twice(
    name: str, options: ExportOptions, compressed: tuple[Any, Samples], tmp_path: Path
) -> None:
    made = []
    for folder in (tmp_path / "a", tmp_path / "longer-name-b"):
        folder.mkdir()
        made.append(EXPORTERS.load(name)(options=options).export(*compressed, folder, progress=Silent()))

    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[0].float_path.read_bytes() == made[1].float_path.read_bytes()
    assert made[0].tensors == made[1].tensors


@each_exporter
def test_an_exporter_leaves_the_model_as_it_was(name: str, exported: Callable[[str], Exported]) -> None:
    one = exported(name)

    assert all(np.array_equal(one.before[key], one.after[key]) for key in one.before)


@each_exporter
def test_the_files_of_an_exporter_tell_the_type_of_their_weights(
    name: str, exported: Callable[[str], Exported]
) -> None:
    made = exported(name).made

    assert code_types((made.path, *made.companions)) == {"int8"}
    float_files = (made.float_path, *(made.float_path.with_suffix(one.suffix) for one in made.companions))
    assert code_types(float_files) == set()


@each_exporter
def test_an_exporters_tensors_are_in_the_file(
    name: str, exported: Callable[[str], Exported], compressed: tuple[Any, Samples]
) -> None:
    from edgepack.runtimes import RUNTIME_OF_FORMAT, RUNTIMES

    made = exported(name).made

    session = RUNTIMES.load(RUNTIME_OF_FORMAT[made.format])().open(made.path, keep_tensors=True)
    session.run_float(dict(compressed[1].inputs))
    assert set(made.tensors) <= set(session.tensors())
