"""The C steps that apps compile give the bytes of the Python reference."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from app_vectors import FOLDER, decoded, files, image
from native_steps import NativeError, NativeSteps

from edgepack.agent.postprocess import postprocess
from edgepack.agent.preprocess import preprocess
from edgepack.core.types import QuantParams
from edgepack.runtimes.grid import quantize

IMAGES = 3000


def cases(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sorted(files()))
def test_the_committed_vectors_are_what_the_reference_gives(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == files()[name], "run: python tests/appkit/app_vectors.py"


@pytest.mark.parametrize("case", cases("preprocess.json"), ids=lambda case: case["name"])
def test_every_preprocessing_vector_holds_in_c(case: dict[str, Any], native: NativeSteps) -> None:
    result = native.preprocess(decoded(case["input"]), case["steps"])

    assert result.tobytes() == decoded(case["output"]).tobytes()
    if "grid" in case:
        assert native.quantize(result, **case["grid"]).tobytes() == decoded(case["codes"]).tobytes()


@pytest.mark.parametrize("case", cases("postprocess.json"), ids=lambda case: case["name"])
def test_every_postprocessing_vector_holds_in_c(case: dict[str, Any], native: NativeSteps) -> None:
    result = native.postprocess(decoded(case["input"]), case["steps"], case["grid"])

    if isinstance(case["answer"], list):
        assert result == [(index, score) for index, _, score in case["answer"]]
    else:
        assert result.tobytes() == decoded(case["answer"]).tobytes()


def test_shares_have_the_same_bytes_for_many_values(native: NativeSteps) -> None:
    rng = np.random.default_rng(9)
    for width in (1e-3, 0.5, 4.0, 60.0, 500.0):
        values = (rng.standard_normal((300, 101)) * width).astype(np.float32)
        expected = postprocess(values, [{"op": "softmax"}])
        assert b"".join(native.softmax(row).tobytes() for row in values) == expected.tobytes()
        assert native.sigmoid(values).tobytes() == postprocess(values, [{"op": "sigmoid"}]).tobytes()


def test_one_nan_makes_all_shares_nan(native: NativeSteps) -> None:
    values = np.array([1.0, np.nan, 3.0], np.float32)

    assert np.isnan(native.softmax(values)).all()
    assert np.isnan(postprocess(values[None], [{"op": "softmax"}])).all()


def test_thousands_of_images_are_resized_to_the_same_bytes(native: NativeSteps) -> None:
    rng = np.random.default_rng(5)
    sides = np.exp(rng.uniform(0, np.log(300), (IMAGES, 4))).astype(int)
    wrong = []
    for index, (height, width, out_height, out_width) in enumerate(sides.tolist()):
        name = ("nearest", "bilinear", "bicubic", "lanczos")[index % 4]
        sample = image(height, width, (1, 3, 4)[index % 3], ("noise", "edges", "ramp")[index % 5 % 3])
        steps = [{"op": "resize", "size": [out_height, out_width], "filter": name}]
        if native.preprocess(sample, steps).tobytes() != preprocess([sample], steps)[0].tobytes():
            wrong.append((name, sample.shape, out_height, out_width))

    assert wrong == []


def test_every_fraction_and_side_is_cropped_alike(native: NativeSteps) -> None:
    for side in range(1, 60):
        for fraction in np.linspace(0.02, 1.0, 50).tolist():
            steps = [{"op": "center_crop", "fraction": fraction}]
            sample = image(side, side + side % 3, 1)
            np.testing.assert_array_equal(native.preprocess(sample, steps), preprocess([sample], steps)[0])


def test_gray_is_the_same_for_every_color(native: NativeSteps) -> None:
    levels = np.array([*range(0, 256, 5), 127, 128], np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)

    result = native.preprocess(colors, [{"op": "grayscale"}])

    np.testing.assert_array_equal(result, preprocess([colors], [{"op": "grayscale"}])[0])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_values_of_every_size_have_the_same_codes(dtype: str, native: NativeSteps) -> None:
    rng = np.random.default_rng(8)
    values = (rng.standard_normal(200_000) * 10.0 ** rng.integers(-6, 6, 200_000)).astype(np.float32)
    values[:1000] = np.arange(-500, 500, dtype=np.float32) / 2
    for scale in (1.0, 0.5, float(np.float32(0.0078)), float(np.float32(1 / 3))):
        grid = QuantParams(scale=(scale,), zero_point=(7,), dtype=dtype)
        np.testing.assert_array_equal(native.quantize(values, dtype, scale, 7), quantize(values, grid))


def test_nan_has_no_code(native: NativeSteps) -> None:
    with pytest.raises(NativeError, match="-4"):
        native.quantize(np.array([0.0, np.nan], np.float32), "int8", 1.0, 0)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([{"op": "center_crop", "size": 6}], "-1"),
        ([{"op": "center_crop", "fraction": 1.5}], "-2"),
        ([{"op": "resize", "size": [70000, 1]}], "-1"),
    ],
)
def test_what_can_not_be_done_has_a_code(steps: list[dict[str, Any]], code: str, native: NativeSteps) -> None:
    with pytest.raises(NativeError, match=code):
        native.preprocess(image(5, 5, 1), steps)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 100_003])
def test_digests_are_sha256(size: int, native: NativeSteps) -> None:
    data = np.random.default_rng(size).bytes(size)

    assert native.sha256(data) == hashlib.sha256(data).hexdigest()
