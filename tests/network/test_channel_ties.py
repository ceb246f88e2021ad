"""Grouped convolutions tie channels together: what goes from one group goes from each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from exporters.zoo import Grouped, block
from torch import nn
from torch.nn import functional

from edgepack.core.types import TensorSpec
from edgepack.network.channels.groups import ChannelGroup, channel_groups
from edgepack.network.channels.narrowing import Narrowing
from edgepack.network.channels.state import moved
from edgepack.network.channels.ties import Part, tied
from edgepack.network.model import Model


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = kind().eval()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None and norm.running_var is not None
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 2)
                norm.bias.normal_(0, 0.2)
    return network


def groups_of(kind: type[nn.Module]) -> dict[str, ChannelGroup]:
    return {group.name: group for group in channel_groups(seeded(kind), (torch.zeros(1, 3, 8, 8),))}


def narrowing_of(kind: type[nn.Module], network: nn.Module | None = None) -> Narrowing:
    build: Callable[[], nn.Module] = lambda: seeded(kind)  # noqa: E731
    model = Model(
        network=network or build(),
        build=build,
        inputs=(TensorSpec(name="input", shape=(1, 3, 8, 8)),),
        outputs=(TensorSpec(name="output", shape=(1, 10)),),
    )
    torch.manual_seed(1)
    return Narrowing(model, (torch.randn(2, 3, 8, 8),), ignore=())


class Transposed(nn.Module):
    """Transposed convolutions with groups: one with its own group for each input channel, one with two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.own = block(3, 8), nn.ConvTranspose2d(8, 16, 2, 2, groups=8)
        self.two, self.linear = nn.ConvTranspose2d(16, 12, 2, 2, groups=2), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.two(self.own(self.stem(x))).mean((2, 3)))


class SideBySide(nn.Module):
    """Two convolutions with other numbers of groups read what two layers make."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.linear = block(3, 8), block(3, 8), nn.Linear(12, 4)
        self.two, self.four = block(16, 12, groups=2), block(16, 12, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        return self.linear((self.two(x) + self.four(x)).mean((2, 3)))


class Shuffled(nn.Module):
    """A unit of ShuffleNet: two pointwise convolutions in groups, and between them channels change places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = block(3, 12), block(12, 12, kernel=1, groups=3), nn.Conv2d(12, 12, 1)
        self.depthwise, self.linear = block(12, 12, groups=12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x := self.stem(x))
        batch, channels, height, width = y.shape
        y = y.view(batch, 3, channels // 3, height, width).transpose(1, 2).reshape(y.shape)
        return self.linear(functional.relu(x + self.second(self.depthwise(y))).mean((2, 3)))


class Unfit(nn.Module):
    """What can't be told apart: groups of one output, groups that read the input, groups whose channels all go together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.several = nn.Conv2d(3, 9, 1), nn.Conv2d(12, 6, 1, groups=3)
        self.b, self.three, self.two = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1, groups=3), nn.Conv2d(6, 8, 1, groups=2)
        self.one, self.linear = nn.Conv2d(8, 4, 1, groups=4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.several(torch.cat([self.a(x), x], 1)))
        return self.linear(self.one(self.two(self.three(x))).mean((2, 3)))


def test_a_channel_of_a_grouped_convolution_has_a_place_in_each_group() -> None:
    groups = groups_of(Grouped)

    (group,) = (one for one in groups.values() if "grouped.0" in one.makers)
    places = {(one.tensor, one.axis): one.places.tolist() for one in group.slices}
    assert group.channels == 4 and group.tied == 4
    assert places["grouped.0.weight", 0] == places["grouped.1.running_var", 0] == places["back.weight", 1]
    assert places["back.weight", 1] == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]
    assert all("stem.0" not in one.makers or one.channels == 4 for one in groups.values())


def test_a_depthwise_convolution_with_a_multiplier_ties_what_it_makes_to_what_it_reads() -> None:
    class Multiplied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.multiplied, self.linear = block(3, 4), block(4, 12, groups=4), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.multiplied(self.stem(x)).mean((2, 3)))

    (group,) = (one for one in groups_of(Multiplied).values() if not one.obstacle)

    places = {(one.tensor, one.axis): one.places.tolist() for one in group.slices}
    assert places["stem.0.weight", 0] == [[0], [1], [2], [3]]
    assert places["multiplied.0.weight", 0] == places["linear.weight", 1] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]  # fmt: skip


def test_tied_channels_that_change_places_leave_the_function_as_it_is() -> None:
    x, rng = torch.randn(2, 3, 8, 8), np.random.default_rng(0)
    for kind in (Grouped, Transposed, SideBySide):
        network = seeded(kind)
        wanted, state = network(x), network.state_dict()
        free = [group for group in groups_of(kind).values() if not group.obstacle]
        for group in free:
            order = np.arange(group.channels)
            for members in group.classes:
                order[members] = rng.permutation(members)
            state = moved(state, group, order)
        changed = [name for name, value in network.state_dict().items() if not torch.equal(value, state[name])]
        assert len(free) >= 2 and len(changed) > 5
        network.load_state_dict(state)

        torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-5)


def test_tied_channels_that_do_nothing_can_go_without_a_trace() -> None:
    x = torch.randn(2, 3, 8, 8)
    for kind in (Grouped, Transposed, SideBySide):
        network = seeded(kind)
        gone = {group.name: np.array([1, group.channels - 1]) for group in narrowing_of(kind).groups}
        state = network.state_dict()
        for group in channel_groups(network, (x[:1],)):
            for one in group.slices if group.name in gone else ():
                if one.makes and not one.tensor.endswith("running_var"):
                    places = one.places[np.isin(one.channels, gone[group.name])].reshape(-1)
                    state[one.tensor].index_fill_(one.axis, torch.from_numpy(places), 0)
        wanted, work = network(x), narrowing_of(kind, network)

        work.remove([(group, gone[group.name]) for group in work.groups])

        assert work.left_alone == {"linear": "linear makes an output of the model"}
        torch.testing.assert_close(work.model.build().eval()(x).shape, wanted.shape)
        torch.testing.assert_close(work.model.network(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_layer_keeps_its_groups_or_loses_whole_ones_and_says_so() -> None:
    work = narrowing_of(Transposed)

    for _ in range(2):
        work.remove([(group, np.array([0])) for group in work.groups])

    own, two = work.model.network.get_submodule("own"), work.model.network.get_submodule("two")
    assert isinstance(own, nn.ConvTranspose2d) and isinstance(two, nn.ConvTranspose2d)
    tied_by_two = {name: len(left) for name, left in work.kept.items()}
    assert (own.groups, own.in_channels, own.out_channels) == (4, 4, 8)  # own's last half is tied to the first by `two`
    assert (two.groups, two.in_channels, two.out_channels) == (2, 8, 8)
    assert sorted(tied_by_two.values()) == [2, 4]


def test_what_different_numbers_of_groups_tie_goes_together() -> None:
    (group,) = (one for one in groups_of(SideBySide).values() if "a.0" in one.makers)

    assert group.makers[:1] == ("b.0",) and group.channels == 4
    places = {(one.tensor, one.axis): one.places.tolist() for one in group.slices}
    assert places["a.0.weight", 0] == places["b.0.weight", 0] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert places["two.0.weight", 1] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert places["four.0.weight", 1] == [[0], [1], [2], [3]]


def test_channels_that_are_shuffled_after_groups_are_left_alone_and_named() -> None:
    work = narrowing_of(Shuffled)

    reasons = {name: because for name, because in work.left_alone.items() if name != "linear"}
    assert reasons == {"depthwise.0": "its channels are not interchangeable: moving them changes the outputs"}
    assert [len(left) for left in work.kept.values()] == [4]  # those of the residual sum, in threes


def test_groups_that_leave_no_choice_are_obstacles() -> None:
    assert {name: group.obstacle for name, group in groups_of(Unfit).items()} == {
        "linear": "linear makes an output of the model",
        "one": "one makes one channel of several, in groups",
        "three": "all its channels go together, for the groups of three and two",
        "b": "",
        "several": "",
        "a": "several has groups, and reads channels that no layer makes",
    }


def test_groups_and_channels_keep_the_order_of_their_first_members() -> None:
    """Four groups of channels: two layers tie the last to the first, channels in descending order, and the third to the second."""
    wide, pair = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(4, 4, 1, groups=2)

    def reads(layer: str, module: nn.Module, *positions: int) -> Part:
        channels = tuple(range(len(positions)))
        return Part(layer=layer, module=module, makes=False, channels=channels, positions=positions)

    found = tied(
        [
            (4, [reads("wide", wide, 3, 2, 1, 0)]),
            (2, [reads("pair", pair, 1, 0)]),
            (2, [reads("pair", pair, 2, 3)]),
            (4, [reads("wide", wide, 4, 5, 6, 7)]),
            (3, []),
        ]
    )

    assert [one.members for one in found] == [(0, 3), (1, 2), (4,)]
    assert [one.layers for one in found] == [("wide",), ("pair",), ()]
    assert [one.count for one in found] == [4, 2, 3]
    numbers = {member: own.tolist() for one in found for member, own in one.numbers.items()}
    assert numbers == {0: [0, 1, 2, 3], 3: [3, 2, 1, 0], 1: [0, 1], 2: [1, 0], 4: [0, 1, 2]}
    assert tied([]) == ()
