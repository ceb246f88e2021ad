"""A model file as operators and tensors, whatever its format: enough to tell which weights belong to which operator and what it multiplies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgepack.codec.segments import FINDERS, Beside
from edgepack.codec.segments.tile import Found, is_plausible
from edgepack.core.errors import BundleError
from edgepack.core.registry import Registry

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator. `kind` is the format's own word in lower case without underscores ('conv2d', 'groupconvolution', 'gemm')."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant tensor of a file: where its bytes lie, of what kind and shape they are. Of kind `bytes` are int64 numbers, which the codec has no kind for."""

    file: str
    found: Found

    @property
    def place(self) -> tuple[str, int]:
        """File and offset: constants that share their bytes are one."""
        return self.file, self.found.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Operators in the file's order, which is an order of execution; shapes by tensor (unknown ones are left out); constants by tensor."""

    nodes: tuple[Node, ...]
    inputs: frozenset[str]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Constant]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What a reader finds in a file; `inputs` are the tensors that the caller gives, `constants` those of the same file that the codec's finders leave out."""

    nodes: tuple[Node, ...]
    inputs: frozenset[str]
    shapes: Mapping[str, Shape]
    constants: tuple[Found, ...] = ()


# By the suffix of the file that a bundle's manifest names.
READERS: Registry[Callable[[bytes], Wiring]] = Registry(
    "graph_reader",
    {
        "onnx": "edgepack.explain.from_onnx:read",
        "tflite": "edgepack.explain.from_tflite:read",
        "xml": "edgepack.explain.from_openvino:read",
    },
)


def graph_of(main: str, files: Mapping[str, bytes]) -> Graph:
    """The graph of a model; `files` are its bytes by their names in one folder, `main` the one that describes it.

    Raises BundleError for a format without a reader, and for a file that its reader can't make sense of.
    """
    suffix = PurePosixPath(main).suffix.removeprefix(".").lower()
    if suffix not in READERS:
        raise BundleError(f"{main}: no model file that explain reads; it reads .tflite, .onnx and OpenVINO's .xml")
    try:
        wiring = READERS.load(suffix)(files[main])
    except ValueError as exc:
        raise BundleError(f"{main}: can't be read as a model: {exc}") from exc
    constants: dict[str, Constant] = {}
    for name, data in files.items():
        for found in _constants(name, data, files.get):
            constants.setdefault(found.name, Constant(file=name, found=found))
    for found in wiring.constants:
        if 0 < found.offset <= len(files[main]) - found.size_bytes:
            constants.setdefault(found.name, Constant(file=main, found=found))
    return Graph(nodes=wiring.nodes, inputs=wiring.inputs, shapes=wiring.shapes, constants=constants, files=files)


def _constants(name: str, data: bytes, beside: Beside) -> list[Found]:
    suffix = PurePosixPath(name).suffix.removeprefix(".").lower()
    if suffix not in FINDERS:
        return []
    found = FINDERS.load(suffix)(data, name, beside)
    return [one for one in found if is_plausible(one) and 0 <= one.offset <= len(data) - one.size_bytes]
