"""The preprocessing reference: exact bytes, and one clear message for each mistake."""

from __future__ import annotations

import ast
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from edgepack.agent import preprocess as module
from edgepack.agent.preprocess import describe_ops, preprocess, validate_steps

EFFICIENTNET_LITE = [
    {"op": "center_crop", "fraction": 0.875},
    {"op": "resize", "size": [224, 224], "filter": "bicubic"},
    {"op": "normalize", "mean": 127, "std": 128},
    {"op": "layout", "to": "CHW"},
]
IMAGES = hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.just(3)]))


def _image(height: int, width: int, channels: int = 3) -> Any:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def loaders() -> Any:
    folder = os.environ.get("EDGEPACK_TEST_DATA")
    if not folder:
        pytest.skip("EDGEPACK_TEST_DATA is not set")
    sys.path.insert(0, folder)
    try:
        import loaders

        yield loaders, Path(folder)
    finally:
        sys.path.remove(folder)


@pytest.mark.data
def test_efficientnet_lite_input_has_the_bytes_of_its_own_transform(loaders: Any) -> None:
    reference, folder = loaders
    encoded, _, _ = reference.jpegs(folder / "imagenet_train1000_short256.npz")
    packed = folder / "imagenet_val650_227.npz"

    given_bytes = preprocess(reference.jpegs(packed)[0], EFFICIENTNET_LITE)

    assert given_bytes.tobytes() == reference.lite_normalise(reference.imagenet(packed, 224)[0]).tobytes()
    assert preprocess(encoded[:3], EFFICIENTNET_LITE).shape == (3, 3, 224, 224)


@pytest.mark.data
def test_cifar_input_has_the_bytes_of_its_own_transform(loaders: Any) -> None:
    reference, folder = loaders
    packed = folder / "cifar10_jpeg_test5000a.npz"
    steps = [
        {"op": "to_float", "divide": 255.0},
        {"op": "normalize", "mean": list(reference.CIFAR_MEAN), "std": list(reference.CIFAR_STD)},
        {"op": "layout", "to": "CHW"},
    ]

    given_bytes = preprocess(reference.jpegs(packed)[0], steps)

    assert given_bytes.tobytes() == reference.normalise(reference.cifar(packed)[0]).tobytes()


@given(images=IMAGES)
def test_layout_only_moves_the_axes(images: Any) -> None:
    result = preprocess(images, [{"op": "layout", "to": "CHW"}])

    np.testing.assert_array_equal(result.transpose(0, 2, 3, 1), images)
    assert result.flags.c_contiguous


@given(images=IMAGES)
def test_normalize_can_be_undone(images: Any) -> None:
    mean, std = np.float32([1.0, 2.0, 3.0]), np.float32([2.0, 4.0, 0.5])

    result = preprocess(images, [{"op": "normalize", "mean": mean.tolist(), "std": std.tolist()}])

    assert result.dtype == np.float32
    np.testing.assert_array_equal(result * std + mean, images)


@given(images=IMAGES, size=st.integers(1, 12), name=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]))
def test_a_sample_has_the_same_bytes_alone_and_among_others(images: Any, size: int, name: str) -> None:
    steps = [{"op": "resize", "size": size, "filter": name}, {"op": "to_float", "divide": 255.0}]

    together = preprocess(images, steps)
    alone = np.concatenate([preprocess([image], steps) for image in images])

    assert together.tobytes() == alone.tobytes() == preprocess(images.copy(), steps).tobytes()


def test_gray_images_get_a_channel_axis_when_a_step_is_about_images() -> None:
    images = np.zeros((5, 28, 28), np.uint8)

    assert preprocess(images, [{"op": "layout", "to": "CHW"}]).shape == (5, 1, 28, 28)
    assert preprocess(images, [{"op": "layout", "to": "HWC"}]).shape == (5, 28, 28, 1)
    assert preprocess(images, [{"op": "resize", "size": 14}]).shape == (5, 14, 14, 1)


def test_arrays_that_are_no_images_keep_their_axes() -> None:
    steps = [{"op": "to_float"}, {"op": "normalize", "mean": 1.0, "std": 2.0}]

    features = preprocess(np.full((4, 7), 3, np.int64), steps)
    sequences = preprocess(np.zeros((4, 49, 10), np.float16), steps)

    assert features.dtype == np.float32
    assert features.tolist() == [[1.0] * 7] * 4
    assert sequences.shape == (4, 49, 10)


def test_gray_is_what_pillow_makes_of_it() -> None:
    image = _image(5, 7)

    result = preprocess([image], [{"op": "grayscale"}])

    assert result.shape == (1, 5, 7, 1)
    np.testing.assert_array_equal(result[0, :, :, 0], np.asarray(Image.fromarray(image).convert("L")))


def test_center_crop_takes_a_share_of_the_short_side_or_a_size() -> None:
    image = _image(10, 13)

    np.testing.assert_array_equal(preprocess([image], [{"op": "center_crop", "fraction": 0.8}])[0], image[1:9, 2:10])
    np.testing.assert_array_equal(preprocess([image], [{"op": "center_crop", "size": [3, 5]}])[0], image[3:6, 4:9])


def test_each_channel_is_resized_as_if_alone() -> None:
    image = _image(9, 6, channels=4)

    result = preprocess([image], [{"op": "resize", "size": [4, 5], "filter": "lanczos"}])[0]

    for channel in range(4):
        across = Image.fromarray(image[:, :, channel]).resize((5, 9), Image.Resampling.LANCZOS)
        plane = across.resize((5, 4), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(result[:, :, channel], np.asarray(plane))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_the_width_is_scaled_before_the_height_whatever_pillow_finds_faster(name: str) -> None:
    """Pillow 13 scales the height first where it shrinks more than the width; the bytes are those of Pillow 11 and 12 still."""
    image, method = _image(48, 6), Image.Resampling[name.upper()]

    result = preprocess([image], [{"op": "resize", "size": [38, 41], "filter": name}])[0]

    across = Image.fromarray(image).resize((41, 48), method)
    assert np.asarray(across).shape == (48, 41, 3)
    np.testing.assert_array_equal(result, np.asarray(across.resize((41, 38), method)))


@pytest.mark.parametrize(("height", "width", "shape"), [(20, 31, (10, 15)), (31, 20, (15, 10)), (8, 8, (10, 10))])
def test_short_side_keeps_the_aspect(height: int, width: int, shape: tuple[int, int]) -> None:
    result = preprocess([_image(height, width)], [{"op": "resize", "size": 10, "mode": "short_side"}])

    assert result.shape[1:3] == shape


def test_encoded_images_are_decoded_to_rgb() -> None:
    image = _image(4, 4)

    np.testing.assert_array_equal(preprocess([_png(image), _png(image[:, :, 0])], [])[0], image)


def test_images_of_differing_sizes_need_a_resize() -> None:
    images = [_image(4, 4), _image(5, 4)]

    assert preprocess(images, [{"op": "resize", "size": 3}]).shape == (2, 3, 3, 3)
    with pytest.raises(ValueError, match=r"sample 1: has shape \(5, 4, 3\) .* add a 'resize' step"):
        preprocess(images, [{"op": "to_float"}])


@pytest.mark.parametrize(
    ("samples", "step", "message"),
    [
        (np.zeros((2, 4, 4), np.float64), {"op": "resize", "size": 2}, "works on uint8 images .* got float64"),
        (np.zeros((2, 4), np.uint8), {"op": "resize", "size": 2}, r"needs an image .* got shape \(4,\)"),
        (np.zeros((2, 4, 4, 2), np.uint8), {"op": "grayscale"}, "needs 1 or 3 channels"),
        (np.zeros((2, 4, 4), np.uint8), {"op": "center_crop", "size": 5}, "can't cut 5x5 from an image of 4x4"),
        (np.zeros((2, 4), np.uint8), {"op": "normalize", "mean": [1, 2], "std": 1}, "'mean' has 2 values for 4"),
        (np.zeros((0, 4), np.uint8), {"op": "to_float"}, "no samples to preprocess"),
        ([b"not an image"], {"op": "to_float"}, "sample 0: not a readable JPEG or PNG"),
    ],
)
def test_samples_that_do_not_fit_a_step_are_refused(samples: Any, step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess(samples, [step])


def test_a_truncated_image_is_refused() -> None:
    with pytest.raises(ValueError, match="sample 1: not a readable JPEG or PNG"):
        preprocess([_png(_image(9, 9)), _png(_image(9, 9))[:-40]], [])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"op": "layout"}, "must be a list of steps, got dict"),
        (["layout"], "must be a table with a text 'op', got 'layout'"),
        ([{"size": 3}], "must be a table with a text 'op'"),
        ([{"op": "rezise", "size": 3}], r"unknown op 'rezise' \(did you mean 'resize'\?\)"),
        ([{"op": "resize", "sise": 3}], r"unknown option 'sise' \(did you mean 'size'\?\)"),
        ([{"op": "to_float", "scale": 3}], r"unknown option 'scale' \(known: divide\)"),
        ([{"op": "grayscale", "x": 3}], r"unknown option 'x' \(it has no options\)"),
        ([{"op": "resize"}], "option 'size' is required and missing"),
        ([{"op": "resize", "size": 0}], "'size' must be a positive integer"),
        ([{"op": "resize", "size": True}], "'size' must be a positive integer"),
        ([{"op": "resize", "size": [3, 2.5]}], "'size' must be a positive integer"),
        ([{"op": "resize", "size": [3, 2, 1]}], "'size' must be a positive integer"),
        ([{"op": "resize", "size": 3, "filter": "cubic"}], "'filter' must be one of nearest, bilinear"),
        ([{"op": "resize", "size": 3, "mode": 1}], "'mode' must be one of stretch, short_side"),
        ([{"op": "resize", "size": [3, 3], "mode": "short_side"}], "must be one integer with mode 'short_side'"),
        ([{"op": "center_crop"}], "give either 'fraction' or 'size'"),
        ([{"op": "center_crop", "size": 3, "fraction": 0.5}], "give either 'fraction' or 'size'"),
        ([{"op": "center_crop", "fraction": 1.5}], r"'fraction' must lie in \(0, 1\], got 1.5"),
        ([{"op": "to_float", "divide": 0}], "'divide' must not be 0"),
        ([{"op": "to_float", "divide": "255"}], "'divide' must be a number, got '255'"),
        ([{"op": "to_float", "divide": True}], "'divide' must be a number"),
        ([{"op": "normalize", "mean": 0}], "option 'std' is required and missing"),
        ([{"op": "normalize", "mean": 0, "std": [1, 0]}], "'std' must not be 0"),
        ([{"op": "normalize", "mean": [], "std": 1}], r"'mean' must be a number, got \[\]"),
        ([{"op": "normalize", "mean": float("nan"), "std": 1}], "'mean' must be a number, got nan"),
        ([{"op": "layout", "to": "NCHW"}], "'to' must be one of CHW, HWC, got 'NCHW'"),
        (
            [{"op": "layout", "to": "CHW"}, {"op": "resize", "size": 3}],
            r"step 2 \(resize\): .*move 'layout' to the end",
        ),
        ([{"op": "to_float"}, {"op": "grayscale"}], r"move it before preprocess step 1 \(to_float\)"),
    ],
)
def test_a_wrong_step_is_refused_with_its_place(steps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_steps(steps)


def test_the_steps_of_a_real_recipe_are_valid() -> None:
    validate_steps(EFFICIENTNET_LITE)


def test_every_op_is_described() -> None:
    assert all(len(text) > 40 for text in describe_ops().values())
    assert set(describe_ops()) == set(module.OPS)


def test_the_file_stands_alone() -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }

    outside = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)

    assert outside == {"numpy", "PIL"}
