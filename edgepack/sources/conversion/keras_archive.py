"""What a `.keras` archive says about itself, read without Keras: nothing in it can run."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.errors import SourceError
from edgepack.sources.signature import FileInput

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
# Layers whose configuration is a program: Python bytecode, a pickled torch module, a SavedModel, serialized JAX code.
_PROGRAMS = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")
_MODULES = re.compile(r"(keras|builtins)(\.[\w.]+)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasArchive:
    """The description of the model; `where` names the file in messages."""

    config: Mapping[str, Any]
    where: str

    def inputs(self) -> tuple[FileInput, ...]:
        """The inputs in the order in which Keras takes them. Raises SourceError for a model that declares none."""
        layers = {str(_name(layer)): layer for layer in self._layers if layer.get("class_name") == "InputLayer"}
        declared = self.config["config"].get("input_layers")
        names = list(layers) if declared is None else _input_names(declared)
        if not names or any(name not in layers for name in names):
            kind = self.config.get("class_name", "model")
            raise SourceError(
                f"{self.where}: a {kind} model that doesn't declare its inputs; make it a Functional or Sequential model that begins with keras.Input, and save it again"
            )
        return tuple(self._input(layers[name]) for name in names)

    def refuse_code(self, *, allowed: bool) -> None:
        """Raise SourceError for a layer that brings its own program, unless that is `allowed`, and for one that is not Keras' own."""
        for part, layer in _parts(self.config, ""):
            kind, package = part.get("class_name"), str(part.get("registered_name") or "")
            if kind in _PROGRAMS:
                if not allowed:
                    raise SourceError(
                        f"{self.where}: layer '{layer}' ({kind.strip('_')}) brings code of its own, which is never run without asking. If you trust this file, "
                        "write allow_code = true in [model]; better, use layers of Keras, or keras.ops, instead, and save the model again"
                    )
                continue
            module = part.get("module")
            called = part.get("config") if kind == "function" else package
            if (isinstance(called, str) and ">" in called) or ("module" in part and not _MODULES.match(str(module))):
                what = called if isinstance(called, str) and called else kind
                raise SourceError(
                    f"{self.where}: layer '{layer}' uses '{what}', which is no part of Keras, and its code is not in the file; "
                    "use layers of Keras instead, or rewrite the network as a torch module and give it as model.factory"
                )

    @property
    def _layers(self) -> Sequence[Mapping[str, Any]]:
        config = self.config.get("config")
        found = config.get("layers") if isinstance(config, dict) else None
        return [layer for layer in found if isinstance(layer, dict)] if isinstance(found, list) else []

    def _input(self, layer: Mapping[str, Any]) -> FileInput:
        about = layer["config"]
        if about.get("sparse") or about.get("ragged"):
            raise SourceError(
                f"{self.where}: input '{_name(layer)}' is sparse or ragged; make it a dense one of a fixed size"
            )
        shape = about.get("batch_shape") or about.get("batch_input_shape") or ()
        sizes = [size if isinstance(size, int) else f"size {index}" for index, size in enumerate(shape)]
        return FileInput(
            name=str(_name(layer)),
            shape=tuple("batch" if index == 0 and isinstance(size, str) else size for index, size in enumerate(sizes)),
            dtype=str(about.get("dtype") or "float32"),
        )

    def is_channels_last(self) -> bool | None:
        """Which order of dimensions the image layers want; None where there are none, or some of both."""
        formats = {part["data_format"] for part in _settings(self.config) if isinstance(part.get("data_format"), str)}
        return formats == {"channels_last"} if len(formats) == 1 else None


def read_archive(path: Path) -> KerasArchive:
    """The description of a `.keras` file. Raises SourceError for a file that is damaged or of another version of Keras."""
    where = f"model.file: {path.name}"
    if path.is_dir():
        raise SourceError(f"{where}: is a folder; save the model with model.save('model.keras')")
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            raise SourceError(
                f"{where}: is an HDF5 file, the format of Keras 2; load it with keras.models.load_model and save it again with model.save('model.keras')"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _MEMBERS if name not in archive.namelist()]
            damaged = archive.testzip()
            metadata, config = (
                {} if name in missing else json.loads(archive.read(name)) for name in ("metadata.json", "config.json")
            )
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as exc:
        raise SourceError(f"{where}: is truncated or no file of Keras 3 ({exc}); save the model again") from exc
    if missing or damaged is not None:
        what = f"{missing[0]} is missing in it" if missing else f"{damaged} in it is damaged"
        raise SourceError(
            f"{where}: {what}; copy the file again, or save the model again with model.save('model.keras')"
        )
    version = str(metadata.get("keras_version"))
    if version.partition(".")[0] != "3":
        raise SourceError(
            f"{where}: was saved by Keras {version}; load it in that version's environment, and save it again with Keras 3"
        )
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise SourceError(f"{where}: config.json in it describes no model; save the model again")
    return KerasArchive(config=config, where=where)


def _input_names(declared: Any) -> list[str]:
    """Of ["image", 0, 0], [["image", 0, 0], …] or {"a": ["image", 0, 0], …}; dictionaries by their sorted keys, as Keras does."""
    if isinstance(declared, dict):
        return [name for key in sorted(declared) for name in _input_names(declared[key])]
    if isinstance(declared, list) and declared and isinstance(declared[0], str):
        return [declared[0]]
    return [name for item in declared for name in _input_names(item)] if isinstance(declared, list) else []


def _name(part: Mapping[str, Any]) -> Any:
    config = part.get("config")
    return part.get("name") or (config.get("name") if isinstance(config, dict) else None)


def _parts(value: Any, layer: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every serialized object, and the layer that it belongs to."""
    if isinstance(value, dict):
        if "class_name" in value:
            layer = str(_name(value) or layer or value["class_name"])
            yield value, layer
        for inner in value.values():
            yield from _parts(inner, layer)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner, layer)


def _settings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _settings(inner)
