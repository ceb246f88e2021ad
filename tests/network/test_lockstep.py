"""Forwards that stop at the same layer until all of them have been there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from edgepack.network.channels.lockstep import Forward, stopping, widest
from edgepack.network.channels.refit import refit


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)).eval()


def test_a_layer_that_changes_while_all_forwards_wait_there_is_used_by_all_of_them() -> None:
    model, batches = network(), [torch.randn(2, 4), torch.randn(3, 4)]
    found = []
    with torch.no_grad(), stopping(model, ["2", "4"], gives="inputs"):
        forwards = [Forward(model, (batch,)) for batch in batches]
        for forward, batch in zip(forwards, batches, strict=True):
            assert torch.equal(forward.at("2"), model[1](model[0](batch)))  # type: ignore[arg-type]
        model[2].weight.zero_()
        found = [forward.at("4") for forward in forwards]
        for forward in forwards:
            forward.end()
    for values, batch in zip(found, batches, strict=True):
        assert values is not None
        assert torch.equal(values, model[2].bias.relu().expand(len(batch), 3))


def test_outputs_can_be_what_it_stops_with() -> None:
    model, batch = network(), torch.randn(2, 4)
    with torch.no_grad(), stopping(model, ["2"], gives="outputs"):
        forward = Forward(model, (batch,))
        found = forward.at("2")
        assert forward.at("4") is None  # it ran to the end
    assert found is not None and torch.equal(found, model[:3](batch))
    assert not model[2]._forward_hooks


def test_a_forward_that_comes_to_another_layer_says_so() -> None:
    model = network()
    with torch.no_grad(), stopping(model, ["0", "2"], gives="inputs"):
        forward = Forward(model, (torch.randn(2, 4),))
        assert forward.at("2") is None
        forward.end()


def test_what_a_forward_raises_arrives_where_it_was_asked_to_go_on() -> None:
    model = network()
    with stopping(model, ["2"], gives="inputs"), pytest.raises(RuntimeError, match="mat1 and mat2"):
        Forward(model, (torch.randn(2, 7),)).at("2")
    assert not model[2]._forward_pre_hooks


class _Modes(nn.Module):
    """A layer in the middle that is called as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.how = how

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = self.first(values).relu()
        if self.how == "gradients":
            with torch.enable_grad():
                values = self.middle(values)
        elif self.how == "inference mode":
            with torch.inference_mode():
                values = self.middle(values)
        elif self.how == "autocast":
            with torch.autocast("cpu"):
                values = self.middle(values).float()
        elif self.how == "by name":
            values = self.middle(input=values)
        else:
            values = checkpoint(self.middle, values, use_reentrant=False)
        found: torch.Tensor = self.last(values.relu())
        return found


@pytest.mark.parametrize(
    ("how", "fitted"),
    [
        ("gradients", ["first", "middle", "last"]),
        ("checkpoint", ["first", "middle", "last"]),
        ("inference mode", ["first", "last"]),
        ("autocast", ["first", "last"]),
        ("by name", ["first", "last"]),
    ],
)
def test_a_forward_that_changes_the_threads_modes_changes_them_for_itself_alone(how: str, fitted: list[str]) -> None:
    torch.manual_seed(0)
    before = _Modes(how).eval()
    hurt = copy.deepcopy(before)
    with torch.no_grad():
        for parameter in hurt.parameters():
            parameter.mul_(0.9)
    rows = {"first": torch.arange(8), "middle": torch.arange(8), "last": torch.arange(3)}

    assert refit(hurt, before, rows, [(torch.randn(32, 6),) for _ in range(3)]) == fitted
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")


class _Catches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.left = 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            try:
                values = layer(values)
            except BaseException:  # noqa: BLE001  # as some forwards do
                self.left += 1
        raise ValueError("nothing left")


def test_a_forward_that_catches_everything_ends_all_the_same() -> None:
    model = _Catches()
    with torch.no_grad(), stopping(model, ["layers.0", "layers.1", "layers.2"], gives="inputs"):
        forward = Forward(model, (torch.randn(2, 4),))
        assert forward.at("layers.0") is not None
        forward.end()
        assert model.left == 3
        assert forward.at("layers.1") is None


def test_control_c_while_others_wait_leaves_no_hook_and_no_mode() -> None:
    class Stopped(nn.ReLU):
        def forward(self, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # the name is ruff's wish
            if len(values) == 3:
                raise KeyboardInterrupt
            return super().forward(values)

    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(4, 5), Stopped(), nn.Linear(5, 2)).eval()
    rows = {"0": torch.arange(5), "2": torch.arange(2)}
    with pytest.raises(KeyboardInterrupt):
        refit(copy.deepcopy(before), before, rows, [(torch.randn(size, 4),) for size in (8, 3, 8)])
    assert torch.is_grad_enabled()
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in before)


def test_the_widest_layer_says_what_a_sample_needs() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(64, 5))
    assert widest(model, (torch.randn(6, 3, 8, 8),)) == 16 * 8 * 8
