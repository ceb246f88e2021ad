"""The LeNets that compression is measured on since Deep Compression (Han et al. 2016, arXiv:1510.00149)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def make_300_100() -> nn.Module:
    """784-300-100-10, untrained: (N, 1, 28, 28) → (N, 10) scores."""
    return Lenet300()


def make_5() -> nn.Module:
    """LeNet-5 as Caffe has it (20-50-500-10), untrained: (N, 1, 28, 28) → (N, 10) scores."""
    return Lenet5()


class Lenet300(nn.Module):
    """Three linear layers, 266,610 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        scores: torch.Tensor = self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(images.flatten(1))))))
        return scores


class Lenet5(nn.Module):
    """Two convolutions and two linear layers, 431,080 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        features = functional.max_pool2d(self.conv2(functional.max_pool2d(self.conv1(images), 2)), 2)
        scores: torch.Tensor = self.fc2(functional.relu(self.fc1(features.flatten(1))))
        return scores
