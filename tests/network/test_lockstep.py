"""Forwards that stop at the same layer until all of them have been there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgepack.network.channels.lockstep import Forward, stopping


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
