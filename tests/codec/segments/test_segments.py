"""Where tensors lie: found in files of every format, and no file, however broken, that isn't tiled."""

from __future__ import annotations

from pathlib import Path

import model_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import ModelFile

from edgepack.codec.segments import FINDERS, segments_of
from edgepack.codec.types import Segment


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    return {file.name: file for file in model_files.every(tmp_path_factory.mktemp("models"))}


def taken_apart(file: ModelFile, data: bytes) -> list[tuple[Segment, bytes]]:
    segments = segments_of(data, file.name, file.beside.get)
    ends = [sum(one.size_bytes for one in segments[: number + 1]) for number in range(len(segments))]
    assert (ends or [0])[-1] == len(data)
    return [(one, data[end - one.size_bytes : end]) for one, end in zip(segments, ends, strict=True)]


@pytest.mark.parametrize("name", ["a.npy", "m.safetensors", "m.onnx", "m.bin", "m.tflite"])
def test_every_tensor_of_a_file_is_found_where_it_lies(files: dict[str, ModelFile], name: str) -> None:
    file = files[name]

    found = {one.name: (one.kind, data) for one, data in taken_apart(file, file.data) if one.kind != "bytes"}

    assert found == file.tensors


def test_the_formats_of_the_table_are_those_that_are_tested(files: dict[str, ModelFile]) -> None:
    assert {Path(name).suffix[1:] for name in files} == set(FINDERS)


def test_the_axis_along_which_scales_differ_is_told(files: dict[str, ModelFile]) -> None:
    (weights,) = (one for one, _ in taken_apart(files["m.tflite"], files["m.tflite"].data) if one.name == "w")

    assert (weights.shape, weights.channel_axis) == (model_files.WEIGHTS.shape, 0)


def test_a_bin_without_its_xml_is_bytes(files: dict[str, ModelFile]) -> None:
    assert [one.kind for one in segments_of(files["m.bin"].data, "m.bin")] == ["bytes"]


def test_a_file_of_another_kind_is_bytes() -> None:
    assert segments_of(b"abc", "notes.txt") == (Segment(size_bytes=3),)
    assert segments_of(b"", "m.tflite") == ()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_still_tiled(files: dict[str, ModelFile], data: st.DataObject) -> None:
    file = files[data.draw(st.sampled_from(sorted(files)))]
    broken = bytearray(file.data)
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=20)):
        broken[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))

    taken_apart(file, bytes(broken[: data.draw(st.integers(0, len(broken)))]))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from([f"x.{suffix}" for suffix in FINDERS]), data=st.binary(max_size=300))
def test_any_bytes_are_tiled_whatever_they_are_called(name: str, data: bytes) -> None:
    assert sum(one.size_bytes for one in segments_of(b"TFL3" * 2 + data, name)) == len(data) + 8


def test_tensors_that_overlap_or_lie_outside_are_left_to_bytes() -> None:
    xml = b"".join(
        b'<layer id="1" name="%d" type="Const" version="opset1">\n<data element_type="i8" shape="%d" offset="%d" size="%d" />'
        % (number, size, offset, size)
        for number, (offset, size) in enumerate([(0, 40), (20, 40), (60, 10**12), (70, 30)])
    )

    segments = segments_of(bytes(100), "m.bin", {"m.xml": xml}.get)

    assert [(one.kind, one.size_bytes) for one in segments] == [("i8", 40), ("bytes", 30), ("i8", 30)]
