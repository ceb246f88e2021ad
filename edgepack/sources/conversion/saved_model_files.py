"""What a SavedModel folder says about itself, read without TensorFlow: its signatures, its operations, its variables' files.

The file is a protocol buffer; only the few fields that matter here are read (tensorflow/core/protobuf: saved_model.proto, meta_graph.proto;
tensorflow/core/framework: types.proto, tensor_shape.proto, graph.proto, as of TensorFlow 2.21).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.core.errors import SourceError, did_you_mean
from edgepack.sources.signature import FileInput

_DEFAULT = "serving_default"
_SERVED = "serve"
_NO_SIGNATURE = "__saved_model_init_op"
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})\Z")
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 9: "int64", 10: "bool", 14: "bfloat16", 19: "float16", 20: "resource"}  # fmt: skip
# Operations that run Python or touch files when the model runs.
_PROGRAMS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"}
Message = Mapping[int, list[bytes | int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSignature:
    """A function that the folder offers: the tags of its graph, its inputs (by name) and the names of its outputs."""

    name: str
    tags: tuple[str, ...]
    inputs: tuple[FileInput, ...]
    outputs: tuple[str, ...]


def read_signature(folder: Path, wanted: str | None, *, allow_code: bool = False) -> SavedSignature:
    """The signature to convert.

    Raises SourceError for a folder that is damaged or not complete, where it isn't clear which signature is meant, and for operations that
    reach outside the model, unless `allow_code`.
    """
    where = f"model.file: {folder.name}"
    try:
        graphs = [_fields(content) for content in _messages(_fields(_content(folder)), 2)]
        served = [graph for graph in graphs if _SERVED in _tags(graph)] or graphs
        if not served:
            raise SourceError(f"{where}: saved_model.pb in it holds no graph; export the model again")
        found = {signature.name: signature for signature in _signatures(served[0])}
        operations = set(_operations(served[0]))
    except (ValueError, IndexError) as exc:
        raise SourceError(
            f"{where}: saved_model.pb in it is truncated or no SavedModel ({exc}); copy the folder again"
        ) from exc
    if not allow_code and (programs := sorted(operations & _PROGRAMS)):
        raise SourceError(
            f"{where}: its operation {programs[0]} reaches outside the model, to Python or to files, which is never run without asking. "
            "If you trust this model, write allow_code = true in [model]; better, export it without"
        )
    if operations & _VARIABLES:
        _require_variables(folder, where)
    return found[_chosen(list(found), wanted, where)]


def _content(folder: Path) -> bytes:
    if (folder / "saved_model.pbtxt").is_file() and not (folder / "saved_model.pb").is_file():
        raise SourceError(f"model.file: {folder.name}: is a SavedModel in text form; save it in binary form")
    if not (folder / "saved_model.pb").is_file():
        raise SourceError(f"model.file: {folder} is no SavedModel: there is no saved_model.pb in it; correct the path")
    return (folder / "saved_model.pb").read_bytes()


def _chosen(names: list[str], wanted: str | None, where: str) -> str:
    if wanted is not None:
        if wanted not in names:
            raise SourceError(
                f"{where}: has no signature '{wanted}'{did_you_mean(wanted, names)}; correct model.signature"
            )
        return wanted
    if _DEFAULT in names:
        return _DEFAULT
    if len(names) == 1:
        return names[0]
    if not names:
        raise SourceError(
            f"{where}: has no signature, so nothing says what its inputs are; export it with model.export(path), or tf.saved_model.save(model, path, signatures=…)"
        )
    raise SourceError(
        f"{where}: has the signatures {', '.join(sorted(names))} and none is called '{_DEFAULT}'; say which with model.signature"
    )


def _require_variables(folder: Path, where: str) -> None:
    """Raises SourceError for variables whose files are not there."""
    variables = folder / "variables"
    shards = [match for file in variables.glob("*") if (match := _SHARD.match(file.name))] if variables.is_dir() else []
    count = int(shards[0][2]) if shards else 1
    names = ["variables.index", *(f"variables.data-{index:05d}-of-{count:05d}" for index in range(count))]
    missing = [name for name in names if not (variables / name).is_file()]
    if missing:
        raise SourceError(
            f"{where}: its variables are missing: there is no variables/{missing[0]} in it; copy the whole folder"
        )


# --- The few fields of the protocol buffer --------------------------------------------------------------------------


def _tags(graph: Message) -> list[str]:
    return [text for info in _messages(graph, 1) for text in _texts(_fields(info), 4)]


def _signatures(graph: Message) -> Iterator[SavedSignature]:
    tags = tuple(_tags(graph))
    for name, content in _entries(graph, 5):
        signature = _fields(content)
        if name != _NO_SIGNATURE:
            yield SavedSignature(
                name=name,
                tags=tags,
                inputs=tuple(_input(key, _fields(tensor)) for key, tensor in sorted(_entries(signature, 1))),
                outputs=tuple(key for key, _ in sorted(_entries(signature, 2))),
            )


def _input(name: str, tensor: Message) -> FileInput:
    number = next((value for value in tensor.get(2, []) if isinstance(value, int)), 0)
    shape = _fields(next(_messages(tensor, 3), b""))
    if any(shape.get(3, [])):
        raise SourceError(
            f"model.file: input '{name}' of the SavedModel may have any number of dimensions; export it with a fixed one"
        )
    sizes: list[int | str] = []
    for index, content in enumerate(_messages(shape, 2)):
        size = next((value for value in _fields(content).get(1, []) if isinstance(value, int)), 0)
        open_name = "batch" if index == 0 else f"size {index}"
        sizes.append(open_name if size >= 1 << 63 else size)  # −1 as an unsigned number
    return FileInput(name=name, shape=tuple(sizes), dtype=_DTYPES.get(number, f"type {number}"))


def _operations(graph: Message) -> Iterator[str]:
    """Of the graph itself and of all its functions."""
    for content in map(_fields, _messages(graph, 2)):
        functions = [function for library in _messages(content, 2) for function in _messages(_fields(library), 1)]
        nodes = [*_messages(content, 1), *(node for function in functions for node in _messages(_fields(function), 3))]
        for node in nodes:
            yield from _texts(_fields(node), 2)


def _entries(message: Message, number: int) -> list[tuple[str, bytes]]:
    """A map's keys and values."""
    pairs = [_fields(entry) for entry in _messages(message, number)]
    return [(next(iter(_texts(pair, 1)), ""), next(_messages(pair, 2), b"")) for pair in pairs]


def _messages(message: Message, number: int) -> Iterator[bytes]:
    return (value for value in message.get(number, []) if isinstance(value, bytes))


def _texts(message: Message, number: int) -> list[str]:
    return [value.decode("utf-8") for value in _messages(message, number)]


def _fields(content: bytes) -> dict[int, list[bytes | int]]:
    """The fields of a message by number (protobuf.dev/programming-guides/encoding). Raises ValueError or IndexError for what is none."""
    found: dict[int, list[bytes | int]] = {}
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        value: bytes | int
        if kind == 0:
            value, place = _varint(content, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, place = content[place : place + length], place + length
        elif kind == 2:
            length, place = _varint(content, place)
            value, place = content[place : place + length], place + length
        else:
            raise ValueError(f"field type {kind}")
        if place > len(content):
            raise ValueError(f"ends within a field of {length} bytes")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
