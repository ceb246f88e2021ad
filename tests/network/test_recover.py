"""What a network wins back without training: a fit or new statistics, whichever comes nearer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepack.core.types import Samples, TensorSpec
from edgepack.network.channels.norms import measure_anew
from edgepack.network.channels.recover import distance, recover
from edgepack.network.model import Model


def _network() -> Any:
    torch.manual_seed(0)
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()  # fmt: skip
    for norm in (network[1], network[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return network


def _model(network: nn.Module) -> Model:
    return Model(
        network=network, build=_network,
        inputs=(TensorSpec(name="x", shape=(1, 3, 8, 8)),), outputs=(TensorSpec(name="y", shape=(1, 4)),),
    )  # fmt: skip


def _samples(count: int) -> Samples:
    return Samples(inputs={"x": np.random.default_rng(count).normal(size=(count, 3, 8, 8)).astype(np.float32)})


def _batches(count: int) -> list[tuple[torch.Tensor, ...]]:
    return [(torch.from_numpy(batch.inputs["x"]),) for batch in _samples(count).batches(16)]


def test_a_fit_keeps_the_statistics_that_the_network_had() -> None:
    before = _network()
    hurt: Any = copy.deepcopy(before)
    with torch.no_grad():
        hurt[3].weight += 0.1 * torch.randn_like(hurt[3].weight)
    rows = {"0": torch.arange(8), "3": torch.arange(6), "8": torch.arange(4)}

    found = recover(_model(hurt), before, rows, _batches(96), _samples(20))

    assert "3" in found.fitted
    assert found.distance_fitted < 0.1 * found.distance_measured
    assert torch.equal(hurt[4].running_mean, before[4].running_mean)
    assert torch.equal(hurt[4].running_var, before[4].running_var)


def test_new_statistics_are_kept_where_no_layer_can_be_fitted() -> None:
    before = _network()
    measure_anew(before, _batches(96))
    hurt: Any = copy.deepcopy(before)
    hurt[1].running_mean += 5.0
    wrong = hurt[1].running_mean.clone()
    weights = {name: value.clone() for name, value in hurt.named_parameters()}

    found = recover(_model(hurt), before, {}, _batches(96), _samples(20))

    assert found.fitted == ()
    assert found.distance_measured < found.distance_fitted
    assert not torch.equal(hurt[1].running_mean, wrong)
    assert all(torch.equal(value, weights[name]) for name, value in hurt.named_parameters())


def test_outputs_that_are_no_numbers_are_as_far_as_can_be() -> None:
    network = _network()
    broken: Any = copy.deepcopy(network)
    with torch.no_grad():
        broken[8].weight.fill_(float("nan"))
    assert distance(_model(network), broken, network, _samples(20)) == np.inf


def test_one_output_of_one_sample_has_a_distance() -> None:
    network: Any = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).eval()
    assert distance(_model(network), network, network, _samples(1)) == 0


def test_a_last_batch_of_one_sample_has_no_statistics() -> None:
    torch.manual_seed(0)
    network: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    many = torch.randn(32, 3)
    measure_anew(network, [(many,), (torch.randn(1, 3),)])
    torch.testing.assert_close(network[1].running_mean, network[0](many).mean(0).detach())
    measured = network[1].running_mean.clone()
    measure_anew(network, [])
    assert torch.equal(network[1].running_mean, measured)


def test_a_network_of_less_confidence_is_not_far_away() -> None:
    network = _network()
    unsure: Any = copy.deepcopy(network)
    with torch.no_grad():
        unsure[8].weight /= 2
        unsure[8].bias /= 2
    samples, model = _samples(20), _model(network)

    assert distance(model, network, network, samples) == 0
    assert distance(model, unsure, network, samples) < 1e-6  # at a temperature of 0.5 it is the same
    unsure[8].weight.data = unsure[8].weight.data.flip(0)
    assert distance(model, unsure, network, samples) > 1e-2
