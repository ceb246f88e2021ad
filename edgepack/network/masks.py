"""Masks that keep the zeros of weights through whatever comes after."""

from __future__ import annotations

from dataclasses import replace

import nncf
import torch
from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.network.grid import Op, baked_state
from edgepack.network.model import Model, is_hooked


def without_hooks(model: Model, ops: dict[str, Op]) -> Model:
    """The model as a plain float network; what a mask removed is zero."""
    network = model.build().eval()
    network.load_state_dict(baked_state(model.network, ops) if is_hooked(model.network) else model.network.state_dict())
    return replace(model, network=network)


def keep_zeros(network: nn.Module, example: tuple[torch.Tensor, ...], names: list[str]) -> nn.Module:
    """A network whose weights, by parameter name, have masks where they are zero now. Raises UnsupportedError where NNCF can't place one."""
    masked = nncf.prune(
        network,
        mode=nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL,
        ratio=0.0,
        examples_inputs=example if len(example) > 1 else example[0],
    )
    hooks = get_pruned_modules(masked)
    for name in names:
        if name not in hooks:
            raise UnsupportedError(f"{name}: NNCF can't put a mask on this weight; name it in the step's 'ignore'")
    for name, hook in hooks.items():
        kept = masked.get_parameter(name) != 0
        hook.binary_mask.copy_(kept if name in names else torch.ones_like(kept))
    return masked  # type: ignore[no-any-return]
