"""Small networks with what edge networks are made of; batch norms do something, one factor of each is negative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def block(
    channels: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out), act()
    )


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * functional.hardsigmoid(self.expand(functional.relu(self.reduce(self.pool(x)))))


class HardSwishAndExcite(nn.Module):
    """As in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 16, act=nn.Hardswish)
        self.depthwise = block(16, 16, groups=16, stride=2, act=nn.Hardswish)
        self.excite = SqueezeExcite(16)
        self.point = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head, self.classes, self.dropout = nn.Linear(16, 32), nn.Linear(32, 10), nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.point(self.excite(self.depthwise(self.stem(x))))
        y = functional.adaptive_avg_pool2d(y + self.point(y), 1).flatten(1)
        return self.classes(self.dropout(functional.hardswish(self.head(y))))


class Inception(nn.Module):
    """Branches, concatenation, both poolings, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.narrow = block(3, 16), block(16, 8), block(16, 8, kernel=1)
        self.linear = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 2)
        x = functional.avg_pool2d(torch.cat([self.wide(x), self.narrow(x)], 1), 2)
        return functional.softmax(self.linear(x.flatten(1)), 1)


class UNet(nn.Module):
    """A transposed convolution, a skip by concatenation, bilinear upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = block(3, 8), block(8, 16, stride=2)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 4, 1)
        self.larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        up = functional.relu(self.up(self.bottom(skip)))
        return self.larger(self.out(torch.cat([skip, up], 1)))


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(torch.tanh(self.second(functional.relu(self.norm(self.first(x))))))


class Signal(nn.Module):
    """One-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(8, 16, 3, padding=1), nn.BatchNorm1d(16)
        self.second, self.linear = nn.Conv1d(16, 16, 3, stride=2, groups=16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(functional.relu(self.second(functional.relu(self.norm(self.first(x))))).mean(-1))


class SharedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.linear = block(3, 8), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.conv(self.stem(x)))
        return self.linear(functional.relu(self.conv(x)).mean((2, 3)))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = block(3, 8, stride=2), nn.Linear(8, 10), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.stem(x).mean((2, 3))
        return self.first(y), self.second(y)


class Dense(nn.Module):
    """Dense connections; batch norm before the convolution, where nothing can take it in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.first = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.second = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, 1, 1))
        self.linear = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.first(x)], 1)
        x = torch.cat([x, self.second(x)], 1)
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    """An inverted residual block, as in MobileNetV2: the last convolution has no activation and is only added to something."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = block(3, 8, act=nn.ReLU6), block(8, 8, groups=8, act=nn.ReLU6)
        self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.down, self.linear = block(8, 16, stride=2, act=nn.ReLU6), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.down(x + self.point(self.depthwise(x)))
        return self.linear(x.mean((2, 3)))


class PaddedShortcut(nn.Module):
    """A residual network whose shortcut drops every second pixel and pads channels, as ResNets on CIFAR-10 have (option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.linear = block(3, 8), block(8, 16, stride=2), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = functional.relu(self.down(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.linear(x.mean((2, 3)))


class Grouped(nn.Module):
    """Convolutions in groups, as in ResNeXt, and a depthwise one with a multiplier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.back = block(3, 16), block(16, 16, groups=4), nn.Conv2d(16, 16, 1)
        self.multiplied, self.linear = block(16, 32, groups=16, stride=2), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = functional.relu(x + self.back(self.grouped(x)))
        return self.linear(self.multiplied(x).mean((2, 3)))


class Attention(nn.Module):
    """One transformer block: layer norms, products of two activations, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.qkv, self.out = (
            nn.Linear(16, 32),
            nn.LayerNorm(32),
            nn.Linear(32, 96),
            nn.Linear(32, 32),
        )
        self.mlp = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(functional.softmax(query @ key.transpose(-1, -2) / 5.6, -1) @ value)
        return self.head((x + self.mlp(x)).mean(1))


Networks = dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]
# What every exporter takes.
ZOO: Networks = {
    "hard swish and squeeze-excite": (HardSwishAndExcite, (3, 16, 16)),
    "concatenation and poolings": (Inception, (3, 16, 16)),
    "u-net": (UNet, (3, 16, 16)),
    "perceptron with tanh": (Perceptron, (32,)),
    "one dimension": (Signal, (8, 40)),
    "shared weights": (SharedWeights, (3, 16, 16)),
    "two outputs": (TwoOutputs, (3, 16, 16)),
    "dense connections": (Dense, (3, 16, 16)),
    "inverted residual": (Residual, (3, 16, 16)),
}
# What some exporters take, too.
MORE: Networks = {
    "padded shortcut": (PaddedShortcut, (3, 16, 16)),
    "attention": (Attention, (6, 16)),
    "grouped": (Grouped, (3, 16, 16)),
}


def make(name: str) -> nn.Module:
    """A network of the zoo, the same values each time."""
    torch.manual_seed(0)
    network = (ZOO | MORE)[name][0]()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.2)
                norm.weight[0] *= -1
    return network.eval()
