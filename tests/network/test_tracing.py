"""A network as a graph: a batch of any size where the forward allows it, and images that enter as NHWC."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.network.tracing import graph_of, take_nhwc
from network.test_grid import model_of


def test_a_forward_that_fixes_the_batch_is_refused_where_it_should_be_open() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, -1) if x.shape[0] == 1 else x.reshape(2, -1)

    model = model_of(Fixed, (2, 4, 4))

    with pytest.raises(UnsupportedError, match="dynamic_batch"):
        graph_of(model.network, model, dynamic_batch=True)


def test_an_image_that_enters_as_nhwc_gives_the_same_outputs() -> None:
    model = model_of(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), (2, 6, 5))
    graph, x = graph_of(model.network, model, dynamic_batch=False), torch.randn(1, 2, 6, 5)

    take_nhwc(graph, (True,))

    with torch.no_grad():
        torch.testing.assert_close(graph(x.permute(0, 2, 3, 1)), model.network(x))
