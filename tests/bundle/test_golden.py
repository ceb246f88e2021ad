import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.bundle import read_bundle
from edgepack.bundle.golden import check_golden, compare, from_npy, read_golden, to_npy
from edgepack.core.errors import BundleError

ARRAYS = hnp.arrays(
    dtype=st.sampled_from([np.dtype(name) for name in ("int8", "uint8", "<i4", ">i4", "<f4", ">f8", "bool")]),
    shape=hnp.array_shapes(min_dims=0, min_side=0),
)


@settings(max_examples=100, deadline=None)
@given(ARRAYS)
def test_arrays_come_back_from_npy(array: np.ndarray) -> None:
    data = to_npy(array)
    read = from_npy(data)

    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(np.load(io.BytesIO(data), allow_pickle=False), array)
    assert read.shape == array.shape
    assert to_npy(np.array(array, order="F")) == data
    assert (len(data) - read.nbytes) % 64 == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_npy_file_is_refused_or_read_as_numpy_reads_it(data: st.DataObject) -> None:
    whole = to_npy(np.arange(6, dtype=np.int8).reshape(2, 3))
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position] + bytes([data.draw(st.integers(0, 255))]) + whole[position + 1 :]

    try:
        array = from_npy(damaged)
    except BundleError:
        return
    np.testing.assert_array_equal(array, np.load(io.BytesIO(damaged), allow_pickle=False))


def test_pickles_other_versions_and_wrong_sizes_are_refused() -> None:
    pickled, newer = io.BytesIO(), io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    np.lib.format.write_array(newer, np.zeros(2), version=(2, 0))
    huge = to_npy(np.zeros((1, 2), np.int8)).replace(b"(1, 2)", b"(9**9)"[:6])

    for data in (pickled.getvalue(), newer.getvalue(), huge, to_npy(np.zeros(3)) + b"x", to_npy(np.zeros(3))[:-1], b""):
        with pytest.raises(BundleError):
            from_npy(data)
    with pytest.raises(BundleError, match="dtype"):
        to_npy(np.array(["text"]))


def test_golden_samples_are_read_by_name(bundle_path: Path) -> None:
    golden = read_golden(read_bundle(bundle_path))

    np.testing.assert_array_equal(golden.inputs["image"], np.array([[1, 2], [3, 4]], np.int8))
    assert golden.outputs["scores"].dtype == np.int8


def test_golden_samples_that_do_not_fit_the_signature_are_refused(make: Callable[..., Path]) -> None:
    floats = [{"name": "image", "shape": [1, 2], "dtype": "float32"}]

    with pytest.raises(BundleError, match=r"golden/input_0\.npy holds int8"):
        read_golden(read_bundle(make(inputs=floats)))
    with pytest.raises(BundleError, match="has no golden samples"):
        read_golden(read_bundle(make(golden=None)))


def test_outputs_within_the_tolerance_pass_and_others_fail(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    expected = read_golden(bundle).outputs["scores"]
    near, far = expected.copy(), expected.copy()
    near[0, 0] += 1
    far[1, 2] = 127

    (same,) = check_golden(bundle, {"scores": expected})
    (close,) = check_golden(bundle, {"scores": near})
    (wrong,) = check_golden(bundle, {"scores": far})

    assert (same.largest_steps, same.differing, same.values, same.passed) == (0.0, 0, 6, True)
    assert (close.largest_steps, close.differing, close.passed) == (1.0, 1, True)
    assert (wrong.largest_steps, wrong.passed) == (255.0, False)  # -128 and 127: no wrap-around


def test_outputs_of_another_shape_or_name_are_refused(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)

    with pytest.raises(BundleError, match="expected int8 of shape"):
        check_golden(bundle, {"scores": np.zeros((2, 3), np.float32)})
    with pytest.raises(BundleError, match="'scores' was not given"):
        check_golden(bundle, {"score": np.zeros((2, 3), np.int8)})


def test_float_outputs_are_compared_in_steps_of_a_256_code_grid_or_of_the_given_step() -> None:
    expected = np.array([-1.0, 1.55], np.float32)
    actual = np.array([-1.0, 1.57], np.float32)

    derived = compare(expected, actual, output="y", tolerance_steps=1)
    given_step = compare(expected, actual, output="y", tolerance_steps=1, step=0.02)

    assert derived.largest_steps == pytest.approx(2.0, rel=1e-5)
    assert given_step.largest_steps == pytest.approx(1.0, rel=1e-5)


def test_not_a_number_never_passes_but_equal_infinities_do() -> None:
    one = np.array([1.0], np.float32)
    nan, infinite = np.array([np.nan], np.float32), np.array([np.inf], np.float32)

    assert not compare(one, nan, output="y", tolerance_steps=1e9).passed
    assert not compare(nan, nan, output="y", tolerance_steps=1e9).passed
    assert compare(infinite, infinite, output="y", tolerance_steps=0, step=1).passed
    assert not compare(np.zeros(1, np.float32), one, output="y", tolerance_steps=1e9).passed
