"""What every part of the statistics shares: an interval, its usual confidence, and samples as an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]

CONFIDENCE = 0.95


def values_of(samples: ArrayLike) -> NDArray[np.float64]:
    """The samples as a flat array. Raises ValueError when there are none."""
    values = np.asarray(samples, dtype=np.float64).reshape(-1)
    if not len(values):
        raise ValueError("no samples")
    return values
