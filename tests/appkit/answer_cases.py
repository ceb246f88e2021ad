"""Cases of postprocessing with the answers of the Python reference, for the ports in other languages."""

from __future__ import annotations

from typing import Any

import numpy as np
from app_vectors import encoded

from edgepack.agent.postprocess import postprocess

_SOFTMAX, _SIGMOID, _DEQUANTIZE = {"op": "softmax"}, {"op": "sigmoid"}, {"op": "dequantize"}


def answer_cases() -> list[dict[str, Any]]:
    """Inputs, steps and grids; `scores` is a float32 array, `top` a list of [index, label, score] or null."""
    rng = np.random.default_rng(11)
    logits = (rng.standard_normal(1000) * 12).astype(np.float32)
    far = np.array([0.0, -0.0, 1e-30, 88.0, -88.0, 700.0, -709.5, -3e38, 3e38, 1.0], np.float32)
    codes = rng.integers(-128, 128, 10).astype(np.int8)
    ties = np.array([0.2, 0.5, 0.5, 0.1, 0.5, -0.1], np.float32)
    best = {"op": "top_k", "k": 5, "threshold": 0.0}
    grid = {"scale": float(np.float32(0.0426442772)), "zero_point": -29}
    return [
        _case(logits, [_SOFTMAX, best]),
        _case(logits, [_SIGMOID]),
        _case(far, [_SOFTMAX]),
        _case(far, [_SIGMOID]),
        _case(codes, [_DEQUANTIZE], **grid),
        _case(
            codes,
            [_DEQUANTIZE, _SOFTMAX, {"op": "top_k", "k": 3, "threshold": 0.05}],
            labels=list("abcdefghij"),
            **grid,
        ),
        _case(
            codes.view(np.uint8), [_DEQUANTIZE, _SIGMOID, best], labels=["only one"], scale=grid["scale"], zero_point=99
        ),
        _case(ties, [{"op": "top_k", "k": 4, "threshold": 0.15}]),
        _case(np.array([np.nan, 1.0, -1.0], np.float32), [best]),
    ]


def _case(
    values: Any, steps: list[dict[str, Any]], *, scale: float | None = None, zero_point: int = 0, labels: Any = None
) -> dict[str, Any]:
    grid = None if scale is None else {"scale": [scale], "zero_point": [zero_point], "axis": None}
    scoring = [step for step in steps if step["op"] != "top_k"]
    scores = postprocess(values[None], scoring, quantization=grid)[0]
    top = None
    if len(scoring) < len(steps):
        (found,) = postprocess(values[None], steps, quantization=grid, labels=labels)
        top = [list(answer) for answer in found]
    return {
        "input": encoded(values), "steps": steps, "scale": scale, "zero_point": zero_point, "labels": labels,
        "scores": encoded(scores.astype(np.float32)), "top": top,
    }  # fmt: skip
