"""Train a dense LeNet and write the weights that a recipe names.

    python train.py [--recipe lenet_5.toml] [--epochs 30]

Samples and preprocessing are those of the recipe, so the network sees in training what it will see on the device.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.core.files import write_atomic
from edgepack.core.types import Samples
from edgepack.data.samples import load_samples
from edgepack.recipe import DataSection, Recipe, load_recipe

if TYPE_CHECKING:  # torch takes seconds to import: only when there is something to train
    from torch import nn

FOLDER = Path(__file__).resolve().parent
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
SHIFT_PIXELS = 2


def main() -> None:
    """Train and write the weights in one piece."""
    parser = argparse.ArgumentParser(description="Train a dense LeNet and write the weights that a recipe names.")
    parser.add_argument("--recipe", type=Path, default=FOLDER / "edgepack.toml", help="default: edgepack.toml")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the images (default: %(default)s)")
    options = parser.parse_args()
    train_and_save(load_recipe(options.recipe), epochs=options.epochs)


def train_and_save(recipe: Recipe, *, epochs: int) -> None:
    """Train on the recipe's training samples, and judge the result on its evaluation samples."""
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    module, _, function = str(recipe.model.factory).partition(":")
    network = getattr(importlib.import_module(module), function)()
    train, test = (
        samples_of(recipe, recipe.data.train, "train"),
        samples_of(recipe, recipe.data.evaluation, "evaluation"),
    )
    started = time.monotonic()
    fit(network, train, epochs=epochs)
    facts = (
        f"{accuracy_of(network, test):.2%} of {len(test):,} test images right, after {time.monotonic() - started:.0f} s"
    )
    print(facts)
    file = FOLDER / str(recipe.model.weights)
    write_atomic(file, save({name: value.contiguous() for name, value in network.state_dict().items()}))
    print(f"wrote {file.name}")


def samples_of(recipe: Recipe, section: DataSection | str | None, role: str) -> Samples:
    """The labelled samples of one role, preprocessed as in the build and on the device."""
    assert section is not None  # the recipes beside this file have both roles
    return load_samples(section, recipe.preprocess, folder=FOLDER, inputs=recipe.model.inputs, role=role, labelled=True)


def fit(network: nn.Module, samples: Samples, *, epochs: int) -> None:
    """Adam, the learning rate falling along half a cosine; each image is shifted at random."""
    import torch
    from torch.nn import functional

    images, labels = torch.from_numpy(samples.inputs["image"]), torch.from_numpy(samples.labels)
    padded = functional.pad(images, (SHIFT_PIXELS,) * 4).unfold(2, 28, 1).unfold(3, 28, 1)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    steps = len(images) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for epoch in range(epochs):
        total_loss = 0.0
        for batch in torch.randperm(len(images)).split(BATCH_SIZE)[:steps]:
            rows, columns = torch.randint(0, 2 * SHIFT_PIXELS + 1, (2, len(batch)))
            loss = functional.cross_entropy(network(padded[batch, :, rows, columns]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        print(f"epoch {epoch + 1:2}/{epochs}  loss {total_loss / steps:.4f}", flush=True)


def accuracy_of(network: nn.Module, samples: Samples) -> float:
    """Share of images whose label has the largest score."""
    import torch

    images, labels = torch.from_numpy(samples.inputs["image"]), torch.from_numpy(samples.labels)
    with torch.inference_mode():
        right = sum(
            int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(labels)


if __name__ == "__main__":
    main()
