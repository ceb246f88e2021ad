"""What a training makes small: the distance to the teacher's outputs, to its features, and to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.network.model import flat_outputs
from edgepack.network.training import Training


class Features:
    """What some modules of a network gave in the last forward, kept by hooks; `close` takes these away.

    Raises RecipeError, which begins with `where`, the network's name in it, for a name that no module has.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], *, where: str) -> None:
        self._names, self._where = names, where
        self._found: dict[str, list[torch.Tensor]] = {}
        refuse_unknown_modules(network, names, where=where)
        modules = [network.get_submodule(name) for name in names]
        self._handles = [
            module.register_forward_hook(self._keep(name)) for name, module in zip(names, modules, strict=True)
        ]

    def take(self) -> list[torch.Tensor]:
        """Tensors (N, values), one for each name: all that the module gave for a sample, over all its calls. They are forgotten here."""
        found, self._found = self._found, {}
        for name in self._names:
            if name not in found:
                raise RecipeError(f"{self._where} never calls its module '{name}'; name one that forward calls")
        return [torch.cat([tensor.reshape(len(tensor), -1) for tensor in found[name]], dim=1) for name in self._names]

    def close(self) -> None:
        """The network is as it was."""
        for handle in self._handles:
            handle.remove()

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._found.setdefault(name, []).extend(flat_outputs(output))

        return hook


def refuse_unknown_modules(network: nn.Module, names: Sequence[str], *, where: str) -> None:
    """Raises RecipeError for a name that no module of the network has."""
    known = [name for name, _ in network.named_modules() if name and "__nncf" not in name]
    for name in names:
        if name not in known:
            raise RecipeError(f"{where} has no module '{name}'{did_you_mean(name, known)}")


def likeness_loss(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """How differently two networks see which samples of a batch resemble each other: 0 … 4, the mean over the samples.

    `ours` and `theirs`, (N, values), may have other numbers of values: each becomes its samples' products with each other, (N, N), with rows of
    length 1, and the rows' squared distance counts (similarity-preserving distillation, Tung and Mori 2019, arXiv:1907.09682; there divided by N
    once more).
    """
    rows = [functional.normalize(features @ features.T, dim=1) for features in (ours.float(), theirs.float())]
    return (rows[0] - rows[1]).square().sum(dim=1).mean()


def values_loss(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The mean squared error of `ours`, (N, values), over the variance of `theirs`, of the same shape: 0, and 1 where nothing but the mean is known.

    The hints of Romero et al. 2015 (arXiv:1412.6550), without a layer between: what they call the regressor is the identity.
    """
    return functional.mse_loss(ours, theirs) / theirs.var().clamp_min(1e-12)


def output_distance(ours: torch.Tensor, theirs: torch.Tensor, options: Training) -> torch.Tensor:
    """Kullback-Leibler divergence of class scores (N, classes) at the options' temperature, times its square (Hinton et al. 2015); relative mean
    squared error of anything else."""
    temperature = options.temperature
    if options.loss == "mse" or ours.dim() != 2 or ours.shape[1] < 2:
        return functional.mse_loss(ours, theirs) / theirs.var().clamp_min(1e-12)
    return functional.kl_div(
        functional.log_softmax(ours / temperature, dim=1),
        functional.log_softmax(theirs / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    ) * (temperature**2)
