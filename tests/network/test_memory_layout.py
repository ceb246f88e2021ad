"""Images lie channels last in memory where a network takes them so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgepack.network.memory_layout import fastest_layout, laid, lay


class _Views(nn.Module):
    """As many networks do: what a convolution gave is one row a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(images)
        return found.view(len(images), -1)


def test_convolutions_take_channels_last() -> None:
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    images = torch.randn(2, 3, 8, 8)
    wanted = network(images)

    assert fastest_layout((network,), (images,)) is torch.channels_last
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(*laid((images,), torch.channels_last)), wanted)
    assert lay(network, torch.contiguous_format)[0].weight.is_contiguous()


def test_a_forward_that_asks_for_strides_keeps_the_layout_that_it_was_written_for() -> None:
    network, images = _Views(), torch.randn(2, 3, 8, 8)

    assert fastest_layout((nn.Conv2d(3, 4, 1), network), (images,)) is torch.contiguous_format
    assert network.layer.weight.is_contiguous()
    assert network(images).shape == (2, 4 * 36)


class _Strides(nn.Module):
    """Takes for granted how what a convolution gave lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).as_strided((len(images), 36), (144, 1)).relu()


class _Insists(_Views):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.is_contiguous()
        return super().forward(images)


@pytest.mark.parametrize("make", [_Strides, _Insists])
def test_a_forward_that_would_be_wrong_or_refuse_keeps_its_layout(make: Any) -> None:
    network, images = make(), torch.randn(2, 3, 8, 8)
    wanted = network(images)

    assert fastest_layout((network,), (images,)) is torch.contiguous_format
    assert torch.equal(network(images), wanted)


def test_networks_without_convolutions_stay_as_they_are() -> None:
    assert fastest_layout((nn.Linear(4, 2),), (torch.randn(2, 4),)) is torch.contiguous_format
    ids = torch.arange(4)
    assert laid((ids,), torch.channels_last)[0] is ids
