"""Small real models, converted once a session: a float network, its int8 twin, and one with two inputs and outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn


class SmallNet(nn.Module):
    """(N, 1, 8, 8) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.linear = nn.Linear(64, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(image)).flatten(1))


class TwoWays(nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return first - 2 * second, first + 1


@dataclass(frozen=True, kw_only=True)
class Models:
    net: SmallNet
    float32: Path
    int8: Path
    float_border: Path
    two_ways: Path


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Six samples, (6, 1, 8, 8) float32."""
    return np.random.default_rng(0).standard_normal((6, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> Models:
    import litert_torch  # slow to import: only when a model is needed
    from ai_edge_quantizer import recipe

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    net = SmallNet().eval()
    litert_torch.convert(net, (torch.zeros(1, 1, 8, 8),)).export(folder / "float32.tflite")
    pair = (torch.zeros(1, 3), torch.zeros(1, 3))
    litert_torch.convert(TwoWays().eval(), pair).export(folder / "two_ways.tflite")
    float_border = [
        {"regex": ".*", "operation": kind, "algorithm_key": "no_quantize", "op_config": {}}
        for kind in ("INPUT", "OUTPUT")
    ]
    quantized(folder / "float32.tflite", folder / "int8.tflite", recipe.static_wi8_ai8(), images)
    quantized(folder / "float32.tflite", folder / "border.tflite", [*recipe.static_wi8_ai8(), *float_border], images)
    return Models(
        net=net,
        float32=folder / "float32.tflite",
        int8=folder / "int8.tflite",
        float_border=folder / "border.tflite",
        two_ways=folder / "two_ways.tflite",
    )


def quantized(source: Path, target: Path, recipe: list[dict[str, Any]], images: np.ndarray) -> None:
    from ai_edge_quantizer import quantizer

    quantization = quantizer.Quantizer(str(source), recipe)
    # Three times as large, as the quantizer averages ranges over samples: so the samples themselves don't saturate.
    calibration = quantization.calibrate({"serving_default": [{"args_0": 3 * image[None]} for image in images]})
    quantization.quantize(calibration).export_model(str(target))
