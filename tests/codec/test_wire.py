"""The wire form: any file comes back bit by bit, and what follows from something else isn't sent."""

from __future__ import annotations

import json
from pathlib import Path

import model_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.bundle.layout import Entry, layout_of
from edgepack.codec import reference
from edgepack.codec.types import PROFILES, Profile
from edgepack.codec.wire import open_wire, read_header
from edgepack.codec.wire_ops import Copy, Digest, Fill, Listing, Product, Tail, operations_in
from edgepack.codec.wire_ops import Entry as EntryOperation
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError


def archive(files: dict[str, bytes]) -> bytes:
    """A bundle's archive, with a manifest that lists its files."""
    import zlib

    listed = [
        {"path": name, "sha256": sha256_bytes(data), "size_bytes": len(data)} for name, data in sorted(files.items())
    ]
    text = json.dumps({"files": listed, "name": "x"}, indent=2, sort_keys=True) + "\n"
    content = {"manifest.json": text.encode(), **files}
    layout = layout_of([Entry(name=n, size_bytes=len(d), crc32=zlib.crc32(d)) for n, d in content.items()])
    return b"".join(one.header + content[one.entry.name] for one in layout.placed) + layout.tail


def operations(wire: bytes) -> list[object]:
    return list(operations_in(open_wire(wire).table))


@pytest.mark.parametrize("profile", PROFILES)
def test_model_files_come_back_bit_by_bit_and_smaller(tmp_path: Path, profile: Profile) -> None:
    for file in model_files.every(tmp_path):
        packed = pack_wire(file.data, file.name, profile=profile, beside=file.beside.get)

        assert unpack_wire(packed.wire) == file.data
        assert len(packed.wire) < len(file.data)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=2000), name=st.sampled_from(["a.tflite", "a.onnx", "a.npy", "a.edgepack", "a", "a.bin"]))
def test_any_bytes_come_back_whatever_they_are_called(data: bytes, name: str) -> None:
    wire = pack_wire(data, name).wire

    assert unpack_wire(wire) == data
    assert len(wire) < len(data) + 64


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(
        st.sampled_from(["a.txt", "model/model.tflite", "model/m.npy", "b/c.json", "z.bin", "e"]),
        st.one_of(st.binary(max_size=300), st.just(model_files.npy().data), st.builds(bytes, st.integers(0, 3000))),
        min_size=1,
    )
)
def test_archives_come_back_bit_by_bit(files: dict[str, bytes]) -> None:
    data = archive(files)
    wire = pack_wire(data, "x.edgepack").wire

    assert read_header(wire).is_archive
    assert unpack_wire(wire) == data


def test_python_alone_restores_a_bundle() -> None:
    data = archive({"model/model.tflite": model_files.tflite().data, "labels.txt": b"one\ntwo\n", "zeros": bytes(900)})

    for profile in PROFILES:
        wire = pack_wire(data, "x.edgepack", profile=profile).wire
        assert unpack_wire(wire, decode=reference.decode) == data


def test_zip_headers_and_digests_are_not_sent() -> None:
    random = np.random.default_rng(0)
    files = {f"file_{number:03}.txt": random.bytes(3) for number in range(300)}
    data = archive(files)

    wire = pack_wire(data, "x.edgepack").wire

    # Each file costs its three bytes, its name and a word in the table; its SHA-256 alone would be 32.
    assert len(wire) < 300 * 10
    kinds = [type(one) for one in operations(wire)]
    assert (kinds.count(EntryOperation), kinds.count(Listing), kinds.count(Tail)) == (301, 1, 1)
    assert unpack_wire(wire) == data


def test_digests_in_other_texts_are_not_sent_either() -> None:
    model = bytes(range(256)) * 8
    inner = json.dumps({"subject": sha256_bytes(model)}).encode()
    outer = json.dumps({"of": sha256_bytes(inner), "else": sha256_bytes(b"not in the bundle")}).encode()
    data = archive({"model.bin": model, "a.json": inner, "b.json": outer})

    wire = pack_wire(data, "x.edgepack").wire

    assert sum(isinstance(one, Digest) for one in operations(wire)) == 2
    assert unpack_wire(wire) == data


def test_a_tensor_of_several_variants_is_sent_once_whatever_its_layout() -> None:
    stored = model_files.WEIGHTS
    one = model_files.safetensors().data
    turned = np.ascontiguousarray(stored.transpose(0, 3, 1, 2))
    layouts = {
        "ohwi": stored,
        "oihw": turned,
        "hwio": np.ascontiguousarray(stored.transpose(1, 2, 3, 0)),
        "unsigned": turned.view(np.uint8) ^ np.uint8(128),
    }

    files = {f"{name}/model/m.npy": npy_bytes(array) for name, array in layouts.items()}
    wire = pack_wire(archive({**files, "z/m.safetensors": one}), "x.edgepack").wire

    assert sum(isinstance(step, Copy) for step in operations(wire)) == 4  # and the one in the last file
    assert len(wire) < len(one) + 1000
    assert unpack_wire(wire) == archive({**files, "z/m.safetensors": one})


def npy_bytes(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    from edgepack.bundle.golden import to_npy

    return to_npy(array)


def test_scales_that_are_others_times_one_are_not_sent() -> None:
    file = model_files.tflite()

    (product,) = (one for one in operations(pack_wire(file.data, file.name).wire) if isinstance(one, Product))

    assert product.count == len(model_files.SCALES)


def test_long_runs_of_one_byte_take_no_coder() -> None:
    data = b"head" + bytes(1_000_000) + b"foot" + b"\xff" * 5000

    wire = pack_wire(data, "x").wire

    assert [one.size_bytes for one in operations(wire) if isinstance(one, Fill)] == [1_000_000, 5000]
    assert len(wire) < 100


def test_files_larger_than_a_chunk_come_back() -> None:
    data = np.random.default_rng(0).integers(0, 4, 2_150_000).astype(np.uint8).tobytes()

    assert unpack_wire(pack_wire(data, "x", profile="fast").wire) == data


def test_the_parts_add_up_to_the_files() -> None:
    data = archive({"model/model.tflite": model_files.tflite().data, "labels.txt": b"one\ntwo\n"})

    packed = pack_wire(data, "x.edgepack")

    assert sum(part.before for part in packed.parts) == len(data)
    assert sum(part.after for part in packed.parts) == len(packed.wire)
    assert {part.coder_name for part in packed.parts} - {""}


def test_a_small_file_has_little_around_its_payload() -> None:
    assert len(pack_wire(b"", "x").wire) < 50
    assert len(pack_wire(b"hello", "x").wire) < 70


def test_what_nobody_would_believe_is_refused_when_it_is_packed() -> None:
    with pytest.raises(BundleError, match="which no reader believes"):
        pack_wire(bytes(65 << 20), "zeros.bin")


def test_progress_ends_with_all_bytes() -> None:
    told: list[tuple[int, int]] = []

    pack_wire(model_files.tflite().data, "m.tflite", progress=lambda done, total: told.append((done, total)))

    assert told[-1][0] == told[-1][1] > 0
    assert told == sorted(told)
