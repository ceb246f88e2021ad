"""MNIST, 784-128-10 → 784-64-10: a student of half the hidden units that learns from labels alone, or from the larger network as well.

All networks train alike: 20 epochs on 55,000 images shifted by at most one pixel, the state with the best loss on a tenth of them is kept. The 10,000
test images only judge; the teacher of a seed is the dense network of that seed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.lenet_models import accuracy, mnist
from edgepack.core.types import Silent, TensorSpec
from edgepack.network.model import Model
from edgepack.network.train import Trainer
from edgepack.network.training import Training

EPOCHS = int(os.environ.get("EDGEPACK_DISTILL_EPOCHS", "20"))
SEEDS = range(int(os.environ.get("EDGEPACK_DISTILL_SEEDS", "3")))
LABELS: dict[str, Any] = {"loss": "labels"}
TEACHER: dict[str, Any] = {"temperature": 4.0}
# How a student of 64 hidden units learns.
WAYS: dict[str, dict[str, Any]] = {
    "labels alone": LABELS,
    "teacher alone, temperature 4": TEACHER,
    "teacher and labels (labels_weight 0.3)": {**TEACHER, "labels_weight": 0.3},
    "teacher and hidden units (features_weight 20)": {**TEACHER, "features": ("hidden",), "features_weight": 20.0},
}


class Mlp(nn.Module):
    """784-hidden-10."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(self.hidden(self.first(image.flatten(1))))
        return scores


def run() -> None:
    """Train all of them for each seed and print a table."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out, EDGEPACK_TEST_DATA is not set")
        return
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for seed in SEEDS:
        dense = trained(128, seed, LABELS, None)
        tested(found, sizes, "784-128-10, labels", dense)
        for way, options in WAYS.items():
            tested(found, sizes, f"784-64-10, {way}", trained(64, seed, options, dense))
    table = Table("network", "test accuracy %", "parameters", "bytes (float32)")
    for name, values in found.items():
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        table.add_row(name, f"{np.mean(values):.2f} ± {spread:.2f}", f"{sizes[name]:,}", f"{4 * sizes[name]:,}")
    Console(width=110).print(table)
    print(f"mean ± standard deviation over {len(SEEDS)} seeds, {EPOCHS} epochs each")


def trained(hidden: int, seed: int, options: dict[str, Any], teacher: Model | None) -> Model:
    """A network of that many hidden units."""
    torch.manual_seed(100 * hidden + seed)
    network = Mlp(hidden)
    model = Model(
        network=network,
        build=lambda: Mlp(hidden),
        inputs=(TensorSpec(name="image", shape=(1, 1, 28, 28)),),
        outputs=(TensorSpec(name="scores", shape=(1, 10)),),
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            model,
            Mlp(hidden) if teacher is None else teacher.network,
            mnist().train,
            Training(epochs=EPOCHS, batch_size=128, learning_rate=3e-3, augment=("shift",), shift_pixels=1, **options),
            checkpoint=Path(folder) / "checkpoint.pt",
            key="distill",
            seed=seed,
        ).run(Silent(), what="training")
    return model


def tested(found: dict[str, list[float]], sizes: dict[str, int], name: str, model: Model) -> None:
    """Note a network's accuracy and size, and say so at once."""
    found.setdefault(name, []).append(accuracy(model, mnist().test))
    sizes[name] = sum(value.numel() for value in model.network.parameters())
    print(f"{name}: {found[name][-1]:.2f} %", flush=True)
