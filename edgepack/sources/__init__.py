"""Where a trained model comes from. One file a kind of source, one line here."""

from __future__ import annotations

from pathlib import Path

from edgepack.core.errors import RecipeError, SourceError, did_you_mean
from edgepack.core.paths import expand
from edgepack.core.registry import Registry
from edgepack.recipe import ModelSection
from edgepack.sources.protocol import Source

SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "torch_factory": "edgepack.sources.torch_factory:TorchFactory",
        "keras": "edgepack.sources.keras:KerasFile",
        "onnx": "edgepack.sources.onnx:Onnx",
        "tflite": "edgepack.sources.tflite:TFLite",
        "saved_model": "edgepack.sources.saved_model:SavedModel",
        "torch_export": "edgepack.sources.torch_export:TorchExport",
    },
)
# Which source reads a file, by its suffix; for a folder, by a file in it.
KIND_OF_SUFFIX: dict[str, str] = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".pt2": "torch_export",
    ".keras": "keras",
    ".h5": "keras",  # Keras 2, which the source refuses with what to do
    ".hdf5": "keras",
}
KIND_OF_FOLDER: dict[str, str] = {"saved_model.pb": "saved_model", "saved_model.pbtxt": "saved_model"}


def kind_of(section: ModelSection, folder: Path) -> str:
    """The name of the source that reads a `[model]`. Raises SourceError for a file of an unknown kind, RecipeError for an unknown name."""
    if section.kind is not None:
        try:
            SOURCES.location(section.kind)
        except RecipeError as exc:
            raise RecipeError(f"model.kind: {exc}") from exc
        return section.kind
    if section.file is None:
        return "torch_factory"
    path = expand(section.file, folder=folder, error=SourceError)
    found = next((kind for name, kind in KIND_OF_FOLDER.items() if (path / name).is_file()), None)
    found = found or KIND_OF_SUFFIX.get(path.suffix.lower())
    if found is None and not path.suffix and not path.exists():
        raise SourceError(f"model.file: no file or folder {path}; export the model first, or correct the path")
    if found is None:
        known = ", ".join([*KIND_OF_SUFFIX, *(f"a folder with {name}" for name in KIND_OF_FOLDER)])
        near = did_you_mean(path.suffix, KIND_OF_SUFFIX) if path.suffix else ""
        raise SourceError(
            f"model.file: {section.file} is none of {known}{near if 'did you mean' in near else ''}; export the model to one of these, or say what it is with 'kind'"
        )
    return found


def open_source(section: ModelSection, folder: Path) -> Source:
    """The source of a `[model]`; it has read nothing yet."""
    return SOURCES.load(kind_of(section, folder))(section=section, folder=folder)
