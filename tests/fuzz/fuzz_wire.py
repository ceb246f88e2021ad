"""Fuzz targets: wire files and deltas, which may be refused or give the very file that their SHA-256 names; and files that are packed, which must come back.

An input of `wire` is the number of bytes of the base (two bytes; 0: none), the base, and the wire file. The C harness (`c/fuzz_unpack.c`) reads the same. An input of
`pack` is a kind of file and its bytes.
"""

from __future__ import annotations

import ctypes
import hashlib
import random
from collections.abc import Callable, Mapping

import model_files
import numpy as np
from fuzz_bundle import mutate_npy
from fuzz_bundle import seeds as bundle_seeds

from edgepack.codec.coders import encode
from edgepack.codec.library import library
from edgepack.codec.types import Segment
from edgepack.codec.wire import open_wire, read_header, write_wire
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire
from edgepack.core.errors import BundleError

OUTPUT_BYTES_MAX = 1 << 20  # larger ones are not tried: the fuzzer would only wait for memory
SUFFIXES = (".bin", ".edgepack", ".tflite", ".onnx", ".safetensors", ".npy", ".xml")
_WRONG_DIGEST = -12
_WORK = ctypes.create_string_buffer(32 << 20)
Mutate = Callable[[bytes, int], bytes]


def split(data: bytes) -> tuple[bytes | None, bytes]:
    """The base and the wire file of an input."""
    size_bytes = int.from_bytes(data[:2], "little")
    return data[2:][:size_bytes] or None, data[2:][size_bytes:]


def joined(base: bytes | None, wire: bytes) -> bytes:
    return len(base or b"").to_bytes(2, "little") + (base or b"") + wire


def wire(data: bytes) -> None:
    """What comes out has the SHA-256 of the header; the decoders in Python and in C take and refuse the same files, and give the same bytes.

    A digest that doesn't fit is set right, or a changed file would always be refused in the end.
    """
    base, packed = split(data)
    try:
        header = read_header(packed)
    except BundleError:
        assert by_c(packed, base)[0] != 0
        return
    if header.output_bytes > OUTPUT_BYTES_MAX:
        return
    answer, out = by_c(packed, base)
    if answer == _WRONG_DIGEST:
        packed = packed.replace(header.output_sha256, hashlib.sha256(out).digest(), 1)
        answer, out = by_c(packed, base)
    try:
        found = unpack_wire(packed, base=base)
    except BundleError as exc:
        assert answer != 0, f"C takes what Python refuses: {exc}"
        return
    assert answer == 0, f"Python takes what C refuses: {answer}"
    assert found == out
    assert hashlib.sha256(found).digest() == read_header(packed).output_sha256


def by_c(packed: bytes, base: bytes | None) -> tuple[int, bytes]:
    """The answer and the output of the decoder in C; a negative answer, too, where the output would be large."""
    compiled = library()
    assert compiled is not None
    functions, size = compiled.functions, ctypes.c_size_t
    functions.epk_output_size.restype = ctypes.c_int64
    output_bytes = int(functions.epk_output_size(packed, size(len(packed))))
    if not 0 <= output_bytes <= OUTPUT_BYTES_MAX:
        return min(output_bytes, -1), b""
    out = ctypes.create_string_buffer(output_bytes + 1)
    answer = functions.epk_unpack_in(
        packed, size(len(packed)), base, size(len(base or b"")), out, size(output_bytes), _WORK, size(len(_WORK))
    )
    return int(answer), out.raw[:output_bytes]


def pack(data: bytes) -> None:
    """Any bytes, whatever they say they are, come back bit by bit."""
    if not data:
        return
    name = f"m{SUFFIXES[data[0] % len(SUFFIXES)]}"
    packed = pack_wire(data[1:], name, profile="fast" if data[0] & 128 else "small")
    assert unpack_wire(packed.wire) == data[1:]


def mutate_wire(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """Half of the time the table of operations is changed and coded anew, so that the fuzzer gets past its coder."""
    generator = random.Random(seed)
    base, packed = split(data)
    if generator.random() < 0.5:
        return mutate(data, size_max)
    try:
        opened = open_wire(packed)
        table, payloads = bytes(opened.table), bytes(opened.payloads)
        if generator.random() < 0.7:
            table = mutate(table, size_max)
        else:
            payloads = mutate(payloads or b"x", size_max)
        coded = encode(table, Segment(size_bytes=len(table)), profile="fast")
        return joined(base, write_wire(opened.header, table, coded, [payloads]))[:size_max]
    except (BundleError, ValueError):
        return mutate(data, size_max)


def mutate_file(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """A file of another kind now and then, and .npy files with other headers."""
    generator = random.Random(seed)
    if generator.random() < 0.1:
        return bytes([generator.randrange(256)]) + data[1:]
    if data and SUFFIXES[data[0] % len(SUFFIXES)] == ".npy":
        return data[:1] + mutate_npy(data[1:] or b"x", size_max - 1, seed, mutate)
    return mutate(data, size_max)


def seeds() -> dict[str, dict[str, bytes]]:
    """Every kind of file, packed alone and against an older one."""
    files = _files()
    wires, packs = {}, {}
    for name, data in files.items():
        suffix = f".{name.rpartition('.')[2]}"
        older = bytes(data[: len(data) // 2]) + b"\1" + bytes(data[len(data) // 2 + 1 :])
        wires[name] = joined(None, pack_wire(data, name).wire)
        wires[f"{name}-delta"] = joined(older, pack_wire(data, name, base=older, base_name=name).wire)
        packs[name] = bytes([SUFFIXES.index(suffix)]) + data
    for model in (model_files.tflite(), model_files.safetensors()):
        suffix = f".{model.name.rpartition('.')[2]}"
        wires[model.name] = joined(None, pack_wire(model.data, model.name, beside=model.beside.get).wire)
        packs[model.name] = bytes([SUFFIXES.index(suffix)]) + model.data
    return {"wire": wires, "pack": packs}


def _files() -> Mapping[str, bytes]:
    from safetensors.numpy import save

    generator = np.random.default_rng(7)
    weights = generator.normal(scale=20, size=(4, 3, 3, 8)).astype(np.int8)
    small = bundle_seeds()
    return {
        "a.edgepack": small["archive"]["signed"],
        "a.safetensors": save({"w": weights, "b": generator.normal(size=8).astype(np.float32)}),
        "a.npy": small["golden"]["float32"],
        "a.onnx": _onnx(weights),
        "a.bin": b'{"name": "text", "name": "text"}' * 8,
    }


def _onnx(weights: np.ndarray) -> bytes:
    from onnx import helper, numpy_helper

    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(weights, "w")])
    return bytes(helper.make_model(graph).SerializeToString())


TARGETS: dict[str, Callable[[bytes], None]] = {"wire": wire, "pack": pack}
MUTATORS: dict[str, Callable[..., bytes]] = {"wire": mutate_wire, "pack": mutate_file}
