"""An already quantized LiteRT model (.tflite): verified, bundled and benched as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepack.core.errors import EnvironmentProblem, SourceError
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.protocol import Abilities
from edgepack.sources.signature import FileInput, model_path, named_inputs

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model

_REASON = "a .tflite file ships as it is; take [[compress]] out, or start from the float model that it was made from"
_INTEGERS = {"int32", "int64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLite:
    """`file = "model.tflite"` of the recipe.

    An input with a grid takes real values here, as that of a float model: its runtime quantizes them.
    """

    abilities: ClassVar[Abilities] = Abilities(quantizes=False, trains=False, reason=_REASON, finished="tflite")
    tools: ClassVar[tuple[str, ...]] = ()

    section: ModelSection
    folder: Path

    def files(self) -> tuple[Path, ...]:
        """The model."""
        return (model_path(self.section, self.folder),)

    def inputs(self) -> tuple[InputSection, ...]:
        """From the file's signature."""
        path = model_path(self.section, self.folder)
        found = tuple(_inputs(path))
        named = named_inputs(found, self.section.inputs, where=f"model.file: {path.name}")
        for old, new in zip(found, named, strict=True):
            if old.name != new.name:
                raise SourceError(
                    f"model.inputs: '{new.name}' is called '{old.name}' in {path.name}; a finished file keeps its names, so give that one"
                )
        return named

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """There is no network to load. Raises SourceError."""
        raise SourceError(f"model.file: {_REASON}")

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """There is no network to build. Raises SourceError."""
        raise SourceError(f"model.file: {_REASON}")


def _inputs(path: Path) -> Iterator[FileInput]:
    interpreter = _interpreter(path)
    names: dict[int, str] = {}
    for key in interpreter.get_signature_list():
        for name, detail in interpreter.get_signature_runner(key).get_input_details().items():
            names.setdefault(int(detail["index"]), name)
    for detail in interpreter.get_input_details():
        dtype = detail["dtype"].__name__
        yield FileInput(
            name=names.get(int(detail["index"]), str(detail["name"])),
            shape=tuple(int(size) for size in detail["shape"]),
            dtype=dtype if dtype in _INTEGERS else "float32",
        )


def _interpreter(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as exc:
        raise EnvironmentProblem(
            f"LiteRT can't be loaded ({exc}); install it with: pip install ai-edge-litert"
        ) from exc
    try:
        return Interpreter(model_path=str(path), num_threads=1)
    except (ValueError, RuntimeError) as exc:
        raise SourceError(
            f"model.file: {path} is damaged, no LiteRT model, or newer than the LiteRT installed here ({' '.join(str(exc).split())[:300]}); copy it again"
        ) from exc
