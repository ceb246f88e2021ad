"""How large a layer's two factors are for a share of its energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIDE_MAX = 1024  # larger ones cost seconds: the spectrum of that many of their rows and columns stands for theirs


def energy_curve(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of the sum of squared singular values that the first 1, 2, … hold."""
    squares = np.linalg.svd(matrix[:_SIDE_MAX, :_SIDE_MAX], compute_uv=False).astype(np.float64) ** 2
    return np.asarray(np.cumsum(squares) / max(float(squares.sum()), 1e-30))


def kept_share(curve: NDArray[np.float64], shape: tuple[int, int], energy: float) -> float:
    """How many parameters two factors with that energy have, over those of the layer; 1 where they are no fewer."""
    rank = (1 + int(np.searchsorted(curve, energy))) * min(shape) / max(1, len(curve))
    return min(1.0, rank * sum(shape) / (shape[0] * shape[1]))
