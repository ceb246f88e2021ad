"""Golden samples in the few types that the kits of small languages read."""

from __future__ import annotations

import numpy as np

from edgepack.appkit.steps import app_input
from edgepack.bundle import Bundle
from edgepack.bundle.golden import float_step, read_golden, read_raw, to_npy
from edgepack.bundle.manifest import Variant


def raw_npy(bundle: Bundle, variant: Variant) -> bytes | None:
    """The raw golden samples as `.npy`: uint8 images, or values as float32, which every step makes of them first; None where there are none."""
    if variant.golden is None or (raw := read_raw(bundle, variant)) is None:
        return None
    is_image = app_input(bundle, variant).takes == "image"
    return to_npy(raw if is_image else raw.astype(np.float32))


def golden_step(bundle: Bundle, variant: Variant) -> float:
    """What one step of the first output is worth in its own unit: 1 for codes."""
    assert variant.golden is not None
    tensor, steps = variant.outputs[0], variant.golden.output_steps
    if tensor.dtype != "float32":
        return 1.0
    if steps is not None:
        return float(steps[0])
    return float(float_step(read_golden(bundle, variant).outputs[tensor.name])) or 1.0
