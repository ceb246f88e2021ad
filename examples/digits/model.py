"""A small MobileNet-style classifier of 28×28 gray images, built of what int8 kernels compute well: convolutions, ReLU6 and sums."""

from __future__ import annotations

import torch
from torch import nn

STEM_CHANNELS = 24
# Of each inverted residual block: output channels, stride. 28×28 is 14×14 after the stem and 7×7 after the block with stride 2.
BLOCKS = ((24, 1), (64, 2), (64, 1), (96, 1))
EXPANSION = 4  # how much wider a block is inside
HEAD_CHANNELS = 320


def make(classes: int = 10) -> nn.Module:
    """The untrained network: (N, 1, 28, 28) → (N, classes) scores. `edgepack.toml` names this function."""
    return SmallMobileNet(classes)


class SmallMobileNet(nn.Module):
    """Stem, inverted residual blocks, head, global average pool, linear (Sandler et al. 2018, arXiv:1801.04381)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = _conv(1, STEM_CHANNELS, kernel=3, stride=2)
        blocks = []
        channels = STEM_CHANNELS
        for output_channels, stride in BLOCKS:
            blocks.append(InvertedResidual(channels, output_channels, stride))
            channels = output_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(channels, HEAD_CHANNELS, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        features = self.head(self.blocks(self.stem(images)))
        scores: torch.Tensor = self.classifier(self.pool(features).flatten(1))
        return scores


class InvertedResidual(nn.Module):
    """Widen, filter each channel (depthwise), narrow again; the input is added where shapes allow."""

    def __init__(self, channels: int, output_channels: int, stride: int) -> None:
        super().__init__()
        inside = channels * EXPANSION
        self.has_shortcut = stride == 1 and channels == output_channels
        self.layers = nn.Sequential(
            _conv(channels, inside, kernel=1),
            _conv(inside, inside, kernel=3, stride=stride, groups=inside),
            nn.Conv2d(inside, output_channels, 1, bias=False),
            nn.BatchNorm2d(output_channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The block's features, of shape (N, output_channels, H / stride, W / stride)."""
        result: torch.Tensor = self.layers(features)
        return features + result if self.has_shortcut else result


def _conv(channels: int, output_channels: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU6: one operation on the device."""
    return nn.Sequential(
        nn.Conv2d(channels, output_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(output_channels),
        nn.ReLU6(),
    )
