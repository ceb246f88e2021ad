from __future__ import annotations

import pytest

from edgepack.core.types import Signature
from edgepack.stages.verify import _golden_count


@pytest.mark.parametrize(
    ("shape", "dtype", "count"),
    [
        pytest.param((1, 8, 8, 1), "int8", 8, id="small samples"),
        pytest.param((1, 224, 224, 3), "int8", 3, id="an ImageNet model's"),
        pytest.param((1, 512, 512, 3), "float32", 2, id="large ones, of which a batch still has two"),
    ],
)
def test_golden_samples_are_fewer_where_they_are_large_beside_a_model(
    shape: tuple[int, ...], dtype: str, count: int
) -> None:
    inputs = [Signature(name="image", shape=shape, dtype=dtype, layout="NHWC", quantization=None)]

    assert _golden_count(inputs) == count
