"""A program of `torch.export`, as `torch.export.save` writes it (.pt2)."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import SourceError
from edgepack.core.said import first_line
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.protocol import Abilities, input_spec
from edgepack.sources.signature import FileInput, model_path, named_inputs

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model

# torch/_export/serde/schema.py (torch 2.13): SCHEMA_VERSION, and ScalarType by number.
_SCHEMA = 8
_DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16"}  # fmt: skip
# Sizes are kept as sympy expressions, which sympy evaluates as Python: only these words may be in one.
_EXPRESSION = re.compile(r"[\w\s.,()'=+*/-]*\Z")
_WORDS = re.compile(
    r"Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|FloorDiv|CleanDiv|CeilDiv|Mod|PythonMod|ModularIndexing|floor|ceiling|positive|"
    r"nonnegative|integer|evaluate|True|False|[su]\d+|\d+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchExport:
    """`file = "model.pt2"` of the recipe."""

    abilities: ClassVar[Abilities] = Abilities()
    tools: ClassVar[tuple[str, ...]] = ()

    section: ModelSection
    folder: Path

    def files(self) -> tuple[Path, ...]:
        """The program."""
        return (model_path(self.section, self.folder),)

    def inputs(self) -> tuple[InputSection, ...]:
        """From the program's own description, without torch."""
        return named_inputs(tuple(_inputs(_content(self._path))), self.section.inputs, where=self._where)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Read it, let it take any batch, and run it once."""
        from edgepack.network.imported.stored import convert

        content = _content(self._path)
        inputs = tuple(input_spec(item) for item in self.inputs())
        program = self._program(scratch)
        return convert(program, scratch, inputs=inputs, outputs=_outputs(content), where=self._where), ()

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """From what `load` left."""
        from edgepack.network.imported.stored import network_builder

        return network_builder(folder)

    @property
    def _path(self) -> Path:
        return model_path(self.section, self.folder)

    @property
    def _where(self) -> str:
        return f"model.file: {self._path.name}"

    def _program(self, scratch: Path) -> Any:
        import torch

        _refuse_code(self._path, _content(self._path))
        try:
            with chatter_to(scratch / "convert.log"):
                program = torch.export.load(self._path)
        except Exception as exc:
            raise SourceError(
                f"{self._where}: torch can't read this program ({first_line(exc)}); export it again with torch {torch.__version__.partition('+')[0]}"
            ) from exc
        program._guards_code = []  # Python text from the file, which only a call through the guards would run
        return program


def _content(path: Path) -> dict[str, Any]:
    """The program's description. Raises SourceError for a file that holds none, or one of another version of torch."""
    where = f"model.file: {path.name}"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            models = [name for name in names if re.search(r"(\A|/)models/[^/]+\.json\Z", name)]
            damaged = archive.testzip()
            content: dict[str, Any] = json.loads(archive.read(models[0])) if len(models) == 1 else {}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as exc:
        raise SourceError(
            f"{where}: is truncated or was not written by torch.export.save ({first_line(exc)}); copy it again, or export it again"
        ) from exc
    if damaged is not None:
        raise SourceError(f"{where}: {damaged} in it is damaged; copy it again")
    if not content:
        what = (
            f"{len(models)} programs"
            if models
            else "no program of torch.export: it is truncated, of a torch before 2.8, or something else"
        )
        raise SourceError(
            f"{where}: holds {what}; write one with torch.export.save(torch.export.export(model, …), path)"
        )
    version = content.get("schema_version", {}).get("major")
    if version != _SCHEMA:
        raise SourceError(
            f"{where}: was written by torch {content.get('torch_version', 'of another version')} (schema {version}, this one reads {_SCHEMA}); export it again with the installed torch"
        )
    return content


def _inputs(content: dict[str, Any]) -> Iterator[FileInput]:
    graph = content["graph_module"]
    for spec in graph["signature"]["input_specs"]:
        if "user_input" not in spec:
            continue
        arg = spec["user_input"]["arg"]
        if "as_tensor" not in arg:
            raise SourceError(
                f"model.file: the program takes an input that is no tensor ({next(iter(arg), 'none')}); export it with tensors only"
            )
        name = arg["as_tensor"]["name"]
        about = graph["graph"]["tensor_values"][name]
        yield FileInput(
            name=name,
            shape=tuple(_size(size, content["range_constraints"]) for size in about["sizes"]),
            dtype=_DTYPES.get(about["dtype"], f"type {about['dtype']}"),
        )


def _size(size: dict[str, Any], ranges: dict[str, Any]) -> int | str:
    if "as_int" in size:
        return int(size["as_int"])
    text = str(size["as_expr"]["expr_str"])
    symbol = re.search(r"Symbol\('(\w+)'", text)
    name = symbol[1] if symbol else text
    largest = ranges.get(name, {}).get("max_val")
    return name if largest is None else f"{name} (at most {largest})"


def _outputs(content: dict[str, Any]) -> tuple[str, ...]:
    """The keys of a dict that forward returned; () for anything else."""
    root = next(entry for entry in content["graph_module"]["module_call_graph"] if entry["fqn"] == "")
    spec = json.loads(root["signature"]["out_spec"])[1]
    flat = all(child["type"] is None for child in spec["children_spec"])
    if not str(spec["type"]).endswith("dict") or not flat:
        return ()
    keys = json.loads(spec["context"])
    return tuple(map(str, keys)) if isinstance(keys, list) else ()


def _refuse_code(path: Path, content: dict[str, Any]) -> None:
    """Raise SourceError for a file that would run code of its own when torch reads it: pickled objects, and expressions that are none."""
    import torch

    where = f"model.file: {path.name}"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if re.search(r"/(custom_obj|opaque_obj)_[^/]*\Z", name):
                raise SourceError(
                    f"{where}: holds the object {name}, which could run code; export a model of tensors only"
                )
            if name.endswith("_config.json") and '"use_pickle": true' in archive.read(name).decode(errors="replace"):
                raise SourceError(f"{where}: holds pickled tensors ({name}); export it again from plain CPU tensors")
            if "/sample_inputs/" in name:
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception as exc:
                    raise SourceError(
                        f"{where}: {name} wants to run code when it is loaded, which is refused; export it with plain tensors as example inputs"
                    ) from exc
    for text in _expressions(content):
        if not _EXPRESSION.match(text) or any(not _WORDS.fullmatch(word) for word in re.findall(r"\w+", text)):
            raise SourceError(f"{where}: the size '{text[:80]}' is no plain expression; export it again")


def _expressions(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "expr_str":
                yield str(value)
            else:
                yield from _expressions(value)
    elif isinstance(content, list):
        for value in content:
            yield from _expressions(value)
