"""Sensitivity: one weight rounded at a time, everything else as it is, and the network whole again afterwards."""

from __future__ import annotations

import nncf
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.core.errors import DataError, RecipeError
from edgepack.core.types import Samples, Silent
from edgepack.network.model import Model
from edgepack.network.sensitivity import LayerSensitivity, round_weight, weight_sensitivity
from network.test_grid import model_of

SHAPE = (1, 6, 6)


class WithDeadBranch(nn.Module):
    """A network whose last layer doesn't hear one of its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.heard, self.unheard = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.last = nn.Linear(8, 3)
        with torch.no_grad():
            self.last.weight[:, 4:] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([functional.relu(self.heard(x)), functional.relu(self.unheard(x))], 1)
        scores: torch.Tensor = self.last(both.mean((2, 3)))
        return scores


def samples(count: int = 40) -> Samples:
    return Samples(inputs={"x": np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)})


def sensitivities(model: Model, *, bits: int = 4, names: list[str] | None = None) -> dict[str, LayerSensitivity]:
    found = weight_sensitivity(model, samples(), bits=bits, names=names, progress=Silent())
    return {one.weight: one for one in found}


def test_the_weights_are_the_same_afterwards_to_the_last_bit() -> None:
    model = model_of(WithDeadBranch, SHAPE)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}

    sensitivities(model, bits=2)

    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_weight_that_nobody_hears_has_no_distance_and_yet_noise() -> None:
    found = sensitivities(model_of(WithDeadBranch, SHAPE))

    assert list(found) == ["heard.weight", "unheard.weight", "last.weight"]
    assert found["unheard.weight"].output_distance == 0
    assert found["heard.weight"].output_distance > 0 < found["last.weight"].output_distance
    assert 0 < found["unheard.weight"].sqnr_db < 60
    assert found["last.weight"].parameters == 24


def test_more_bits_mean_less_distance_and_six_db_each() -> None:
    model = model_of(WithDeadBranch, SHAPE)

    steps = [sensitivities(model, bits=bits, names=["last.weight"])["last.weight"] for bits in (2, 4, 6, 8)]

    distances = [one.output_distance for one in steps]
    assert distances == sorted(distances, reverse=True) and distances[-1] < distances[0] / 100
    assert steps[3].sqnr_db - steps[1].sqnr_db == pytest.approx(24, abs=6)


def test_a_distance_is_the_divergence_of_class_scores() -> None:
    model, given = model_of(WithDeadBranch, SHAPE), samples()

    found = sensitivities(model, bits=3, names=["last.weight"])["last.weight"].output_distance

    other = model.build()
    with torch.no_grad():
        other.get_parameter("last.weight").copy_(
            round_weight(model.network.get_parameter("last.weight"), bits=3, axis=0)
        )
        x = torch.from_numpy(given.inputs["x"])
        wanted, ours = model.network(x).log_softmax(1), other(x).log_softmax(1)
    assert found == pytest.approx(float((wanted.exp() * (wanted - ours)).sum(1).mean()), rel=1e-3)


def test_rounding_keeps_zeros_and_the_largest_weight_of_each_channel() -> None:
    weight = torch.tensor([[0.0, 0.4, -1.0], [3.0, 0.0, 1.4]])

    rounded = round_weight(weight, bits=3, axis=0)  # codes -3 … 3

    assert torch.allclose(rounded, torch.tensor([[0.0, 1 / 3, -1.0], [3.0, 0.0, 1.0]]), atol=1e-6)


class Transposed(nn.Module):
    """A transposed convolution whose second output channel is a hundred times the first."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(1, 2, 3)
        with torch.no_grad():
            self.up.weight[:, 1] *= 100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.up(x)
        return result


def test_a_transposed_convolution_is_rounded_along_its_output_channels() -> None:
    model = model_of(Transposed, SHAPE)
    weight = model.network.get_parameter("up.weight").detach()

    found = sensitivities(model)["up.weight"]

    noise = weight - round_weight(weight, bits=4, axis=1)
    assert found.sqnr_db == pytest.approx(
        float(10 * torch.log10(weight.square().sum() / noise.square().sum())), abs=0.01
    )
    assert 0 < found.output_distance < 0.1  # no class scores: an error relative to the outputs' variance


def test_weights_that_a_mask_removed_stay_removed() -> None:
    model = model_of(WithDeadBranch, SHAPE)
    masked = nncf.prune(
        model.network, mode=nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, ratio=0.5, examples_inputs=model.example()[0]
    )
    pruned = Model(network=masked, build=model.build, inputs=model.inputs, outputs=model.outputs)

    found = sensitivities(pruned, bits=8, names=["heard.weight"])["heard.weight"]

    # Against the masked network: the mask itself is no distance, nor are its zeros noise.
    assert found.output_distance < 1e-3
    assert found.sqnr_db > 35


@pytest.mark.parametrize(("name", "hint"), [("last.wieght", "did you mean 'last.weight'"), ("last.bias", "no weight")])
def test_a_name_that_no_weight_has_is_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        sensitivities(model_of(WithDeadBranch, SHAPE), names=[name])


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_that_no_grid_has_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=str(bits)):
        sensitivities(model_of(WithDeadBranch, SHAPE), bits=bits)


def test_outputs_without_any_spread_say_that_more_samples_are_needed() -> None:
    class OneValue(WithDeadBranch):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[:, :1]

    with pytest.raises(DataError, match="more samples"):
        weight_sensitivity(model_of(OneValue, SHAPE), samples(1), bits=4, progress=Silent())
