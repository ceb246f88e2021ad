"""Train a classifier from scratch: writes vocabulary.txt, tokens.npz and the weights that a recipe names.

python train.py [--recipe transformer.toml] [--data FOLDER] [--epochs 15]
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sentences import UNKNOWN, ids_of, read, split, vocabulary_of

from edgepack.core.files import stream_atomic, write_atomic
from edgepack.recipe import Recipe, load_recipe
from edgepack.stats import class_score

if TYPE_CHECKING:  # torch takes seconds to import: only when there is something to train
    from torch import nn

FOLDER = Path(__file__).resolve().parent
SEED = 0
BATCH_SIZE = 50
LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.1
FORGOTTEN = 0.1  # share of the words that a training step doesn't know: a new sentence has unknown ones, too


def main() -> None:
    """Prepare the sentences, train, and write everything."""
    parser = argparse.ArgumentParser(description="Train the example's network and write its weights.")
    default = Path(os.environ.get("EDGEPACK_TEST_DATA", ".")) / "sentiment_sentences"
    parser.add_argument("--data", type=Path, default=default, help="folder of the three text files (see README.md)")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the sentences (default: %(default)s)")
    parser.add_argument("--recipe", type=Path, default=FOLDER / "edgepack.toml", help="default: edgepack.toml")
    options = parser.parse_args()
    arrays = prepare(options.data)
    train_and_save(load_recipe(options.recipe), arrays, epochs=options.epochs)


def prepare(data: Path) -> dict[str, np.ndarray]:
    """Write the vocabulary of the training sentences, and all sentences as token ids: `x_train`, `y_train`, `x_validation` …"""
    parts = split(*read(data))
    vocabulary = vocabulary_of(parts["train"][0])
    arrays = {f"x_{name}": ids_of(sentences, vocabulary) for name, (sentences, _) in parts.items()}
    arrays |= {f"y_{name}": labels for name, (_, labels) in parts.items()}
    write_atomic(FOLDER / "vocabulary.txt", ("\n".join(vocabulary) + "\n").encode())
    with stream_atomic(FOLDER / "tokens.npz") as file:
        np.savez(file, **arrays)
    print(f"wrote vocabulary.txt ({len(vocabulary):,} tokens, {UNKNOWN} for all others) and tokens.npz")
    return arrays


def train_and_save(recipe: Recipe, arrays: dict[str, np.ndarray], *, epochs: int) -> None:
    """Train on the training sentences, tell how good the network is on the others, and write the weights in one piece."""
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    module, _, function = str(recipe.model.factory).partition(":")
    network = getattr(importlib.import_module(module), function)(**recipe.model.args)
    started = time.monotonic()
    fit(network, arrays["x_train"], arrays["y_train"], epochs=epochs)
    for part in ("validation", "test"):
        told(part, network, arrays[f"x_{part}"], arrays[f"y_{part}"])
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    file = FOLDER / str(recipe.model.weights)
    write_atomic(file, save(state))
    print(f"wrote {file.name}, after {time.monotonic() - started:.0f} s")


def fit(network: nn.Module, tokens: np.ndarray, labels: np.ndarray, *, epochs: int) -> None:
    """Adam with one cycle of the learning rate; now and then a word is taken for unknown."""
    import torch
    from torch.nn import functional

    sentences, answers = torch.from_numpy(tokens), torch.from_numpy(labels)
    steps = len(sentences) // BATCH_SIZE
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs=epochs, steps_per_epoch=steps)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(sentences)).split(BATCH_SIZE)[:steps]:
            words = sentences[batch]
            forgotten = (torch.rand(words.shape) < FORGOTTEN) & (words > 0)
            scores = network(words.masked_fill(forgotten, 1))
            loss = functional.cross_entropy(scores, answers[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def told(part: str, network: nn.Module, tokens: np.ndarray, labels: np.ndarray) -> None:
    """Print accuracy, precision, recall and F1 of the positive class."""
    import torch

    network.eval()
    with torch.inference_mode():
        answers = network(torch.from_numpy(tokens)).argmax(1).numpy()
    scores = {name: class_score(labels, answers, name, classes=2) for name in ("precision", "recall", "f1")}
    shown = "  ".join(f"{name} {value:.2%}" for name, value in scores.items())
    print(f"{part:10}  accuracy {(answers == labels).mean():.2%}  {shown}  ({len(labels)} sentences)")


if __name__ == "__main__":
    main()
