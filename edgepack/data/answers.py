"""What a model's output means: the postprocessing steps of a recipe, or those that suit the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.agent import postprocess as agent
from edgepack.core.errors import RecipeError
from edgepack.core.types import Array, QuantParams
from edgepack.recipe import PostprocessStep

_TOP = 5
_SHARES_APART = (
    0.05  # how far the sum of a sample's shares may be from 1: an int8 softmax of 10 classes is up to 0.02 off
)


def postprocess_file() -> Path:
    """The reference implementation of the postprocessing steps, which a bundle ships."""
    return Path(agent.__file__)


def plain_answer_steps(steps: Sequence[PostprocessStep]) -> tuple[dict[str, Any], ...]:
    """The postprocessing steps of a recipe as a bundle stores them. Raises RecipeError for a step that is wrong."""
    plain = tuple({"op": step.op, **step.options()} for step in steps)
    try:
        agent.validate_steps(plain)
    except ValueError as exc:
        raise RecipeError(f"bundle.{exc}") from exc
    return plain


def default_answer_steps(
    labels: Sequence[str] | None, outputs: Array, grid: QuantParams | None
) -> tuple[dict[str, Any], ...]:
    """The steps for a model whose recipe names none: real values, and with labels the five likeliest classes.

    `outputs` (N, …) are what the model file answers to some samples; where they are no shares that add up to 1, a softmax makes them so.
    """
    if not labels:
        return ({"op": "dequantize"},)
    top = {"op": "top_k", "k": min(_TOP, len(labels)), "threshold": 0.0}
    real = answers(outputs, ({"op": "dequantize"},), grid=grid, labels=None).astype(np.float64)
    sums = real.reshape(len(real), -1).sum(axis=1)
    are_shares = bool((real >= 0).all()) and bool((np.abs(sums - 1) <= _SHARES_APART).all())
    return ({"op": "dequantize"}, *(() if are_shares else ({"op": "softmax"},)), top)


def answers(
    outputs: Array, steps: Sequence[Mapping[str, Any]], *, grid: QuantParams | None, labels: Sequence[str] | None
) -> Any:
    """What a model file's outputs (N, …) mean by some steps. Raises ValueError that names the step."""
    quantization = None if grid is None else {"scale": grid.scale, "zero_point": grid.zero_point, "axis": grid.axis}
    return agent.postprocess(outputs, steps, quantization=quantization, labels=labels)
