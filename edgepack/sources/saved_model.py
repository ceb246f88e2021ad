"""A SavedModel: the folder that `model.export` of Keras and `tf.saved_model.save` write."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgepack.core.errors import EnvironmentProblem, SourceError
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.conversion import compare, convert
from edgepack.sources.conversion.saved_model_files import SavedSignature, read_signature
from edgepack.sources.protocol import Abilities, input_spec
from edgepack.sources.signature import model_path, named_inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.core.types import TensorSpec
    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """`file = "folder"` of the recipe: TensorFlow and tf2onnx convert it in a process of their own."""

    abilities: ClassVar[Abilities] = Abilities()
    tools: ClassVar[tuple[str, ...]] = ("tensorflow", "tensorflow-cpu", "tf2onnx", "onnx")

    section: ModelSection
    folder: Path

    def files(self) -> tuple[Path, ...]:
        """All files of the folder. Raises EnvironmentProblem where TensorFlow or tf2onnx is not installed."""
        path = self._path
        missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
        if missing:
            raise EnvironmentProblem(
                f"model.file: {path.name}: a SavedModel is read by the package {missing[0]}, which is not installed; install it: pip install 'edgepack[saved-model]'"
            )
        self._signature()
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))

    def inputs(self) -> tuple[InputSection, ...]:
        """From the folder's own description, without TensorFlow."""
        return named_inputs(self._signature().inputs, self.section.inputs, where=self._where)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Convert it in a process of its own; the network must then compute what TensorFlow does."""
        from edgepack.network.imported import stored

        signature = self._signature()
        sections = named_inputs(signature.inputs, self.section.inputs, where=self._where)
        specs = tuple(input_spec(item) for item in sections)
        folder = scratch / "saved_model"
        folder.mkdir()
        convert(
            "saved_model_to_onnx",
            folder,
            file=str(self._path),
            signature=signature.name,
            tags=signature.tags,
            inputs={found.name: spec.shape[1:] for found, spec in zip(signature.inputs, specs, strict=True)},
            outputs=signature.outputs,
        )
        program = self._program(folder / "model.onnx", specs, scratch)
        model = stored.convert(program, scratch, inputs=specs, outputs=signature.outputs, where=self._where)
        compare(model, folder / "probe.npz", whose="TensorFlow", where=self._where)
        shutil.rmtree(folder)
        return model, ()

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """From what `load` left."""
        from edgepack.network.imported.stored import network_builder

        return network_builder(folder)

    def _program(self, path: Path, inputs: tuple[TensorSpec, ...], scratch: Path) -> torch.export.ExportedProgram:
        from edgepack.core.chatter import chatter_to
        from edgepack.network.from_onnx.graph import check_model, graph_of, read_model
        from edgepack.network.from_onnx.network import program_of

        content = read_model(path)
        check_model(content, self._path)
        with chatter_to(scratch / "convert.log"):
            return program_of(graph_of(content, path), [spec.shape[1:] for spec in inputs], where=self._where)

    def _signature(self) -> SavedSignature:
        return read_signature(self._path, self.section.signature, allow_code=self.section.allow_code)

    @property
    def _path(self) -> Path:
        path = model_path(self.section, self.folder)
        if not path.is_dir():
            raise SourceError(f"model.file: {path} is a file; a SavedModel is the folder that saved_model.pb lies in")
        return path

    @property
    def _where(self) -> str:
        return f"model.file: {self._path.name}"
