"""What an app hands to a model, as every kit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_bundles import STEPS, app_bundle

from edgepack.appkit.cpp.steps import cpp_steps, heights_widths_channels
from edgepack.appkit.steps import AppInput, app_input
from edgepack.bundle import Bundle, read_bundle
from edgepack.core.errors import UnsupportedError


def described(path: Path, **changes: Any) -> AppInput:
    """The input of a bundle whose only variant has some keys replaced."""
    bundle, variant = changed(read_bundle(path), **changes)
    return app_input(bundle, variant)


def changed(bundle: Bundle, **changes: Any) -> tuple[Bundle, Any]:
    steps = changes.pop("steps", None)
    variant = bundle.manifest.variants[0].model_copy(update=changes)
    manifest = bundle.manifest.model_copy(
        update={"variants": (variant,), **({} if steps is None else {"preprocess": steps})}
    )
    return Bundle(path=bundle.path, manifest=manifest, layout=bundle.layout), variant


def test_an_image_of_a_model_that_wants_channels_last(tmp_path: Path) -> None:
    taken = described(app_bundle(tmp_path, "tflite"))

    assert (taken.takes, taken.channels, taken.turned) == ("image", (1, 3), True)
    assert taken.raw_shape == (9, 11, 3)
    assert heights_widths_channels(taken) == (6, 6, 1)
    assert [step["op"] for step in cpp_steps(taken)] == [
        "center_crop", "resize", "grayscale", "check_size", "to_values", "to_float", "normalize"
    ]  # fmt: skip


def test_steps_have_their_defaults_written_out(tmp_path: Path) -> None:
    steps = ({"op": "resize", "size": 6}, {"op": "to_float"}, {"op": "normalize", "mean": 0.5, "std": [0.1, 0.2, 0.3]})

    taken = described(app_bundle(tmp_path, "onnx"), steps=steps)

    assert taken.steps[0] == {"op": "resize", "size": [6, 6], "filter": "bilinear", "mode": "stretch"}
    assert taken.steps[1] == {"op": "to_float", "divide": 1.0}
    assert taken.steps[2] == {"op": "normalize", "mean": [0.5], "std": [0.1, 0.2, 0.3]}
    assert cpp_steps(taken)[-1]["mean"] == [0.5, 0.5, 0.5]


def test_a_crop_after_the_division_is_made_before_it(tmp_path: Path) -> None:
    steps = (
        STEPS[2],
        {"op": "to_float", "divide": 255.0},
        {"op": "center_crop", "size": 6},
        {"op": "layout", "to": "HWC"},
    )

    taken = described(app_bundle(tmp_path, "onnx"), steps=steps)

    assert [step["op"] for step in cpp_steps(taken)] == [
        "grayscale",
        "center_crop",
        "check_size",
        "to_values",
        "to_float",
    ]


def test_values_keep_the_shape_of_the_raw_samples(tmp_path: Path) -> None:
    bundle = read_bundle(app_bundle(tmp_path, "onnx"))
    golden = bundle.manifest.variants[0].golden
    assert golden is not None

    taken = described(
        bundle.path, steps=({"op": "to_float"},), golden=golden.model_copy(update={"raw": None, "raw_samples": None})
    )

    assert (taken.takes, taken.channels, taken.raw_shape) == ("values", (), (1, 6, 6))
    assert cpp_steps(taken) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int64", "quantization": None}, "is int64 without a grid"),
        ({"dtype": "int32"}, "is int32 with 1 scales"),
        ({"shape": (1, 36)}, "not four dimensions"),
        ({"shape": (1, 4, 6, 6)}, "images of 4 channels"),
    ],
)
def test_what_no_kit_has_code_for_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = app_bundle(tmp_path, "onnx")
    tensor = read_bundle(path).manifest.variants[0].inputs[0].model_copy(update=change)
    steps = tuple(step for step in STEPS if step["op"] != "grayscale")

    with pytest.raises(UnsupportedError, match=message):
        described(path, inputs=(tensor,), steps=steps)


def test_the_shape_of_a_grid_is_that_of_float32(tmp_path: Path) -> None:
    taken = described(app_bundle(tmp_path, "openvino"))

    assert taken.tensor.quantization is None
    assert np.dtype(taken.tensor.dtype) == np.float32
