from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real float32 model: (1, 3, 8, 8) to (1, 4)."""
    import litert_torch
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 6 * 6, 4)
    ).eval()
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    litert_torch.convert(network, (torch.zeros(1, 3, 8, 8),)).export(str(path))
    return path
