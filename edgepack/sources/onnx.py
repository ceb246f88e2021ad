"""An ONNX model (.onnx), with its weights inside or in external files beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgepack.core.errors import SourceError
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.protocol import Abilities, input_spec
from edgepack.sources.signature import FileInput, model_path, named_inputs

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnx:
    """`file = "model.onnx"` of the recipe. A plan reads and checks the whole graph; it needs onnx for that, and no torch."""

    abilities: ClassVar[Abilities] = Abilities()
    tools: ClassVar[tuple[str, ...]] = ("onnx",)

    section: ModelSection
    folder: Path

    def files(self) -> tuple[Path, ...]:
        """The model, and the files of its external data."""
        from edgepack.network.from_onnx.graph import check_model, read_model

        path = self._path
        return (path, *check_model(read_model(path), path))

    def inputs(self) -> tuple[InputSection, ...]:
        """From the graph. Raises, too, for what edgepack can't read in it."""
        from edgepack.network.from_onnx.graph import check_model, inputs_of, read_model

        model = read_model(self._path)
        check_model(model, self._path)
        found = [FileInput(name=one.name, shape=one.shape, dtype=one.dtype) for one in inputs_of(model)]
        return named_inputs(found, self.section.inputs, where=self._where)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Convert it, and run it once."""
        from edgepack.core.chatter import chatter_to
        from edgepack.network.from_onnx.graph import graph_of, read_model
        from edgepack.network.from_onnx.network import program_of
        from edgepack.network.imported.stored import convert

        sections = self.inputs()
        graph = graph_of(read_model(self._path), self._path)
        with chatter_to(scratch / "convert.log"):
            program = program_of(graph, [item.shape for item in sections], where=self._where)
        inputs = tuple(input_spec(item) for item in sections)
        return convert(program, scratch, inputs=inputs, outputs=graph.outputs, where=self._where), ()

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """From what `load` left."""
        from edgepack.network.imported.stored import network_builder

        return network_builder(folder)

    @property
    def _path(self) -> Path:
        path = model_path(self.section, self.folder)
        if path.is_dir():
            raise SourceError(f"model.file: {path} is a folder; name the .onnx file in it")
        return path

    @property
    def _where(self) -> str:
        return f"model.file: {self._path.name}"
