"""A compressed network's values in the original's shapes: the same function, whatever the steps did to its structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import seeded_network

from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.explain.loss_path import contributions_along
from edgepack.explain.original_form import in_original_form, layer_tensors
from edgepack.methods.low_rank import LowRank
from edgepack.methods.protocol import Context, Method
from edgepack.methods.prune_channels import PruneChannels
from edgepack.methods.sort_channels import SortChannels
from edgepack.network.model import Model, as_tensors, float_network
from edgepack.network.sensitivity import Reference
from edgepack.network.training import Training
from edgepack.targets import load_target

ONE_STEP = Training(steps=1, batch_size=8, holdout=0)
STEPS: dict[str, tuple[Method, ...]] = {
    "pruned": (PruneChannels(sparsity=0.3, rounds=2, train=ONE_STEP),),
    "factored": (LowRank(energy=0.7),),
    "sorted": (SortChannels(),),
    "all": (PruneChannels(sparsity=0.3, rounds=1, train=ONE_STEP), LowRank(energy=0.8), SortChannels()),
}


def untrained() -> torch.nn.Module:
    """Another draw of the same architecture, as a factory gives."""
    network: torch.nn.Module = seeded_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5).add_(0.1)
    return network


def original() -> Model:
    return Model(
        network=seeded_network(),
        build=untrained,
        inputs=(TensorSpec(name="image", shape=(1, 1, 8, 8)),),
        outputs=(TensorSpec(name="output", shape=(1, 4)),),
    )


def samples(count: int = 33) -> Samples:
    return Samples(inputs={"image": np.random.default_rng(1).normal(size=(count, 1, 8, 8)).astype(np.float32)})


def compressed(model: Model, steps: tuple[Method, ...], folder: Path) -> Model:
    current = replace(model, network=float_network(model))
    for number, step in enumerate(steps):
        context = Context(
            original=model, train=samples(), calibration=samples(), constraints=load_target("arm64").quantization,
            workspace=folder / str(number), key="key", seed=0, progress=Silent(),
        )  # fmt: skip
        context.workspace.mkdir()
        current = step.apply(current, context)
    return current


@pytest.mark.parametrize("name", STEPS)
def test_the_original_computes_with_the_values_what_the_compressed_network_computes(name: str, tmp_path: Path) -> None:
    model = original()
    inputs = as_tensors(model, samples(6))
    small = compressed(model, STEPS[name], tmp_path)

    state, why_not = in_original_form(model, small, inputs)

    assert why_not is None
    network = model.build()
    network.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(network.eval()(*inputs), small.network.eval()(*inputs), atol=1e-4)
        assert not torch.allclose(network(*inputs), model.network(*inputs), atol=1e-3) or name == "sorted"


def test_another_network_is_refused_with_the_reason() -> None:
    model = original()
    other = original()
    other.network.get_submodule("stem").add_module("more", torch.nn.Conv2d(8, 8, 1))

    state, why_not = in_original_form(model, other, model.example())

    assert state == {} and why_not is not None and "other layers" in why_not


def test_a_layer_has_its_weight_its_bias_and_the_batch_norm_behind_it() -> None:
    parts = layer_tensors(original())

    assert set(parts["stem.0.weight"]) == {
        "stem.0.weight",
        *(f"stem.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    }
    assert set(parts["classifier.weight"]) == {"classifier.weight", "classifier.bias"}


def moved(model: Model, *names: str, by: float = 0.05) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = {name: value.clone() for name, value in model.network.state_dict().items()}
    for name in names:
        state[name] += by * torch.randn_like(state[name])
    return state


@pytest.mark.parametrize(
    "names", [("stem.0.weight", "down.1.running_mean"), ("down.1.running_var",), ("down.0.weight",)]
)
def test_the_parts_add_up_to_the_distance_and_what_did_not_change_has_none(names: tuple[str, ...]) -> None:
    """Completeness of integrated gradients: what is not summed up would be blamed on nobody."""
    model, given = original(), samples()
    state = moved(model, *names)
    other = model.build()
    other.load_state_dict(state)
    wanted = Reference(model, model.network, given).distance(other)

    found = contributions_along(model, state, given, Silent())

    assert set(found) == set(names)
    assert wanted > 1e-6
    assert sum(found.values()) == pytest.approx(wanted, rel=0.02)
    assert all(part > 0 for part in found.values())


def test_a_change_that_undoes_another_has_a_negative_part() -> None:
    model = original()
    state = moved(model)
    state["classifier.weight"] *= 1.5
    state["classifier.bias"] *= 1.5
    state["down.1.weight"] *= 1 / 1.4
    state["down.1.bias"] *= 1 / 1.4

    found = contributions_along(model, state, samples(), Silent())

    assert min(found.values()) < 0 < max(found.values())


def test_nothing_changed_has_no_parts() -> None:
    model = original()

    assert contributions_along(model, moved(model), samples(), Silent()) == {}
