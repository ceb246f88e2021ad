"""Train the classifier from scratch and write weights.safetensors, which edgepack.toml names.

    python train.py [--force] [--threads 1]

Samples and preprocessing are those of edgepack.toml, so the network sees in training what it will see on the device.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from edgepack.core.files import write_atomic
from edgepack.core.types import Samples
from edgepack.data.samples import load_samples
from edgepack.recipe import DataSection, Recipe, load_recipe

if TYPE_CHECKING:  # torch takes seconds to import: only when there is something to train
    import torch
    from torch import nn

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "weights.safetensors"
SEED = 0
EPOCHS = 25
BATCH_SIZE = 64
LEARNING_RATE = 4e-3
LABEL_SMOOTHING = 0.05
SHIFT_PIXELS = 2


def main() -> None:
    """Train, unless the weights of this very code and recipe are there already."""
    parser = argparse.ArgumentParser(description="Train the example's network and write weights.safetensors.")
    parser.add_argument("--force", action="store_true", help="train even if the weights are there already")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    options = parser.parse_args()
    recipe = load_recipe(FOLDER / "edgepack.toml")
    digest = training_digest(recipe)
    known = "" if options.force else facts_of(WEIGHTS, digest)
    if known:
        print(f"{WEIGHTS.name} is up to date ({known}); --force trains again")
        return
    train_and_save(recipe, digest, threads=options.threads)


def training_digest(recipe: Recipe) -> str:
    """One digest over everything that decides about the weights: this code, the model, the data and its preprocessing."""
    decides = recipe.model_dump(mode="json", include={"model", "data", "preprocess"})
    code = [(FOLDER / name).read_bytes() for name in ("train.py", "model.py")]
    return hashlib.sha256(b"\0".join([*code, json.dumps(decides, sort_keys=True).encode()])).hexdigest()


def facts_of(weights: Path, digest: str) -> str:
    """What is known about weights that were made by this digest; '' if they are others, damaged or missing."""
    try:
        with safe_open(weights, framework="numpy") as file:
            facts = file.metadata() or {}
    except (OSError, SafetensorError):
        return ""
    return facts.get("facts", "") if facts.get("digest") == digest else ""


def train_and_save(recipe: Recipe, digest: str, *, threads: int) -> None:
    """Train, judge the result on the evaluation samples, and write the weights in one piece."""
    import torch
    from model import make
    from safetensors.torch import save

    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    train = samples_of(recipe, recipe.data.train, role="train")
    test = samples_of(recipe, recipe.data.evaluation, role="evaluation")
    network = make(**recipe.model.args)
    print(f"training {sum(p.numel() for p in network.parameters()):,} parameters on {len(train):,} images")
    started = time.monotonic()
    fit(network, *tensors_of(recipe, train))
    accuracy = accuracy_of(network, *tensors_of(recipe, test))
    facts = f"{accuracy:.2%} of {len(test):,} test images right"
    print(f"{facts}, after {time.monotonic() - started:.0f} s")
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomic(WEIGHTS, save(state, metadata={"digest": digest, "facts": facts}))
    print(f"wrote {WEIGHTS.name}")


def samples_of(recipe: Recipe, section: DataSection | str | None, *, role: str) -> Samples:
    """The samples of one role, preprocessed as in the build and on the device."""
    assert section is not None  # the recipe beside this file has both roles
    return load_samples(section, recipe.preprocess, folder=FOLDER, inputs=recipe.model.inputs, role=role, labelled=True)


def tensors_of(recipe: Recipe, samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 28, 28) and labels (N,)."""
    import torch

    return torch.from_numpy(samples.inputs[recipe.model.inputs[0].name]), torch.from_numpy(samples.labels)


def fit(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Adam with one cycle of the learning rate; each batch is shifted at random."""
    import torch
    from torch.nn import functional

    steps_per_epoch = len(images) // BATCH_SIZE
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs=EPOCHS, steps_per_epoch=steps_per_epoch
    )
    for epoch in range(EPOCHS):
        network.train()
        total_loss = 0.0
        # The last samples of an epoch that fill no batch are left out; another epoch's order brings them in.
        for batch in torch.randperm(len(images)).split(BATCH_SIZE)[:steps_per_epoch]:
            scores = network(shifted(images[batch]))
            loss = functional.cross_entropy(scores, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        print(f"epoch {epoch + 1:2}/{EPOCHS}  loss {total_loss / steps_per_epoch:.4f}", flush=True)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The images, each moved by up to SHIFT_PIXELS both ways; the border repeats."""
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    padded = functional.pad(images, (SHIFT_PIXELS,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * SHIFT_PIXELS + 1, (len(images), 2)).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)])


def accuracy_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose label has the largest score."""
    import torch

    network.eval()
    with torch.inference_mode():
        right = sum(
            int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(250), labels.split(250), strict=True)
        )
    return right / len(labels)


if __name__ == "__main__":
    main()
