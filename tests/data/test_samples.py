"""From a data table to checked samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepack.core.errors import DataError, RecipeError
from edgepack.core.types import Samples
from edgepack.data.samples import load_samples, plain_steps, preprocess_file
from edgepack.data.sections import calibration_names
from edgepack.recipe import DataSection, InputSection, PreprocessStep

_PATH_FIXTURE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _section(folder: Path, *, file: str = "a.npz", **arrays: Any) -> DataSection:
    np.savez(folder / file, **arrays)
    return DataSection(provider="npz", file=file, **({"y": "y"} if "y" in arrays else {}))


def _load(section: DataSection | str, folder: Path, *, shape: tuple[int, ...] = (2,), **more: Any) -> Samples:
    more = {"steps": [], "inputs": (InputSection(shape=shape),), "role": "evaluation", **more}
    return load_samples(section, more.pop("steps"), folder=folder, **more)


def test_samples_are_drawn_preprocessed_and_labelled(tmp_path: Path) -> None:
    images = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)
    section = _section(tmp_path, x=images, y=np.arange(10, dtype=np.uint8)).model_copy(update={"count": 4, "seed": 3})
    steps = (PreprocessStep(op="to_float", divide=2.0), PreprocessStep(op="layout", to="CHW"))

    samples = _load(section, tmp_path, shape=(1, 2, 2), steps=steps, classes=10)

    drawn = np.sort(np.random.default_rng(3).permutation(10)[:4])
    assert samples.labels is not None and samples.labels.dtype == np.int64
    np.testing.assert_array_equal(samples.labels, drawn)
    np.testing.assert_array_equal(samples.inputs["input"], images[drawn][:, None].astype(np.float32) / 2)


@_PATH_FIXTURE
@given(count=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_a_draw_has_no_sample_twice_and_repeats_itself(tmp_path: Path, count: int, seed: int) -> None:
    section = _section(tmp_path, x=np.arange(20.0)[:, None]).model_copy(update={"count": count, "seed": seed})

    first, second = (_load(section, tmp_path, shape=(1,)).inputs["input"] for _ in range(2))

    assert first.tobytes() == second.tobytes()
    assert len(np.unique(first)) == count


def test_every_other_float_type_becomes_float32(tmp_path: Path) -> None:
    for kind in (np.float16, np.float64):
        assert _load(_section(tmp_path, x=np.ones((3, 2), kind)), tmp_path).inputs["input"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": np.zeros((0, 2))}, {}, "no samples are left"),
        ({"x": np.zeros((3, 5))}, {}, r"needs shape \(2,\) and the samples have \(5,\)"),
        ({"x": np.zeros((3, 4, 4, 3))}, {"shape": (3, 4, 4)}, 'op = "layout", to = "CHW"'),
        ({"x": np.zeros((3, 4, 4))}, {"shape": (1, 4, 4)}, 'to = "CHW" }, which adds the channel axis'),
        ({"x": np.zeros((3, 4, 4))}, {"shape": (4, 4, 1)}, 'to = "HWC" }, which adds the channel axis'),
        ({"x": np.zeros((3, 4, 4, 3))}, {"shape": (8, 8, 3)}, "'resize' or 'layout' step"),
        ({"x": np.zeros((3, 2), np.int32)}, {}, "needs float32 and the samples are int32; add a 'to_float'"),
        ({"x": np.array([[0, 1], [0, np.nan]])}, {}, r"sample 1 holds NaN or infinity \(1 of 2 do\)"),
        ({"x": np.array([[0, 1e300]])}, {}, "sample 0 holds NaN or infinity"),
        ({"x": np.array([["a", "b"]])}, {}, "is an array of <U1"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3)}, {}, "labels are float64, class indices are integers"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4, int)}, {}, r"labels have shape \(4,\) for 3 samples"),
        ({"x": np.zeros((3, 2)), "y": np.zeros((3, 1), int)}, {}, r"labels have shape \(3, 1\) for 3 samples"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, -1, 0])}, {}, "label of sample 1 is -1, must be 0 or more"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, 1, 2])}, {"classes": 2}, "label of sample 2 is 2, must be 0…1"),
        ({"x": np.zeros((3, 2))}, {"labelled": True}, "has no labels and needs them"),
        (
            {"x": np.zeros((3, 2))},
            {"steps": [{"op": "layout", "to": "CHW"}]},
            r"sample 0: preprocess step 1 \(layout\)",
        ),
        (
            {"x": np.zeros((3, 2))},
            {"inputs": (InputSection(name="a", shape=(2,)), InputSection(name="b", shape=(2,)))},
            "one array for each",
        ),
    ],
)
def test_samples_that_the_model_cannot_take_are_refused(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _load(_section(tmp_path, **arrays), tmp_path, **options)

    assert str(caught.value).startswith("data.evaluation: ")


def test_a_damaged_image_is_named_by_its_place_before_the_draw(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "b" / "3.png").write_bytes(b"damaged")
    section = DataSection(provider="image_folder", folder=".", count=2, seed=0)

    with pytest.raises(DataError, match=r"^data\.evaluation: sample 2 \(b/3\.png\): not a readable JPEG or PNG"):
        _load(section, tmp_path)


def test_more_samples_than_there_are_is_refused(tmp_path: Path) -> None:
    section = _section(tmp_path, x=np.zeros((3, 2)))

    with pytest.raises(DataError, match=r"^data\.evaluation: count = 4, but there are 3 samples"):
        _load(section.model_copy(update={"count": 4}), tmp_path)
    with pytest.raises(RecipeError, match=r"^data\.evaluation: seed = -1: must not be negative"):
        _load(section.model_copy(update={"count": 2, "seed": -1}), tmp_path)


def test_a_model_with_two_inputs_takes_one_array_for_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", i=np.ones((3, 2)), m=np.zeros((3, 4), np.float32), short=np.zeros((2, 4)))
    inputs = (InputSection(name="ids", shape=(2,)), InputSection(name="mask", shape=(4,)))

    def load(x: dict[str, str], steps: Any = ()) -> Samples:
        return _load(DataSection(provider="npz", file="a.npz", x=x), tmp_path, inputs=inputs, steps=steps)

    samples = load({"ids": "i", "mask": "m"})

    assert {name: array.shape for name, array in samples.inputs.items()} == {"ids": (3, 2), "mask": (3, 4)}
    with pytest.raises(DataError, match=r"the samples are for inputs .*'ids', 'maks'.*, the model has"):
        load({"ids": "i", "maks": "m"})
    with pytest.raises(DataError, match="different numbers of samples"):
        load({"ids": "i", "mask": "short"})
    with pytest.raises(RecipeError, match="works for models with one input"):
        load({"ids": "i", "mask": "m"}, steps=[{"op": "to_float"}])


def test_steps_are_stored_as_plain_tables() -> None:
    assert plain_steps([PreprocessStep(op="resize", size=[8, 8])]) == [{"op": "resize", "size": [8, 8]}]
    with pytest.raises(RecipeError, match="did you mean 'resize'"):
        plain_steps([PreprocessStep(op="rezise")])
    assert preprocess_file().name == "preprocess.py"


def test_every_shipped_calibration_file_loads(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    for name in calibration_names():
        assert len(_load(name, tmp_path, shape=(8, 8), steps=[{"op": "to_float"}])) > 0
