"""Which channels hang together, and what moving and removing them does to the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.core.errors import RecipeError
from edgepack.network.channels.groups import ChannelGroup, channel_groups, named_layers
from edgepack.network.channels.state import moved, without


class Everything(nn.Module):
    """A concatenation, a residual sum, depthwise, transposed and grouped convolutions, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))
        self.b = nn.Conv2d(1, 3, 3, padding=1)
        self.depthwise = nn.Conv2d(7, 7, 3, padding=1, groups=7)
        self.back = nn.Conv2d(7, 7, 1)
        self.up = nn.ConvTranspose2d(7, 6, 2, stride=2)
        self.last = nn.Conv2d(6, 5, 1)
        self.grouped = nn.Conv2d(5, 10, 1, groups=5)
        self.hidden = nn.Linear(10 * 16, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = x + self.back(self.depthwise(x))
        x = functional.max_pool2d(self.up(x), 2)
        x = self.grouped(self.last(x))
        return self.out(functional.relu(self.hidden(x.flatten(1))))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Everything().eval()
    with torch.no_grad():
        network.a[1].running_mean.normal_()  # type: ignore[union-attr, operator]
        network.a[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
        network.a[2].weight.uniform_(0.1, 0.5)  # type: ignore[operator, union-attr]
    return network


def groups_of(network: nn.Module) -> dict[str, ChannelGroup]:
    return {group.name: group for group in channel_groups(network, (torch.zeros(1, 1, 4, 4),))}


def test_what_a_residual_sum_and_a_concatenation_tie_together_is_one_group(network: nn.Module) -> None:
    group = groups_of(network)["back"]

    assert set(group.layers) == {"a.0", "a.1", "a.2", "b", "depthwise", "back", "up"}
    assert [members.tolist() for members in group.classes] == [[0, 1, 2, 3], [4, 5, 6]]
    assert group.obstacle == ""


def test_outputs_are_obstacles(network: nn.Module) -> None:
    obstacles = {name: group.obstacle for name, group in groups_of(network).items() if group.obstacle}

    assert obstacles == {"out": "out makes an output of the model"}


def test_a_flattened_channel_has_a_place_for_each_pixel() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 16, 2)).eval()

    (read,) = (one for one in groups_of(network)["0"].slices if not one.makes)

    assert (read.tensor, read.axis) == ("2.weight", 1)
    assert read.places.tolist() == [list(range(16 * channel, 16 * channel + 16)) for channel in range(3)]


def test_moved_channels_leave_the_function_as_it_is(network: nn.Module) -> None:
    x = torch.randn(2, 1, 4, 4)
    wanted = network(x)
    rng = np.random.default_rng(0)
    state = network.state_dict()

    for group in groups_of(network).values():
        if not group.obstacle:
            order = np.arange(group.channels)
            for members in group.classes:
                order[members] = rng.permutation(members)
            state = moved(state, group, order)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, state[name])}
    network.load_state_dict(state)

    assert len(changed) > 10
    torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-5)


def test_channels_are_removed_from_every_tensor_that_has_them(network: nn.Module) -> None:
    groups = groups_of(network)

    state = without(network.state_dict(), [(groups["back"], np.array([1, 5])), (groups["hidden"], np.array([0, 2, 4]))])

    assert {name: tuple(state[name].shape) for name in ("a.0.weight", "a.1.running_var", "a.2.weight", "b.bias")} == {
        "a.0.weight": (3, 1, 3, 3), "a.1.running_var": (3,), "a.2.weight": (3,), "b.bias": (2,)
    }  # fmt: skip
    assert state["back.weight"].shape == (5, 5, 1, 1) and state["depthwise.weight"].shape == (5, 1, 3, 3)
    assert state["up.weight"].shape[:2] == (5, 6) and state["hidden.weight"].shape == (3, 160)
    assert state["out.weight"].shape == (3, 3)
    assert torch.equal(state["b.weight"], network.state_dict()["b.weight"][[0, 2]])


def test_a_network_that_cannot_be_followed_has_no_groups() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x.detach(), self.weight.detach())

    assert channel_groups(Loose().eval(), (torch.zeros(1, 3),)) == ()


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_name(network: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"here: the model has no layer 'hiden' \(did you mean 'hidden'\?\)"):
        named_layers(network, ["out", "hiden"], where="here")
