"""Two int8 models, one of which does exactly 10 % more: 40 and 44 equal convolutions, one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DEPTH, DEEPER = 40, 44
_CHANNELS, _SIDE = 16, 32


def make_models(folder: Path) -> tuple[Path, Path]:
    """The usual one and the slower one, each as a .tflite file that is made unless it is there."""
    found = []
    for depth in (DEPTH, DEEPER):
        path = folder / f"convolutions_{depth}.tflite"
        if not path.is_file():
            _make(depth, path)
        found.append(path)
    return found[0], found[1]


def _make(depth: int, path: Path) -> None:
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    torch.manual_seed(0)
    layers = [
        layer for _ in range(depth) for layer in (torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), torch.nn.ReLU())
    ]
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    path.parent.mkdir(parents=True, exist_ok=True)
    float_path = path.with_suffix(".float.tflite")
    litert_torch.convert(torch.nn.Sequential(*layers).eval(), (torch.zeros(shape),)).export(str(float_path))
    quantize = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai8())
    samples = {
        "serving_default": [
            {"args_0": one.astype(np.float32)} for one in np.random.default_rng(0).normal(0, 1, (4, *shape))
        ]
    }
    model = quantize.quantize(quantize.calibrate(samples)).quantized_model
    float_path.unlink()
    path.write_bytes(bytes(model))
