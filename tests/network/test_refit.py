"""The layers that are left make up for removed channels by a least-squares fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.core.types import TensorSpec
from edgepack.network.channels.narrowing import Limits, Narrowing
from edgepack.network.channels.refit import _columns, refit, rows_left
from edgepack.network.model import Model


def _model(network: nn.Module, shape: tuple[int, ...]) -> Model:
    def build() -> nn.Module:
        return copy.deepcopy(network)

    return Model(
        network=build().eval(),
        build=build,
        inputs=(TensorSpec(name="x", shape=(1, *shape)),),
        outputs=(TensorSpec(name="y", shape=(1, 3)),),
    )


def _with_a_double(seed: int = 0) -> Any:
    """A network whose hidden channel 5 is half of channel 2, so nothing is lost without it."""
    torch.manual_seed(seed)
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()  # fmt: skip
    with torch.no_grad():
        network[0].weight[5] = network[0].weight[2] / 2
        network[0].bias[5] = network[0].bias[2] / 2
    return network


def _without(
    network: nn.Module, layer: str, channel: int, samples: torch.Tensor
) -> tuple[Narrowing, nn.Module, list[str]]:
    work = Narrowing(_model(network, (3, 8, 8)), (samples,), ignore=())
    before = work.model.network
    group = next(group for group in work.groups if group.name == layer)
    scores = {group.name: torch.ones(group.channels).numpy().astype(float)}
    scores[group.name][channel] = 0.0
    one_less = work.cost("parameters") - work.price(group, "parameters")
    gone = work.choose(
        scores, at_most=one_less, measure="parameters", scope="model", limits=Limits(keep_min=0.1, round_to=1)
    )
    work.remove(gone)
    return work, before, refit(work.model.network, before, rows_left(before, gone), [(samples,)])


def test_a_channel_that_follows_from_another_is_made_up_for() -> None:
    network = _with_a_double()
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(128, 3, 8, 8, generator=generator)
    work, before, fitted = _without(network, "0", 5, samples)
    assert fitted[0] == "2"  # what comes before the channel has nothing to make up for
    fresh = torch.randn(16, 3, 8, 8, generator=generator)
    with torch.no_grad():
        wanted, found = before(fresh), work.model.network(fresh)
        bare: Any = copy.deepcopy(work.model.network)
        bare[2].load_state_dict(
            {
                "weight": network[2].weight[:, [0, 1, 2, 3, 4, 6, 7]],
                "bias": network[2].bias,
            }
        )
        error, bare_error = float((found - wanted).abs().max()), float((bare(fresh) - wanted).abs().max())
        outputs = work.model.network.state_dict()["0.weight"].shape[0]
    assert outputs == 7
    assert error < 0.02 * bare_error


def test_outputs_that_went_away_are_not_wanted() -> None:
    network = _with_a_double()
    samples = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    work = Narrowing(_model(network, (3, 8, 8)), (samples,), ignore=())
    group = next(group for group in work.groups if group.name == "0")
    gone = [(group, torch.tensor([1, 4]).numpy())]
    rows = rows_left(work.model.network, gone)
    assert rows["0"].tolist() == [0, 2, 3, 5, 6, 7]
    assert rows["2"].tolist() == list(range(6))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.Conv2d(4, 5, (3, 5), padding="same"),
        nn.Conv2d(4, 5, 3, dilation=2, padding="valid"),
        nn.Conv2d(4, 5, 1),
        nn.Conv2d(4, 5, 1, stride=2),
    ],
)  # fmt: skip
def test_columns_are_what_a_convolution_multiplies(layer: nn.Conv2d) -> None:
    images = torch.randn(2, 4, 9, 10, generator=torch.Generator().manual_seed(3))
    assert layer.bias is not None
    with torch.no_grad():
        wanted = layer(images).flatten(2).transpose(1, 2)
        found = _columns(layer, images) @ layer.weight.flatten(1).T + layer.bias
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_grouped_and_transposed_convolutions_stay_as_they_are() -> None:
    torch.manual_seed(4)
    network: Any = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 3, 2)).eval()
    samples = torch.randn(4, 3, 8, 8)
    before: Any = copy.deepcopy(network)
    with torch.no_grad():
        network[0].weight.mul_(0.9)
    rows = {name: torch.arange(layer.weight.shape[0]) for name, layer in network.named_children()}
    assert refit(network, before, rows, [(samples,)]) == ["0"]
    assert torch.equal(network[1].weight, before[1].weight)
    assert torch.equal(network[2].weight, before[2].weight)


class _PadsItself(nn.Conv2d):
    """As ported TensorFlow networks do: `padding` says 0, and forward pads."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(images, (0, 1, 0, 1)))


def test_a_layer_that_computes_something_else_is_left_alone() -> None:
    torch.manual_seed(5)
    network: Any = nn.Sequential(_PadsItself(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    before: Any = copy.deepcopy(network)
    with torch.no_grad():
        network[0].weight.mul_(0.9)
    rows = {name: torch.arange(4) for name in ("0", "2")}
    assert refit(network, before, rows, [(torch.randn(32, 3, 8, 8),)]) == ["2"]
    assert torch.equal(network[0].weight, before[0].weight * 0.9)


def test_weights_stay_where_a_fit_would_only_learn_its_samples_by_heart() -> None:
    torch.manual_seed(6)
    network: Any = nn.Sequential(nn.Linear(64, 2)).eval()
    before: Any = nn.Sequential(nn.Linear(64, 2)).eval()
    before[0].register_forward_hook(lambda _layer, _inputs, output: torch.randn_like(output))  # nothing to learn
    weight = network[0].weight.clone()
    assert refit(network, before, {"0": torch.arange(2)}, [(torch.randn(32, 64),)]) == []
    assert torch.equal(network[0].weight, weight)


def test_a_layer_of_very_many_inputs_stays_as_it_is() -> None:
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(5_000, 4), nn.Linear(4, 3)).eval()  # with its bias, one column too many
    network = copy.deepcopy(before)
    with torch.no_grad():
        network[0].weight.mul_(0.9)
    rows = {name: torch.arange(layer.weight.shape[0]) for name, layer in network.named_children()}
    assert "0" not in refit(network, before, rows, [(torch.randn(32, 5_000),)])
