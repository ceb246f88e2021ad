"""LeNet-300-100 and LeNet-5 (as Caffe has it: 20-50-500-10), MNIST, and their dense training."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.network.model import Model, predict
from edgepack.network.train import Trainer
from edgepack.network.training import Training

VALIDATION = 5000  # of the 60,000 training images; the 10,000 test images only judge


class Lenet300(nn.Module):
    """784-300-100-10 (LeCun et al. 1998): 266,610 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(image.flatten(1))))))
        return scores


class Lenet5(nn.Module):
    """Caffe's LeNet: 431,080 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = functional.max_pool2d(self.conv2(functional.max_pool2d(self.conv1(image), 2)), 2)
        scores: torch.Tensor = self.fc2(functional.relu(self.fc1(features.flatten(1))))
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Mnist:
    """Images 0…1, NCHW: 55,000 to train, 5,000 to choose the operating point, 10,000 to judge."""

    train: Samples
    validation: Samples
    test: Samples


@cache
def mnist() -> Mnist:
    """From EDGEPACK_TEST_DATA."""
    with np.load(Path(os.environ["EDGEPACK_TEST_DATA"]) / "mnist.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}

    def samples(part: str) -> Samples:
        images = arrays[f"x_{part}"].reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
        return Samples(inputs={"image": images}, labels=arrays[f"y_{part}"].reshape(-1).astype(np.int64))

    known, order = samples("train"), np.random.default_rng(1234).permutation(len(arrays["x_train"]))
    return Mnist(train=known.take(order[VALIDATION:]), validation=known.take(order[:VALIDATION]), test=samples("test"))


def model_of(make: Callable[[], nn.Module]) -> Model:
    """The untrained network as the methods take it."""
    return Model(
        network=make().eval(),
        build=lambda: make().eval(),
        inputs=(TensorSpec(name="image", shape=(1, 1, 28, 28), layout="NCHW"),),
        outputs=(TensorSpec(name="output", shape=(1, 10)),),
    )


def dense(make: Callable[[], nn.Module], file: Path, *, seed: int, epochs: int, shifted: bool) -> Model:
    """The trained dense network; kept in `file`."""
    torch.manual_seed(seed)
    model = model_of(make)
    if not file.is_file():
        options = Training(
            epochs=epochs, batch_size=128, learning_rate=1e-3, loss="labels", holdout=0.0,
            augment=("shift",) if shifted else (),
        )  # fmt: skip
        checkpoint = file.with_suffix(".checkpoint")
        Trainer(
            model, make(), mnist().train, options, checkpoint=checkpoint, key=file.name, seed=seed,
        ).run(Silent(), what=file.stem)  # fmt: skip
        save_file({name: value.contiguous() for name, value in model.network.state_dict().items()}, file)
        checkpoint.unlink(missing_ok=True)
    model.network.load_state_dict(load_file(file))
    return model


def accuracy(model: Model, samples: Samples) -> float:
    """Per cent of right answers."""
    (scores,) = predict(model, samples, batch_size=500).values()
    assert samples.labels is not None
    return 100 * float((scores.argmax(1) == samples.labels).mean())
