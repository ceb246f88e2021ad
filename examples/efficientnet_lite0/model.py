"""EfficientNet-Lite0 with the architecture of the package efficientnet-lite-pytorch; the recipes name the weights."""

from __future__ import annotations

from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def make() -> nn.Module:
    """The network as published: (N, 3, 224, 224) → (N, 1000) scores of the ImageNet classes, in sorted-synset order."""
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network
