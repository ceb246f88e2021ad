"""Weights that share few values: the codebook is found by k-means and then trained, as in Deep Compression (Han et al. 2016, arXiv:1510.00149).

The gradient of a shared value is the sum over the weights that have it. Values lie on int8's grid from the start (their step is the largest one divided by
the largest code), so quantization later changes none of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parametrize

_ITERATIONS = 200


class Palette(nn.Module):
    """A parametrization of one weight: each value is one of its group's `centroids`, of shape (groups, entries), or zero.

    `signs` has the weight's shape: 0 where the weight stays zero, -1 in channels whose values are turned. `axis` are the output channels;
    `group_channels` of them, one after another, have a codebook of their own (None: all share one). `largest_code` is that of the grid.
    """

    index: torch.Tensor
    signs: torch.Tensor

    def __init__(
        self,
        weight: torch.Tensor,
        *,
        entries: int,
        axis: int,
        group_channels: int | None,
        largest_code: int,
        turned: torch.Tensor | None = None,
    ) -> None:
        """`turned`: -1 for output channels whose values are turned before they are shared, else 1."""
        super().__init__()
        self.largest_code = largest_code
        signs = (weight != 0).to(torch.int8)
        if turned is not None:
            signs = signs * turned.to(torch.int8).reshape([-1 if d == axis else 1 for d in range(weight.dim())])
        has_zeros = bool((signs == 0).any())
        rows = (weight * signs).movedim(axis, 0).flatten(1)
        size = group_channels or len(rows)
        groups = [rows[start : start + size].numpy() for start in range(0, len(rows), size)]
        books = [shared_values(group[group != 0], entries - has_zeros) for group in groups]
        index = np.concatenate([nearest(group, book) for group, book in zip(groups, books, strict=True)])
        self.register_buffer("signs", signs)
        index_rows = torch.from_numpy(index).reshape(weight.movedim(axis, 0).shape)
        group_of = torch.arange(len(rows)).div(size, rounding_mode="floor")
        offsets = (group_of * (entries - has_zeros)).reshape([-1] + [1] * (weight.dim() - 1))
        self.register_buffer("index", (index_rows + offsets).movedim(0, axis).contiguous())
        self.centroids = nn.Parameter(torch.from_numpy(np.stack(books).astype(np.float32)))

    def forward(self, _weight: torch.Tensor) -> torch.Tensor:
        """The weight that the network computes with."""
        return self.on_grid().flatten()[self.index] * self.signs

    def on_grid(self) -> torch.Tensor:
        """The centroids where quantization will have them; gradients pass straight through (arXiv:1308.3432)."""
        step = self.centroids.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / self.largest_code
        rounded = (self.centroids.detach() / step).round() * step
        return self.centroids + (rounded - self.centroids).detach()


def shared_values(values: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """The `count` values, rising, with about the least squared error to all (Lloyd's algorithm from evenly spaced values, which serve large
    weights, and from quantiles; the better of both). Values that nothing needs repeat the last one."""
    ordered = np.sort(values.astype(np.float64))
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return np.pad(distinct if len(distinct) else np.zeros(1), (0, count - max(1, len(distinct))), mode="edge")
    starts = (
        np.linspace(ordered[0], ordered[-1], count),
        np.quantile(ordered, (np.arange(count) + 0.5) / count),
    )
    found = [_lloyd(ordered, start) for start in starts]
    return min(found, key=lambda book: float(((book[nearest(ordered, book)] - ordered) ** 2).sum()))


def nearest(values: NDArray[np.floating], book: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of the nearest entry of a rising codebook, for each value."""
    edges = (book[1:] + book[:-1]) / 2
    return np.searchsorted(edges, values).astype(np.int64)


def attach(network: nn.Module, name: str, palette: Palette) -> None:
    """Let a weight, by its parameter name, have a palette's values from now on; its own values are kept, unused and untrained."""
    module, attribute = _place(network, name)
    parametrize.register_parametrization(module, attribute, palette)
    module.parametrizations[attribute].original.requires_grad_(False)  # type: ignore[union-attr, index]


def computed(network: nn.Module, name: str) -> torch.Tensor:
    """The weight that the network computes with."""
    module, attribute = _place(network, name)
    values: torch.Tensor = getattr(module, attribute)
    return values.detach()


def _lloyd(ordered: NDArray[np.float64], book: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of the nearest values, again and again until they stay; `ordered` values rise. An entry that nothing is near keeps its place."""
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    for _ in range(_ITERATIONS):
        bounds = np.concatenate(([0], np.searchsorted(ordered, (book[1:] + book[:-1]) / 2), [len(ordered)]))
        counts = np.diff(bounds)
        means = np.where(counts > 0, np.diff(sums[bounds]) / np.maximum(counts, 1), book)
        if np.allclose(means, book, rtol=0, atol=1e-9 * float(np.abs(book).max())):
            break
        book = means
    return np.sort(book)


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    owner, _, attribute = name.rpartition(".")
    return network.get_submodule(owner), attribute
