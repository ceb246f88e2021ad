"""Real models, where the shared data are: packed, they come back, and are smaller than any general tool makes them."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from edgepack.codec.segments import segments_of
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire

pytestmark = pytest.mark.data
FILES = ("mobilenet_v1_0.25_128_quant.tflite", "mlperf_tiny")


def files() -> list[Path]:
    if "EDGEPACK_TEST_DATA" not in os.environ:
        pytest.skip("needs EDGEPACK_TEST_DATA: the folder of shared models")
    folder = Path(os.environ["EDGEPACK_TEST_DATA"])
    found = [folder / FILES[0], *sorted((folder / FILES[1]).rglob("*.tflite"))]
    return [file for file in found if file.is_file() and file.stat().st_size < 1_000_000]


def test_real_models_come_back_and_are_smaller_than_xz_makes_them() -> None:
    for file in files():
        data = file.read_bytes()

        wire = pack_wire(data, file.name).wire

        assert unpack_wire(wire) == data, file.name
        assert len(wire) < len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), file.name


def test_nearly_all_of_a_real_model_are_tensors() -> None:
    for file in files():
        segments = segments_of(file.read_bytes(), file.name)

        assert sum(one.size_bytes for one in segments) == file.stat().st_size
        if file.stat().st_size > 100_000:
            assert sum(one.size_bytes for one in segments if one.kind != "bytes") > 0.75 * file.stat().st_size
