"""The reference post-processing: what it computes, that it computes it bit by bit as the page says, and what it refuses."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.agent import postprocess as module
from edgepack.agent.postprocess import describe_ops, exponential, postprocess, validate_steps

SOFTMAX = [{"op": "dequantize"}, {"op": "softmax"}]
GRID = {"scale": [0.25], "zero_point": [-3], "axis": None}


def plain_exp(x: float) -> float:
    """The same arithmetic on Python's floats, one operation at a time."""
    if x < -708.0:
        return 0.0
    n = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    power = 1.0 / math.factorial(13)
    for k in range(12, -1, -1):
        power = power * r + 1.0 / math.factorial(k)
    return math.ldexp(power, n)


def plain_softmax(values: list[float]) -> list[float]:
    powers = [plain_exp(value - max(values)) for value in values]
    total = 0.0
    for power in powers:
        total = total + power
    return [struct.unpack("<f", struct.pack("<f", power / total))[0] for power in powers]


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax_has_the_bytes_of_the_plain_arithmetic(values: np.ndarray) -> None:
    (found,) = postprocess(values[None], [{"op": "softmax"}])

    assert found.dtype == np.float32
    assert found.tolist() == plain_softmax([float(value) for value in values])
    assert abs(float(found.astype(np.float64).sum()) - 1) < 1e-5


@settings(max_examples=300, deadline=None)
@given(st.floats(-708, 709))
def test_exp_is_right_to_the_last_place(x: float) -> None:
    found = float(exponential(np.array([x]))[0])

    assert found == plain_exp(x)
    assert abs(found - math.exp(x)) <= math.ulp(math.exp(x))


def test_the_first_part_of_ln_2_has_so_few_bits_that_its_multiples_are_exact() -> None:
    for n in (1, -1021, 1023):
        assert Fraction(n * module._LN2_HIGH) == n * Fraction(module._LN2_HIGH)


def test_far_below_and_not_a_number() -> None:
    values = np.array([[0.0, -709.0, -np.inf]], np.float32)

    assert postprocess(values, [{"op": "softmax"}]).tolist() == [[1.0, 0.0, 0.0]]
    assert np.isnan(postprocess(np.array([[np.nan, 1]], np.float32), [{"op": "softmax"}])).all()
    assert np.isnan(postprocess(np.array([[np.inf, 1]], np.float32), [{"op": "softmax"}])[0, 0])


def test_sigmoid_is_the_same_on_both_sides_of_zero() -> None:
    values = np.array([[0.0, 3.0, -3.0, np.inf, -np.inf, -800.0]], np.float32)

    (found,) = postprocess(values, [{"op": "sigmoid"}]).tolist()

    small = plain_exp(-3.0)
    expected = [0.5, 1.0 / (1.0 + small), small / (1.0 + small), 1.0, 0.0, 0.0]
    assert found == np.array(expected).astype(np.float32).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_codes_become_real_values_in_float32(dtype: type) -> None:
    codes = np.array([[-128 if dtype is np.int8 else 0, 7, 127]], dtype)
    grid = {"scale": [0.1], "zero_point": [-3]}

    (found,) = postprocess(codes, [{"op": "dequantize"}], quantization=grid)

    assert found.dtype == np.float32
    assert found.tolist() == [np.float32(0.1) * np.float32(int(code) + 3) for code in codes[0]]


def test_a_grid_per_channel_and_real_values() -> None:
    grid = {"scale": [1.0, 0.5], "zero_point": [0, 2], "axis": 1}

    assert postprocess(np.array([[4, 4]], np.int8), [{"op": "dequantize"}], quantization=grid).tolist() == [[4.0, 1.0]]
    half = postprocess(np.array([[0.1]], np.float16), [{"op": "dequantize"}], quantization=None)
    assert half.dtype == np.float32 and half.tolist() == [[float(np.float16(0.1))]]


def test_the_largest_come_first_and_equal_ones_by_their_index() -> None:
    values = np.array([[0.25, 0.5, 0.25, -1.0, np.nan]], np.float32)
    steps = [{"op": "top_k", "k": 4, "threshold": 0.1}]

    assert postprocess(values, steps, labels=["a", "b"]) == [[(1, "b", 0.5), (0, "a", 0.25), (2, None, 0.25)]]
    assert postprocess(np.zeros((2, 1, 1, 3), np.float32), [{"op": "top_k", "k": 1}]) == [[(0, None, 0.0)]] * 2
    assert postprocess(values, [{"op": "top_k", "threshold": 0.9}]) == [[]]


def test_all_steps_of_a_classifier() -> None:
    codes = np.array([[-3, 1, 13]], np.int8)

    ((first, second),) = postprocess(
        codes, [*SOFTMAX, {"op": "top_k", "k": 2}], quantization=GRID, labels=("cat", "dog", "owl")
    )

    scores = plain_softmax([0.0, 1.0, 4.0])
    assert (first, second) == ((2, "owl", scores[2]), (1, "dog", scores[1]))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("softmax", "must be a list"),
        (["softmax"], "step 1: must be a table"),
        ([{"op": "softmx"}], "unknown op 'softmx' (did you mean 'softmax'?)"),
        ([{"op": "softmax", "axis": 1}], "unknown option 'axis' (it has no options)"),
        ([{"op": "top_k", "n": 1}], "unknown option 'n' (known: k, threshold)"),
        ([{"op": "top_k", "k": 0}], "'k' must be a positive integer"),
        ([{"op": "top_k", "k": True}], "'k' must be a positive integer"),
        ([{"op": "top_k", "threshold": float("nan")}], "'threshold' must be a number"),
        ([{"op": "top_k"}, {"op": "softmax"}], "which must be the last step"),
        ([{"op": "softmax"}, {"op": "softmax"}], "stands there twice"),
        ([{"op": "softmax"}, {"op": "dequantize"}], "must be the first step"),
    ],
)
def test_a_wrong_step_is_named(steps: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        validate_steps(steps)

    assert message in str(caught.value)


def test_codes_need_their_grid() -> None:
    with pytest.raises(ValueError, match=r"step 1 \(dequantize\): .*'quantization' is not known"):
        postprocess(np.zeros((1, 2), np.int8), SOFTMAX)
    with pytest.raises(ValueError, match=r"step 1 \(softmax\): works on real values"):
        postprocess(np.zeros((1, 2), np.int8), [{"op": "softmax"}])


def test_every_op_is_described() -> None:
    assert set(describe_ops()) == {"dequantize", "softmax", "sigmoid", "top_k"}
    assert all(describe_ops().values())


def test_the_file_stands_alone(tmp_path: Path) -> None:
    code = (
        "import importlib.util, numpy as np, sys\n"
        f"spec = importlib.util.spec_from_file_location('shipped', {module.__file__!r})\n"
        "shipped = importlib.util.module_from_spec(spec); spec.loader.exec_module(shipped)\n"
        "print(shipped.postprocess(np.zeros((1, 2), np.float32), [{'op': 'softmax'}]).tolist(), 'edgepack' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )

    assert done.stdout.strip() == "[[0.5, 0.5]] False"
