"""A program of torch.export as a network: equal in numbers, and in the form that a user would have written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exporters.zoo import ZOO, make
from torch import nn
from torch.nn import functional

from edgepack.core.errors import SourceError
from edgepack.network.grid import trace
from edgepack.network.imported import module_of
from edgepack.network.imported.batch import with_any_batch
from edgepack.network.model import flat_outputs

EXACT = 1e-5


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 8, 3, padding=1), nn.Embedding(20, 8)
        self.left, self.right = nn.Linear(8, 5), nn.Linear(8, 2)

    def forward(self, image: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = functional.relu(self.conv(image)).mean((2, 3)) + self.table(tokens).mean(1)
        return {"left": self.left(seen), "right": self.right(seen).sigmoid()}


class Transformer(nn.Module):
    """Token ids, a class token, attention whose batch is the second dimension, layer norm, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(50, 16), nn.Parameter(torch.randn(1, 7, 16))
        self.first = nn.Parameter(torch.randn(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.classes = nn.Linear(16, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.classes(self.layer(x)[:, 0])


class ChannelsLast(nn.Module):
    """What Keras makes of a residual block: NHWC throughout, weights as (height, width, in, out), batch norm in pieces, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Parameter(torch.randn(3, 3, 3, 8) * 0.3)
        self.depth = nn.Parameter(torch.randn(3, 3, 8, 1) * 0.3)
        self.point = nn.Parameter(torch.randn(1, 1, 16, 8) * 0.3)
        self.bias = nn.Parameter(torch.randn(8) * 0.1)
        for name in ("mean", "variance", "gamma", "beta"):
            self.register_parameter(name, nn.Parameter(torch.rand(8) + 0.5))
        self.kernel, self.offset = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(5))

    def conv(self, x: torch.Tensor, weight: torch.Tensor, **options: Any) -> torch.Tensor:
        y = functional.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1).contiguous(), **options)
        return y.permute(0, 2, 3, 1)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        factor = torch.rsqrt(self.variance + 1e-3).mul_(self.gamma).reshape(1, 1, 1, 8)
        return x.subtract(self.mean.reshape(1, 1, 1, 8)).mul_(factor).add_(self.beta)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(functional.pad(x, (0, 0, 0, 1, 0, 1)), self.stem, stride=2)))
        y = functional.hardswish(self.norm(self.conv(x, self.depth.transpose(2, 3), padding=1, groups=8)))
        y = self.conv(torch.cat([x, y], -1), self.point) + self.bias
        x = torch.add(x.to(torch.float32), y)
        x = functional.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        scale = torch.sigmoid(x.mean((1, 2), keepdim=True))
        return torch.matmul((functional.pad(x, (0, 0, 1, 1)) * scale).mean((1, 2)), self.kernel) + self.offset


class NormFirst(nn.Module):
    """A scale and a shift of each channel that no layer can take in."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(8, 1, 1) + 0.5), nn.Parameter(torch.randn(8, 1, 1))
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x)) * self.scale + self.shift
        return self.second(functional.relu(x)).flatten(1)


class Core(nn.Module):
    """Clamps, splits, slices, a transposed convolution, resizing, pow and where."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 8, 3, padding="same"), nn.ConvTranspose2d(4, 4, 2, 2, groups=2)
        self.slope = nn.PReLU(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.conv(x).clamp(0, 6).chunk(2, 1)
        left = functional.interpolate(self.up(left)[:, :, ::2, 1:], size=(16, 16), mode="nearest")
        right = functional.interpolate(self.slope(right.clamp(-1, 2)), scale_factor=2, mode="bilinear")
        both = torch.where(left > 0.5, left.pow(2), right).transpose(1, 3)
        return torch.stack([both, both.abs().sqrt()]).amax(0).flatten(1)


def images(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(batch, 3, 8, 8),)


def last(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(batch, 8, 8, 3),)


def tokens(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randint(0, 50, (batch, 6)),)


def both(batch: int) -> tuple[torch.Tensor, ...]:
    return (*images(batch), torch.randint(0, 20, (batch, 6)))


def of_zoo(name: str) -> tuple[Callable[[], nn.Module], Callable[[int], tuple[torch.Tensor, ...]]]:
    return lambda: make(name), lambda batch: (torch.randn(batch, *ZOO[name][1]),)


class Pixels(nn.Module):
    """NHWC pixels scaled before anything else, squeeze-excite, a hard sigmoid in pieces: Keras' MobileNet-V3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 1, bias=False)
        self.slope = nn.Parameter(torch.randn(8))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.pad(image * torch.tensor(1 / 127.5) - 1.0, (0, 0, 0, 1, 0, 1)).permute(0, 3, 1, 2)
        x = self.stem(x).permute(0, 2, 3, 1)
        gate = self.squeeze(x.mean((1, 2)).reshape(-1, 1, 1, 8).permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + self.slope
        gate = functional.relu6(gate + 3.0) * (1 / 6)
        return (x * gate).mean((1, 2))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[torch.Tensor, ...]]]] = {
    **{name: of_zoo(name) for name in ZOO},
    "two inputs": (TwoInputs, both),
    "transformer": (Transformer, tokens),
    "channels last": (ChannelsLast, last),
    "norm first": (NormFirst, images),
    "pixels": (Pixels, last),
    "core operations": (Core, images),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def network_of(name: str) -> tuple[nn.Module, Callable[[int], tuple[torch.Tensor, ...]]]:
    torch.manual_seed(0)
    build, sample = NETWORKS[name]
    return build().eval(), sample


def program_of(network: nn.Module, sample: tuple[torch.Tensor, ...], *, any_batch: bool) -> Any:
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in sample) if any_batch else None
    return torch.export.export(network, sample, dynamic_shapes=dynamic)


def imported(name: str) -> tuple[nn.Module, nn.Module, Callable[[int], tuple[torch.Tensor, ...]]]:
    """The network, what it is after a round through torch.export, and samples for both."""
    network, sample = network_of(name)
    return network, module_of(program_of(network, sample(2), any_batch=True)), sample


def difference(left: nn.Module, right: nn.Module, sample: tuple[torch.Tensor, ...]) -> float:
    with torch.no_grad():
        pairs = zip(flat_outputs(left(*sample)), flat_outputs(right(*sample)), strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)


@each_network
def test_a_program_for_any_batch_is_the_same_network_in_numbers(name: str) -> None:
    network, again, sample = imported(name)

    assert difference(network, again, sample(1)) <= EXACT
    assert difference(network, again, sample(3)) <= EXACT


@each_network
def test_a_program_for_one_sample_takes_several(name: str) -> None:
    network, sample = network_of(name)
    program = program_of(network, sample(1), any_batch=False)

    again = module_of(with_any_batch(program, [tuple(x.shape[1:]) for x in sample(1)], where="model.pt2"))

    assert difference(network, again, sample(1)) <= EXACT
    assert difference(network, again, sample(3)) <= EXACT


@each_network
def test_a_program_that_was_decomposed_is_put_together_again(name: str) -> None:
    network, sample = network_of(name)
    program = program_of(network, sample(2), any_batch=True).run_decompositions()

    again = module_of(program)

    assert difference(network, again, sample(3)) <= EXACT
    layers = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    assert sum(isinstance(m, layers) for m in again.modules()) >= sum(isinstance(m, layers) for m in network.modules())


@each_network
def test_a_network_is_deterministic_copied_and_restored_by_its_state(name: str) -> None:
    _, again, sample = imported(name)
    _, other, _ = imported(name)
    copied = copy.deepcopy(again)

    assert list(other.state_dict()) == list(again.state_dict())
    other.load_state_dict({key: value * 0.5 for key, value in again.state_dict().items()})
    other.load_state_dict(copied.state_dict())
    assert difference(again, other, sample(2)) == 0
    assert difference(again, copied, sample(2)) == 0
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in again.parameters()}


@each_network
def test_every_parameter_can_be_trained(name: str) -> None:
    _, again, sample = imported(name)

    sum(output.square().sum() for output in flat_outputs(again(*sample(2)))).backward()  # type: ignore[union-attr]

    without = [name for name, parameter in again.named_parameters() if parameter.grad is None]
    assert without == []


@each_network
def test_nncf_knows_every_operation(name: str) -> None:
    _, again, sample = imported(name)

    ops = trace(again, sample(1))

    assert not [op.kind for op in ops.values() if "." in op.kind or op.kind.startswith("aten")]
    weighted = [op for op in ops.values() if op.kind in ("conv1d", "conv2d", "conv_transpose2d", "linear")]
    assert weighted
    assert all(op.weight is not None for op in weighted)


def test_the_operations_are_named_after_their_weights() -> None:
    _, again, sample = imported("hard swish and squeeze-excite")

    names = list(trace(again, sample(1)))

    assert "stem_0/conv2d/0" in names
    assert "excite_expand/conv2d/0" in names


def test_permutes_cancel_and_batch_norm_goes_into_the_layers() -> None:
    _, again, sample = imported("channels last")

    kinds = [op.kind for op in trace(again, sample(1)).values()]

    assert kinds.count("permute") == 1  # from the user's NHWC input to the first convolution
    assert not {"sub", "rsqrt", "matmul", "batch_norm", "transpose"} & set(kinds)
    assert kinds.count("add") == 1  # the residual
    assert {type(module).__name__ for module in again.children()} - {"HookStorage"} == {"Conv2d", "Linear"}


def test_a_scale_and_a_shift_that_no_layer_takes_in_become_a_batch_norm() -> None:
    _, again, sample = imported("norm first")

    kinds = [op.kind for op in trace(again, sample(1)).values()]

    assert "batch_norm" in kinds
    assert not {"mul", "add"} & set(kinds)


def test_pixels_are_turned_before_they_are_scaled_in_one_operator() -> None:
    _, again, sample = imported("pixels")

    kinds = [op.kind for op in trace(again, sample(1)).values()]

    assert kinds[1:5] == ["permute", "batch_norm", "pad", "conv2d"]
    assert kinds.count("permute") == 1
    assert kinds.count("mul") == 1, "the gate"
    assert "hardsigmoid" in kinds
    assert not {"add", "sub", "relu6"} & set(kinds)


def test_clamps_have_the_names_that_targets_know() -> None:
    _, again, sample = imported("core operations")

    kinds = {op.kind for op in trace(again, sample(1)).values()}

    assert {"relu6", "hardtanh", "prelu", "interpolate"} <= kinds


def test_a_program_in_training_mode_is_refused() -> None:
    torch.manual_seed(0)
    norm = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    dropout = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()

    with pytest.raises(SourceError, match=r"evaluation mode|model\.eval\(\)"):
        module_of(torch.export.export(norm, (torch.zeros(2, 3, 4, 4),)))
    with pytest.raises(SourceError, match=r"training mode .*model\.eval\(\)"):
        module_of(torch.export.export(dropout, (torch.zeros(2, 4),)))


def test_a_program_for_a_fixed_number_of_samples_is_refused() -> None:
    program = torch.export.export(nn.Linear(4, 2), (torch.zeros(5, 4),))

    with pytest.raises(SourceError, match=r"model\.pt2: made for exactly 5 samples"):
        with_any_batch(program, [(4,)], where="model.pt2")


def test_pooled_channels_are_flattened_whatever_their_number() -> None:
    """A reshape to a fixed size would keep channels from ever going away."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.classes = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classes(functional.avg_pool2d(self.conv(x), 4).reshape(-1, 8))  # type: ignore[no-any-return]

    x = torch.randn(2, 3, 4, 4)
    network = Pooled().eval()
    made: Any = module_of(program_of(network, (x,), any_batch=True))
    assert torch.allclose(made(x), network(x), atol=EXACT)

    made.conv = nn.Conv2d(3, 5, 1)
    made.dense = made.classes = nn.Linear(5, 4)

    assert made(x).shape == (2, 4)
