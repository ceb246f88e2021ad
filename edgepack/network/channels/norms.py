"""Batch norms' statistics, measured anew on a network that has changed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every batch norm that keeps running statistics."""
    found = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    return [layer for layer in found if layer.running_mean is not None]


def measure_anew(network: nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Replace the running statistics by the mean over these batches; a last one of one sample doesn't count, as a sample alone may have no variance."""
    norms = batch_norms(network)
    rest = iter(batches)
    first = next(rest, None) if norms else None
    if first is None:
        return
    momentum = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    with torch.no_grad():
        for batch in chain([first], rest):
            if len(batch[0]) > 1 or len(first[0]) == 1:
                network(*batch)
    for layer, own in zip(norms, momentum, strict=True):
        layer.momentum = own
        layer.eval()
