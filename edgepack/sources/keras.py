"""A Keras 3 model, as `model.save("model.keras")` writes it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.types import TensorSpec
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.conversion import compare, convert
from edgepack.sources.conversion.keras_archive import KerasArchive, read_archive
from edgepack.sources.protocol import Abilities, input_spec
from edgepack.sources.signature import model_path, named_inputs

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasFile:
    """`file = "model.keras"` of the recipe.

    Keras' torch backend runs in a process of its own: whatever backend this process uses stays as it is.
    """

    abilities: ClassVar[Abilities] = Abilities()
    tools: ClassVar[tuple[str, ...]] = ("keras",)

    section: ModelSection
    folder: Path

    def files(self) -> tuple[Path, ...]:
        """The archive. Raises EnvironmentProblem where Keras 3 is not installed."""
        path = model_path(self.section, self.folder)
        _require_keras(path)
        return (path,)

    def inputs(self) -> tuple[InputSection, ...]:
        """From the archive's own description, without Keras. Raises SourceError for layers that bring code, or are not Keras' own."""
        archive = read_archive(model_path(self.section, self.folder))
        archive.refuse_code(allowed=self.section.allow_code)
        return self._inputs(archive)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Trace it in a process of its own; the network must then compute what Keras does."""
        import torch

        from edgepack.network.imported import stored

        path = model_path(self.section, self.folder)
        archive = read_archive(path)
        archive.refuse_code(allowed=self.section.allow_code)
        inputs = {
            found.name: input_spec(item) for found, item in zip(archive.inputs(), self._inputs(archive), strict=True)
        }
        folder = scratch / "keras"
        folder.mkdir()
        convert(
            "keras_to_program",
            folder,
            file=str(path),
            allow_code=self.section.allow_code,
            inputs={name: spec.shape[1:] for name, spec in inputs.items()},
        )
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        program = torch.export.load(folder / "program.pt2")
        specs: tuple[TensorSpec, ...] = tuple(inputs[name] for name in about["inputs"])
        model = stored.convert(program, scratch, inputs=specs, outputs=about["outputs"], where=archive.where)
        compare(model, folder / "probe.npz", whose="Keras", where=archive.where)
        shutil.rmtree(folder)
        return model, ()

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """From what `load` left."""
        from edgepack.network.imported.stored import network_builder

        return network_builder(folder)

    def _inputs(self, archive: KerasArchive) -> tuple[InputSection, ...]:
        """With the layout that the model's image layers say, unless the recipe says another."""
        inputs = named_inputs(archive.inputs(), self.section.inputs, where=archive.where)
        last = archive.is_channels_last()
        said = {item.name for item in self.section.inputs if "layout" in item.model_fields_set}
        return tuple(
            item
            if last is None or len(item.shape) != 3 or item.name in said
            else item.model_copy(update={"layout": "HWC" if last else "CHW"})
            for item in inputs
        )


def _require_keras(path: Path) -> None:
    try:
        found = version("keras") if importlib.util.find_spec("keras") is not None else None
    except PackageNotFoundError:
        found = None
    if found is None or found.partition(".")[0] != "3":
        what = "is not installed" if found is None else f"is installed as version {found}"
        raise EnvironmentProblem(
            f"model.file: {path.name} is read by the package keras, version 3, which {what}; install it: pip install 'edgepack[keras]'"
        )
