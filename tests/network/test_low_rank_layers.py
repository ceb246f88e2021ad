"""Layers as products: their values, their ranks, what they cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.network.channels.work import macs_of, uses_of
from edgepack.network.low_rank.layers import factored, kind_of, with_factors
from edgepack.network.low_rank.spectra import energy_within, positions_of, spectrum_of


class Quiet(nn.Conv2d):
    """A convolution with a name of its own."""


class Scaled(nn.Conv2d):
    """A convolution that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


LAYERS: list[tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = [
    (lambda: nn.Linear(12, 7), (7,), (2, 12)),
    (lambda: nn.Linear(7, 12, bias=False), (7,), (2, 5, 7)),
    (lambda: nn.Conv2d(6, 9, 1, stride=2), (6,), (2, 6, 5, 5)),
    (lambda: nn.Conv2d(6, 9, 3, stride=2, padding=1, bias=False), (6, 9), (2, 6, 7, 7)),
    (lambda: nn.Conv2d(6, 9, 3, padding="same", dilation=2), (6, 0), (2, 6, 7, 7)),
    (lambda: nn.Conv2d(6, 9, (1, 3), padding=(0, 1), padding_mode="reflect"), (0, 9), (2, 6, 7, 7)),
    (lambda: nn.Conv1d(6, 9, 5), (6, 9), (2, 6, 11)),
]


@pytest.mark.parametrize(("make", "ranks", "shape"), LAYERS)
def test_with_all_ranks_the_factors_compute_what_the_layer_does(
    make: Callable[[], nn.Module], ranks: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer, x = make(), torch.randn(shape)

    parts = factored(layer, ranks)

    assert len(parts) == (2 if len(ranks) == 1 else 1 + sum(rank > 0 for rank in ranks))
    torch.testing.assert_close(parts(x), layer(x), rtol=1e-4, atol=1e-5)


def test_the_error_of_an_svd_is_the_energy_that_is_left_out() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 10, bias=False)
    spectrum = spectrum_of("x", layer, made=1, read=1)

    first, last = factored(layer, (4,))
    product = (last.weight @ first.weight).detach()  # type: ignore[operator]

    assert torch.linalg.matrix_rank(product) == 4
    lost = float(((layer.weight.detach() - product) ** 2).sum() / (layer.weight.detach() ** 2).sum())
    assert lost == pytest.approx(1 - spectrum.energies[0][3], rel=1e-4)


def test_a_kernel_of_low_rank_is_found_again_without_loss() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,rst,is->oit", torch.randn(24, 5), torch.randn(5, 3, 9), torch.randn(16, 3)).reshape(24, 16, 3, 3))  # fmt: skip
    x = torch.randn(2, 16, 6, 6)

    ranks = spectrum_of("x", layer, made=16, read=36).ranks_for(0.99999999, "parameters")

    assert ranks == (3, 5)
    torch.testing.assert_close(factored(layer, ranks)(x), layer(x), rtol=1e-3, atol=1e-3)


def test_the_cheapest_form_leaves_a_side_with_few_channels_whole() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 32, 5)
    with torch.no_grad():
        layer.weight.copy_((torch.randn(32, 2) @ torch.randn(2, 25)).reshape(32, 1, 5, 5))

    assert spectrum_of("x", layer, made=1, read=1).ranks_for(0.9999, "parameters") == (0, 2)


def test_factors_that_would_not_be_smaller_are_no_choice() -> None:
    torch.manual_seed(0)
    spectrum = spectrum_of("x", nn.Linear(10, 10), made=1, read=1)

    assert spectrum.ranks_for(0.999, "macs") is None  # more than 5 of 10 ranks
    assert spectrum.ranks_for(0.1, "macs") is not None


def test_ranks_are_multiples_where_the_layer_has_as_many() -> None:
    torch.manual_seed(0)
    spectrum = spectrum_of("x", nn.Linear(64, 64), made=1, read=1)

    found = spectrum.ranks_for(0.3, "macs", round_to=8)

    assert found is not None and found[0] % 8 == 0
    assert spectrum_of("x", nn.Linear(300, 3), made=1, read=1).ranks_for(0.3, "macs", round_to=8) is None


@pytest.mark.parametrize(("name", "ranks"), [("0", (3, 4)), ("0", (0, 4)), ("0", (3, 0)), ("2", (2,))])
def test_costs_are_those_of_the_layers_themselves(name: str, ranks: tuple[int, ...]) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(6, 9, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(9 * 16, 5))

    network, small, example = make(), with_factors(make, {name: ranks})(), (torch.zeros(1, 6, 8, 8),)
    made, read = positions_of(network, example)[name]
    spectrum = spectrum_of(name, network.get_submodule(name), made=made, read=read)

    saved = macs_of(network.state_dict(), uses_of(network, example)) - macs_of(
        small.state_dict(), uses_of(small, example)
    )

    assert saved == spectrum.cost(None, "macs") - spectrum.cost(ranks, "macs")
    weights = [value for key, value in small.get_submodule(name).state_dict().items() if "weight" in key]
    assert sum(value.numel() for value in weights) == spectrum.cost(ranks, "parameters")


def test_a_budget_gives_all_layers_the_same_energy() -> None:
    torch.manual_seed(0)
    spectra = [spectrum_of(str(width), nn.Linear(width, 40), made=1, read=1) for width in (60, 200)]
    whole = sum(one.cost(None, "macs") for one in spectra)

    energy = energy_within(spectra, 0.4 * whole, "macs")

    assert energy is not None
    spent = sum(one.cost(one.ranks_for(energy, "macs"), "macs") for one in spectra)
    assert 0.36 * whole < spent <= 0.4 * whole
    assert energy_within(spectra, 10, "macs") is None


def test_only_layers_that_compute_what_their_kind_does_are_taken() -> None:
    assert kind_of(nn.Linear(2, 2)) is nn.Linear
    assert kind_of(Quiet(2, 2, 1)) is nn.Conv2d
    assert kind_of(Scaled(2, 2, 1)) is None
    assert kind_of(nn.ConvTranspose2d(2, 2, 1)) is None


def test_a_builder_with_factors_draws_no_random_numbers_for_them() -> None:
    build = with_factors(lambda: nn.Sequential(nn.Linear(4, 4)), {"0": (2,)})
    torch.manual_seed(0)
    nn.Linear(4, 4)
    wanted = torch.rand(1)

    torch.manual_seed(0)
    network = build()

    assert torch.rand(1) == wanted
    assert all(not np.any(value.numpy()) for value in network.state_dict().values())
